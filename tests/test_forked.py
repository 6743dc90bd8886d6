"""A command in a fork ends as one that a user has started, and a fork that hangs is ended."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked import Forks
from runs import BIN, Runner, environment, forks

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
SHOWS = (
    "import os, sys; print(os.getcwd(), os.environ['A_NAME'], 'B_NAME' in os.environ); print('wrong', file=sys.stderr)"
)
HANGS = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("inspect", "data.h5"),
        ("train", "data.h5", "--loss", "hinge"),
        ("train", "none.h5"),
        ("train", "data.h5", "--dry-run", "--hidden", "4", "--memory", "1", "--threads", "1"),
    ],
)
def test_it_is_as_started_by_a_user(runner: Runner, data_file: str, words: tuple[str, ...]) -> None:
    done, afresh = runner.distbp(*words), runner.afresh(*words)
    assert done.args == afresh.args == [str(BIN / "distbp"), *words]
    assert (done.returncode, done.stderr) == (afresh.returncode, afresh.stderr)
    if "--dry-run" not in words:  # which tells how much memory there is
        assert done.stdout == afresh.stdout
    assert len(done.stdout.splitlines()) == len(afresh.stdout.splitlines())


def test_where_it_runs_and_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    done = forks().run_apart(["python", SHOWS], tmp_path / "run", {"A_NAME": "a"}, 20)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'run'} a False\n", "wrong\n")
    assert forks().run_apart(["python", KILLED], tmp_path, {}, 20).returncode == -9
    assert forks().run_apart(["python", "raise SystemExit(3)"], tmp_path, {}, 20).returncode == 3


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as over:
        forks().run_apart(["python", HANGS], tmp_path, environment(), 1)
    child, end = Path(f"/proc/{int(over.value.output)}/stat"), time.monotonic() + 20
    with suppress(FileNotFoundError, ProcessLookupError):
        while child.read_text().rpartition(")")[2].split()[0] not in "ZX":
            assert time.monotonic() < end
            time.sleep(0.05)
    assert forks().run_apart(["python", "print(1)"], tmp_path, {}, 20).stdout == "1\n"  # and the next one is served


def test_one_whose_test_is_ended_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("forked.select.select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        forks().run_apart(["python", HANGS], tmp_path, environment(), 60)
    monkeypatch.undo()
    assert forks().run_apart(["python", "print(1)"], tmp_path, {}, 20).stdout == "1\n"


def test_both_numbers_may_come_at_once() -> None:
    """That of a process that has ended before anybody has read its number."""
    server, (reader, writer) = object.__new__(Forks), os.pipe()
    with open(reader, encoding="ascii") as stdout, open(writer, "wb", buffering=0) as said:
        server._server, server._said = SimpleNamespace(stdout=stdout), b""  # type: ignore[assignment]
        said.write(b"12\n0\n")
        assert (server._code(), server._code(limit=5)) == (12, 0)
        with pytest.raises(TimeoutError):
            server._code(limit=0)


def test_what_is_asked_for_when_libraries_are_loaded_needs_a_new_process() -> None:
    assert forks().may_have(environment(COLUMNS="40", HOME="/x", SLURM_JOB_ID="3"))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONPROFILEIMPORTTIME", "LD_PRELOAD", "HDF5_DEBUG"):
        assert not forks().may_have(environment(**{name: "1"}))
