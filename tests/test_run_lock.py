"""The lock of a run directory: one run at a time, and none that a killed run can leave behind for ever."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from jobs import in_one_job
from runs import BIN, LIMIT, Runner, StopAt, check_error, configuration, environment, train_on

from distbp.errors import RunError, Stopped
from distbp.settings.config import Config
from distbp.training import run_lock
from distbp.training.run_lock import Owner, RunLock, this_process

LONG = ("--epochs", "1000000", "--checkpoint-every", "1", "--hidden", "4", "--batch-size", "2")
HOLD = """
import sys
from pathlib import Path
from distbp.errors import RunError
from distbp.training.run_lock import RunLock
sys.stdin.readline()
try:
    RunLock(Path(sys.argv[1])).acquire(lambda text: None)
    print("got it", flush=True)
    sys.stdin.readline()
except RunError as error:
    print(error, flush=True)
"""

FAR = """
import socket, sys
from distbp.training import run_lock
socket.gethostname = lambda: "node7"
run_lock.SIGN_SECONDS = 0.2
"""


def put(directory: Path, owner: Owner) -> Path:
    path = directory / run_lock.NAME
    path.write_text(json.dumps({**asdict(owner), "token": "x"}))
    return path


def gone() -> Owner:
    """A process of this host that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return replace(this_process(), pid=child.pid)


def taken(directory: Path) -> list[str]:
    """What is said when the lock is taken."""
    notes: list[str] = []
    lock = RunLock(directory)
    lock.acquire(notes.append)
    assert json.loads((directory / run_lock.NAME).read_text())["pid"] == os.getpid()
    lock.release()
    assert os.listdir(directory) == []
    return notes


def refused(directory: Path, pulse: Callable[[], None] = lambda: None) -> str:
    before = (directory / run_lock.NAME).read_bytes()
    with pytest.raises(RunError) as caught:
        RunLock(directory).acquire(lambda text: None, pulse)
    assert (directory / run_lock.NAME).read_bytes() == before
    assert os.listdir(directory) == [run_lock.NAME]
    return str(caught.value)


def test_the_lock_is_there_only_while_it_is_held(tmp_path: Path) -> None:
    assert taken(tmp_path) == []


def test_two_runs_of_one_process(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire(lambda text: None)
    assert f"process {os.getpid()} on " in refused(tmp_path)
    lock.release()


@pytest.mark.parametrize(
    "change",
    [
        lambda owner: owner,
        lambda owner: replace(owner, pid=os.getpid()),  # ours, but of a process that started at another time
        lambda owner: replace(owner, pid=1, start="7"),
        lambda owner: replace(owner, pid=os.getppid(), boot="another"),
        lambda owner: replace(owner, pid=2**31 - 1),
        lambda owner: replace(owner, pid=2**80),
    ],
    ids=["gone", "our pid", "pid 1", "before a boot", "no such pid", "huge pid"],
)
def test_a_stale_lock_of_this_host_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Owner], Owner]
) -> None:
    here = replace(this_process(), machine="an identity")
    monkeypatch.setattr(run_lock, "this_process", lambda: here)
    owner = change(replace(gone(), start="12345", machine="an identity"))
    path = put(tmp_path, owner)
    assert taken(tmp_path) == [f"taking over {path}: process {owner.pid} on {owner.host} is gone"]


