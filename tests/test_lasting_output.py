"""A full disk, a closed descriptor, a reader that has gone: a run goes on without its log, a lost result is told.

/dev/full refuses every byte, as a full disk does.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import Runner, distbp_of_shell, mpirun_command, train_on, wait_for_its_end, write_data

from distbp.ranks.lasting_output import LastingOutput
from distbp.settings.merged import merge

TRAIN = "train d.h5 --hidden 6 --epochs 2 --out run"
FULL = "the disk is full; make room on it"


def shell(runner: Runner, command: str) -> Any:
    """A command of bash; the exit code of a pipe is that of the first part that fails."""
    return runner.run("bash", "-c", f"set -o pipefail; {command}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "said"),
    [
        (">/dev/full", FULL),
        ("| true", "who read it has gone"),
        ("2>/dev/full", ""),
        (">&- 2>&- <&-", ""),
    ],
)
def test_a_run_goes_on_without_its_log(runner: Runner, redirected: str, said: str) -> None:
    write_data(runner.directory / "d.h5")
    done = shell(runner, f"{distbp_of_shell()} {TRAIN} {redirected}")
    assert done.returncode == 0, done.stderr
    note = f"distbp: note: stdout cannot be written: {said}; the work goes on without it\n"
    assert done.stderr == (note if said else "")
    assert len((runner.directory / "run" / "metrics.csv").read_text().splitlines()) == 1 + 2
    assert not (runner.directory / "run" / "run.lock").exists()


@pytest.mark.slow
def test_a_result_that_is_lost_is_an_error(runner: Runner) -> None:
    """A command that has written its file is done all the same."""
    write_data(runner.directory / "d.h5")
    runner.distbp(*TRAIN.split())
    for command, redirected, code, words in (
        ("evaluate run", ">/dev/full", 1, f"distbp: error: stdout cannot be written: {FULL}\n"),
        ("inspect d.h5", ">&-", 1, "distbp: error: stdout cannot be written: it is closed\n"),
        ("--version", ">/dev/full 2>&1", 1, ""),
        ("gradcheck", "| true", 128 + 13, ""),  # as by a signal SIGPIPE, which ends what does not take care of it
        (f"{TRAIN}", ">/dev/full", 1, "already holds a run"),
        ("predict run --out p.csv", ">/dev/full", 0, "distbp: note: stdout cannot be written"),
    ):
        done = shell(runner, f"{distbp_of_shell()} {command} {redirected}")
        assert (done.returncode, done.stdout) == (code, ""), command
        assert words in done.stderr
        assert done.stderr.count("\n") <= 1 + (command == TRAIN), done.stderr
    assert (runner.directory / "p.csv").exists()


@pytest.mark.mpi
@pytest.mark.parametrize("redirected", [">/dev/full 2>&1", "| head -n 1"])
def test_ranks(runner: Runner, redirected: str) -> None:
    """MPICH's mpirun ends all ranks where it cannot write; what is there is good, and goes on to its end."""
    write_data(runner.directory / "d.h5")
    command = " ".join((*mpirun_command(), "-n", "2", distbp_of_shell()))
    first = shell(runner, f"{command} {TRAIN} {redirected}")
    assert "Traceback" not in first.stdout + first.stderr
    run = runner.directory / "run"
    wait_for_its_end(run)
    given = {"data": [str(runner.directory / "d.h5")], "hidden": [6], "epochs": 3, "out": str(run)}
    again = train_on(2, merge(given, "test"), resume_with=given, or_begin=True)
    assert again.state.progress.epoch == 3
    assert len((runner.directory / "run" / "metrics.csv").read_text().splitlines()) == 1 + 3


def test_a_disk_that_has_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log goes on; what did not fit is missing."""
    said: list[str] = []
    full, write = [True], os.write

    def write_or_not(descriptor: int, data: Any) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[:3])  # in several parts

    with open(tmp_path / "log", "wb") as file:
        output = LastingOutput(file.fileno(), lambda error: said.append(str(error)))
        monkeypatch.setattr(os, "write", write_or_not)
        assert output.write(b"epoch 1\n") == 8
        full[0] = False
        assert output.write(b"epoch 2\n") == 8
    assert (tmp_path / "log").read_bytes() == b"epoch 2\n"
    assert said == ["[Errno 28] No space left on device"]


def test_no_file_gets_the_number_of_a_closed_stream(runner: Runner) -> None:
    """Else what libraries in C print would be written into it."""
    script = (
        "import os; from distbp.ranks.lasting_output import last; last(True, print); f = open('new', 'w'); "
        'f.write(f\'{f.fileno() > 2} {os.readlink("/proc/self/fd/1")} {os.readlink("/proc/self/fd/2")}\')'
    )
    (runner.directory / "script.py").write_text(script)
    shell(runner, f"PYTHONPATH={Path(__file__).parent.parent} {sys.executable} script.py >&- 2>&- <&-")
    assert (runner.directory / "new").read_text() == "True /dev/null /dev/null"


def test_a_reader_that_is_slow(runner: Runner) -> None:
    """A pipe that does not block, which who started the process has made so, is waited for."""
    script = (
        "import os, sys; os.set_blocking(1, False); from distbp.ranks.lasting_output import last; last(False, print); "
        "print('x' * 300_000)"
    )
    (runner.directory / "script.py").write_text(script)
    command = f"PYTHONPATH={Path(__file__).parent.parent} {sys.executable} script.py | (sleep 0.3; wc -c)"
    assert shell(runner, command).stdout.strip() == "300001"