def test_hosts_of_one_name_without_an_identity_are_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another boot is then, maybe, that of another host: containers often have no machine-id."""
    monkeypatch.setattr(run_lock, "LOST_SECONDS", 0.4)
    monkeypatch.setattr(run_lock, "LOOK_SECONDS", 0.02)
    here = replace(this_process(), host="localhost", machine="")
    monkeypatch.setattr(run_lock, "this_process", lambda: here)
    path = put(tmp_path, replace(here, boot="another"))
    assert "its lock shows signs of life" in refused(tmp_path, lambda: os.utime(path))


def test_a_process_that_ended_and_was_not_waited_for_is_gone(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    put(tmp_path, replace(this_process(), pid=child.pid, start="12345"))
    assert taken(tmp_path)
    child.wait()


def test_a_living_process_is_respected(tmp_path: Path) -> None:
    path = put(tmp_path, this_process())
    said = refused(tmp_path)
    assert f"{tmp_path}: process {os.getpid()} on " in said
    assert f"kill -USR1 {os.getpid()}" in said
    path.unlink()


@pytest.mark.parametrize(
    "change",
    [
        {"host": "node7"},
        {"machine": "another of the same name"},
        {"processes": "pid:[1]"},
        {"host": "node7", "job": "42"},
        {"host": "node7", "boot": "x"},
    ],
    ids=str,
)
def test_what_cannot_be_seen_from_here_is_watched(
    tmp_path: Path, change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "LOST_SECONDS", 0.4)
    monkeypatch.setattr(run_lock, "LOOK_SECONDS", 0.02)
    owner = replace(gone(), **change)  # type: ignore[arg-type]
    path = put(tmp_path, owner)
    said = refused(tmp_path, lambda: os.utime(path))
    assert f"{tmp_path}: {owner.name} works in this directory; its lock shows signs of life" in said
    assert ("SLURM job 42" in said) == ("job" in change)
    assert taken(tmp_path) == [
        f"waiting   {owner.name} works in {tmp_path}, or was killed there: looking for a sign of life",
        f"taking over {path}: {owner.name} is gone",
    ]


def test_the_copy_of_a_lock_is_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is copied while it works: the process lives, and works elsewhere."""
    monkeypatch.setattr(run_lock, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(run_lock, "LOOK_SECONDS", 0.02)
    (tmp_path / "run").mkdir()
    lock = RunLock(tmp_path / "run")
    lock.acquire(print)
    assert "works in this directory" in refused(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    path = tmp_path / "copy" / run_lock.NAME
    assert "its lock shows signs of life" in refused(tmp_path / "copy", lambda: os.utime(path))
    waiting, taking = taken(tmp_path / "copy")
    assert waiting.startswith(f"waiting   process {os.getpid()} on ")
    assert f"works in {tmp_path / 'run'}, or was killed there" in waiting
    assert taking == f"taking over {path}: it is a copy of the lock of {tmp_path / 'run'}"
    lock.check()
    (tmp_path / "run").rename(tmp_path / "moved")  # that is the same directory
    assert "works in this directory" in refused(tmp_path / "moved")
    lock.release()


def test_the_token_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of the same number and time, as file systems give them again, is another's."""
    path, notes = put(tmp_path, gone()), []
    lock = RunLock(tmp_path)
    real, calls = lock._read, itertools.count()

    def read() -> tuple[str, tuple[int, int]]:
        text, seen = real()
        return text.replace("}", f', "token": "{next(calls)}"}}'), seen

    monkeypatch.setattr(lock, "_read", read)
    with pytest.raises(RunError, match="comes and goes"):
        lock.acquire(notes.append)
    assert path.exists()
    assert notes == []


def test_another_directory_in_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    lock = RunLock(tmp_path / "run")
    lock.acquire(print)
    lock.path.unlink()
    lock.check()  # nobody else has it
    (tmp_path / "run").rename(tmp_path / "moved")
    lock.check()  # who writes next says that it is gone
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="run: is another directory than the one in which this run works\nput that one"):
        lock.check()


def test_a_stop_ends_the_watching(tmp_path: Path) -> None:
    put(tmp_path, replace(gone(), host="node7"))

    def stop() -> None:
        raise Stopped("on request")

    with pytest.raises(Stopped):
        RunLock(tmp_path).acquire(lambda text: None, stop)
    assert os.listdir(tmp_path) == [run_lock.NAME]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["alive", "killed"])
def test_a_run_on_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(run_lock, "LOST_SECONDS", 3.0)
    far = HOLD.replace("import sys\n", FAR, 1)
    holder = subprocess.Popen(
        [sys.executable, "-c", far, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin
    assert holder.stdout
    try:
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "got it\n"
        if end == "alive":
            assert "on node7 works in this directory; its lock shows signs of life" in refused(tmp_path)
        else:
            holder.kill()
            holder.wait()
            assert taken(tmp_path)[1].endswith("on node7 is gone")
    finally:
        holder.kill()
        holder.communicate(timeout=LIMIT)


def test_a_requeued_slurm_job_takes_over_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, replace(gone(), host="node7", job="42"))

    def is_watched() -> bool:
        return "its lock shows signs of life" in refused(tmp_path, lambda: os.utime(path))

    monkeypatch.setenv("SLURM_JOB_ID", "43")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert is_watched()
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert is_watched()  # two steps of one job on two hosts
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert taken(tmp_path)[0].startswith(f"taking over {path}: process ")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[" * 4000, b"\xff" * 10, b'{"pid": "x"}', b"x" * 100_000],
    ids=["empty", "no names", "nested", "bytes", "no number", "long"],
)
def test_a_lock_that_names_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / run_lock.NAME).write_bytes(content)
    assert "does not say whose it is; if no run works in this directory, remove this file" in refused(tmp_path)


@pytest.mark.parametrize("field", ["host", "machine", "boot", "processes", "start", "job", "pid", "restarts"])
@pytest.mark.parametrize("value", [None, "a\x1b[2J", [1], -5])
def test_a_lock_with_an_odd_field(tmp_path: Path, field: str, value: object) -> None:
    (tmp_path / run_lock.NAME).write_text(json.dumps({**asdict(this_process()), field: value}))
    if (field, value) == ("restarts", -5):
        assert "works in this directory" in refused(tmp_path)
    else:
        assert "does not say whose it is" in refused(tmp_path)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    (tmp_path / run_lock.NAME).symlink_to("other")
    with pytest.raises(RunError, match="a symbolic link is there; remove it"):
        RunLock(tmp_path).acquire(lambda text: None)
    assert (tmp_path / "other").read_text() == "precious"


def test_a_file_system_without_hard_links_and_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unknown)
    monkeypatch.setattr(run_lock.fcntl, "flock", unknown)
    assert taken(tmp_path) == []
    put(tmp_path, this_process())
    refused(tmp_path)
    put(tmp_path, gone())
    assert len(taken(tmp_path)) == 1


def test_a_lost_answer_of_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def done_but_refused(*names: str) -> None:
        link(*names)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", done_but_refused)
    assert taken(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("stale", [False, True])
def test_of_many_takers_one_gets_it(tmp_path: Path, stale: bool) -> None:
    for _ in range(4):
        takers = [
            subprocess.Popen(
                [sys.executable, "-c", HOLD, str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            for _ in range(6)
        ]
        if stale:
            put(tmp_path, gone())
        for taker in takers:
            assert taker.stdin
            taker.stdin.write("\n")
            taker.stdin.flush()
        said = [taker.stdout.readline() for taker in takers if taker.stdout]
        assert said.count("got it\n") == 1, said
        assert sum(" works in this directory" in line for line in said) == 5, said
        for taker in takers:
            taker.kill()
            taker.communicate(timeout=LIMIT)
        (tmp_path / run_lock.NAME).unlink()
        assert [name for name in os.listdir(tmp_path) if not name.endswith(".tmp")] == []


def test_of_many_threads_one_gets_it(tmp_path: Path) -> None:
    """All of them take over one stale lock, again and again."""
    for _ in range(30):
        put(tmp_path, gone_owner)
        start, got = threading.Barrier(8), []

        def take(start: threading.Barrier = start, got: list[RunLock] = got) -> None:
            lock = RunLock(tmp_path)
            start.wait()
            try:
                lock.acquire(lambda text: None)
                got.append(lock)
            except RunError:
                pass

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].release()
        assert os.listdir(tmp_path) == []


gone_owner = replace(this_process(), pid=2**31 - 1)


def test_it_is_given_up_whatever_happens(data_file: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        train_on(1, configuration(data_file, run), **StopAt(2).words)
    assert not (run / run_lock.NAME).exists()
    with pytest.raises(RunError, match="already holds a run"):
        train_on(1, configuration(data_file, run))
    assert not (run / run_lock.NAME).exists()

    def broken(phase: str) -> None:
        assert (run / run_lock.NAME).exists()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_on(1, Config(out=str(run)), resume_with={}, beat=broken)
    assert not (run / run_lock.NAME).exists()


def test_a_run_that_lost_its_lock_leaves_the_files_alone(data_file: str, tmp_path: Path) -> None:
    """Somebody removed the lock, and another host began to work there."""
    run = tmp_path / "run"
    other = replace(this_process(), host="node7")

    def lose(phase: str) -> None:
        if phase.startswith("in epoch 1, step 1"):
            (run / run_lock.NAME).unlink()
            put(run, other)

    with pytest.raises(RunError, match=f"process {os.getpid()} on node7 has taken over this directory"):
        train_on(1, configuration(data_file, run), beat=lose)
    assert json.loads((run / run_lock.NAME).read_text())["host"] == "node7"
    assert [path.name for path in run.glob("*.h5")] == ["checkpoint-0000000000.h5"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("a link", r"run\.lock: cannot be read, .*: a symbolic link is there; remove it; then continue with --resume"),
        ("a directory", r"run\.lock: cannot be read, .*: a directory of that name is there; remove it"),
        ("no directory", "cannot be written: Not a directory; then continue with --resume"),
    ],
)
def test_a_run_that_cannot_see_its_lock_says_so(data_file: str, tmp_path: Path, harm: str, words: str) -> None:
    run = tmp_path / "run"

    def hide(phase: str) -> None:
        if phase.startswith("in epoch 1, step 1") and not (tmp_path / "moved").exists():
            run.rename(tmp_path / "moved")
            if harm == "no directory":
                run.touch()
                return
            run.mkdir()
            lock = run / run_lock.NAME
            lock.symlink_to("nowhere") if harm == "a link" else lock.mkdir()

    with pytest.raises(RunError, match=words):
        train_on(1, configuration(data_file, run), beat=hide)


@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.one_mpi)])
def test_a_second_run_is_refused_and_a_killed_one_succeeded(runner: Runner, data_file: str, ranks: int) -> None:
    run = runner.directory / "run"
    process = runner.fork(str(BIN / "distbp"), "train", data_file, *LONG, ranks=ranks)
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pid = json.loads((run / run_lock.NAME).read_text())["pid"]
    seconds = [("train", *arguments, "--epochs", "1", "--out", "run") for arguments in (["--resume"], [data_file])]
    for second in in_one_job(runner, ranks, *seconds):
        check_error(second, 1, f"run: process {pid} on ", "works in this directory", f"kill -USR1 {pid}")
    os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if ranks:
        time.sleep(0.2)
    runner.finish(process)
    assert (run / run_lock.NAME).exists()
    done = len((run / "metrics.csv").read_text().splitlines())
    again = runner.distbp("train", "--resume", "--epochs", str(done + 5), ranks=ranks)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(f"taking over run/run.lock: process {pid} on ") == 1
    assert not (run / run_lock.NAME).exists()


def test_of_two_that_want_it_the_second_is_told_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is watched, another run takes it over."""
    monkeypatch.setattr(run_lock, "LOOK_SECONDS", 0.01)
    path = put(tmp_path, replace(gone(), host="node7"))
    said = refused_by(tmp_path, lambda: put(tmp_path, this_process()))
    assert f"process {os.getpid()} on " in said
    path.unlink()


def refused_by(directory: Path, pulse: Callable[[], object]) -> str:
    with pytest.raises(RunError) as caught:
        RunLock(directory).acquire(lambda text: None, lambda: (pulse(), None)[1])
    return str(caught.value)


@pytest.mark.parametrize("ranks", [1, 3])
def test_all_ranks_beat_while_a_lock_is_watched(
    data_file: str, tmp_path: Path, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no watchdog thinks that they hang, and a stop asked of any rank is heard."""
    monkeypatch.setattr(run_lock, "LOST_SECONDS", 0.3)
    monkeypatch.setattr(run_lock, "LOOK_SECONDS", 0.02)
    config = configuration(data_file, tmp_path / "run", epochs=1)
    train_on(ranks, config)
    put(tmp_path / "run", replace(gone(), host="node7"))
    beats: dict[str, int] = {}

    def beat(phase: str) -> None:
        if phase == "waiting for run.lock":
            name = threading.current_thread().name
            beats[name] = beats.get(name, 0) + 1

    train_on(ranks, replace(config, epochs=2), resume_with={"epochs": 2}, beat=beat)
    assert len(beats) == ranks
    assert min(beats.values()) > 3
    assert max(beats.values()) - min(beats.values()) <= 1

    put(tmp_path / "run", replace(gone(), host="node7"))

    def stop() -> str:
        return "on request" * (threading.current_thread().name == f"rank {ranks - 1}" or ranks == 1)

    with pytest.raises(Stopped, match="while waiting for"):
        train_on(ranks, replace(config, epochs=3), resume_with={"epochs": 3}, why_stop=stop)
