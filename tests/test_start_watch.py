"""A rank that does not come to MPI, or not to its end, leaves no other rank waiting."""

from __future__ import annotations

import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runs import BIN, LIMIT, NoWaits, Runner, check_error, mpirun_command

from distbp.errors import UsageError
from distbp.ranks import way_out
from distbp.ranks.start_watch import turn, wait_seconds
from distbp.ranks.stop import StopRequest

TRAIN = (str(BIN / "distbp"), "train", "--epochs", "1", "--hidden", "6", "--out", "run")
WAIT = f"{LIMIT / 30:g}"  # seconds, in which the MPI library is loaded; more where the machine is busy
# A rank that waits in C, with Python's lock ("PyDLL") or without ("CDLL").
WAITING = """
import ctypes, os
from distbp.ranks import start_watch
os.environ.setdefault("PMIX_NAMESPACE", str(os.getpid()))  # a job of its own
start_watch.LET_GO_SECONDS = 0.5
watch = start_watch.StartWatch(0, 2, {seconds})
with watch, watch.listening():
    watch.waits(start_watch.INITIALIZING)
    print("waits", flush=True)
    ({wait})(ctypes.{library}(None))
print("goes on")
"""
FOR_EVER = "lambda c: [c.pthread_mutex_lock(b) for b in [ctypes.create_string_buffer(64)] * 2]"  # no signal ends it
A_SECOND = "lambda c: c.sleep(1)"
OTHERS = ("sleep 30", "true", "false", "/no/such/program")  # in the place of a rank

Started = dict[str, tuple[Runner, Any]]  # runners and processes, by name


@pytest.mark.parametrize(("text", "seconds"), [(None, 120.0), ("", 120.0), (" 600 ", 600.0), ("0.5", 0.5), ("0", 0.0)])
def test_how_long(text: str | None, seconds: float) -> None:
    assert wait_seconds({} if text is None else {"DISTBP_WAIT_SECONDS": text}) == seconds


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e300", "two minutes", "9" * 5000])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"DISTBP_WAIT_SECONDS=.{1,40}: expected seconds, 120 if it is not set"):
        wait_seconds({"DISTBP_WAIT_SECONDS": text})


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_a_rank_that_waits_in_c(runner: Runner, library: str) -> None:
    """Also with Python's lock, where no thread of Python runs."""
    result = runner.run(sys.executable, "-c", WAITING.format(library=library, seconds=0.5, wait=FOR_EVER), limit=20)
    check_error(result, 1, "rank 0 of 2 on ", " has waited 0.5 s in MPI_Init for ranks that have not come: ")
    assert "Thread" not in result.stderr
    assert result.stdout == "waits\n"


@pytest.mark.parametrize("seconds", [30, 0])
def test_a_start_that_is_only_slow(runner: Runner, seconds: int) -> None:
    result = runner.run(sys.executable, "-c", WAITING.format(library="PyDLL", seconds=seconds, wait=A_SECOND))
    assert (result.returncode, result.stdout, result.stderr) == (0, "waits\ngoes on\n", "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_a_rank_that_waits_in_c(runner: Runner, name: str) -> None:
    program = WAITING.format(library="PyDLL", seconds=0, wait=FOR_EVER)
    process = runner.start(sys.executable, "-c", f"import signal; signal.signal(signal.{name}, print)\n{program}")
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.Signals[name])
    result = runner.finish(process, 20)
    assert result.returncode == -signal.SIGKILL
    assert f"distbp: rank 0 of 2 on {os.uname().nodename} was told to end ({name}) and waits in MPI_I" in result.stderr


def test_a_signal_that_came_while_mpi_started_is_not_lost() -> None:
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        stop = StopRequest(("USR1",))
        elsewhere, pipe = os.pipe()
        os.set_blocking(pipe, False)
        before = signal.set_wakeup_fd(pipe)
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.set_wakeup_fd(before)
        stop.listen()
        assert os.read(stop.wakeup, 64) == bytes([signal.SIGUSR1])
        assert stop() == "on request"
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(elsewhere)
        os.close(pipe)


def test_one_rank_of_a_node_speaks(runner: Runner) -> None:
    """All of them end, at the same time, as under a launcher that leaves that to them."""
    program = WAITING.format(library="CDLL", seconds=1, wait=FOR_EVER)
    started = [runner.start(sys.executable, "-c", program, PMIX_NAMESPACE=job) for job in ("a", "a", "a", "b")]
    results = [runner.finish(process, 20) for process in started]
    assert [result.returncode for result in results] == [1, 1, 1, 1]
    assert sorted(result.stderr.count("distbp: error: ") for result in results[:3]) == [0, 0, 1]
    assert results[3].stderr.count("distbp: error: ") == 1


def test_ranks_speak_one_after_the_other() -> None:
    """Those of small jobs so far apart that the launcher has ended the next one; the last of many after a minute."""
    turns = [turn(rank) for rank in range(2000)]
    assert turns == sorted(turns)
    assert turns[:4] == [0, 1, 2, 3]
    assert turns[-1] == 60


class Others:
    """A communicator whose other ranks come to the meeting after so many looks."""

    rank, size = 0, 3

    def __init__(self, looks: float) -> None:
        self._looks = looks

    def Ibarrier(self) -> Others:  # noqa: N802
        return self

    def Test(self) -> bool:  # noqa: N802
        self._looks -= 1
        return self._looks < 0


def test_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """All come; one does not; and a signal ends a rank that has waited for unusually long, but not before."""
    clock = NoWaits()
    monkeypatch.setattr(way_out, "time", SimpleNamespace(monotonic=clock.now, sleep=clock.sleep))
    monkeypatch.setattr(way_out, "UNUSUAL_SECONDS", 0.05)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        assert way_out.why_not_all_came(Others(3), 5.0) == ""
        assert callable(signal.getsignal(signal.SIGUSR1))
        monkeypatch.setattr(way_out, "SIGNALS", (signal.SIGUSR1,))
        why = way_out.why_not_all_came(Others(math.inf), 0.1)
        assert why.startswith("rank 0 of 3 on ")
        assert "has waited 0.1 s for ranks that do not come to the end of theirs" in why
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        assert way_out.why_not_all_came(Others(50), 0) == ""  # no limit
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.one_mpi
def test_a_wrong_limit(runner: Runner) -> None:
    check_error(
        runner.run(*TRAIN, ranks=2, DISTBP_WAIT_SECONDS="soon"), 2, "DISTBP_WAIT_SECONDS=soon: expected seconds"
    )


def started_together(commands: dict[str, tuple[str, ...]], here: Path, scratch: Path, **extra: str) -> Started:
    """Jobs that mostly wait, all of them at the same time, each in a directory of its own."""
    started = {}
    for number, (name, command) in enumerate(commands.items()):
        (here / str(number)).mkdir()
        runner = Runner(here / str(number), scratch)
        started[name] = (runner, runner.start(*command, **extra))
    return started


@pytest.fixture(scope="module")
def never_come(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Jobs in which the second rank is another program.

    Open MPI's mpirun ends the job itself where one has failed, if it comes to an end: that is its own matter.
    """
    launcher = mpirun_command()
    others = OTHERS[:2] if "--oversubscribe" in launcher else OTHERS
    commands = {other: (*launcher, "-n", "1", *TRAIN, ":", "-n", "1", *other.split()) for other in others}
    with tempfile.TemporaryDirectory(prefix="distbp-", ignore_cleanup_errors=True) as scratch:
        here = tmp_path_factory.mktemp("never")
        started = started_together(commands, here, Path(scratch), DISTBP_WAIT_SECONDS=WAIT)
        yield started
        for runner, _ in started.values():
            runner.close()


@pytest.mark.mpi
@pytest.mark.parametrize("other", OTHERS)
def test_a_rank_that_never_comes_to_mpi(never_come: Started, other: str) -> None:
    if other not in never_come:
        pytest.skip("a matter of Open MPI's mpirun alone: its ranks are not asked")
    runner, process = never_come[other]
    result = runner.finish(process)
    assert result.returncode != 0
    assert not (runner.directory / "run").exists()
    assert "Traceback" not in result.stderr
    check_error(result, result.returncode, "rank 0 of 2 on ", "in MPI_Init for ranks that have not come: one has ")


@pytest.mark.mpi
def test_a_signal_to_mpirun_while_a_rank_waits(runner: Runner) -> None:
    """The other rank is deaf for it."""
    deaf = "import signal, time; signal.signal(signal.SIG{name}, print); time.sleep(40)"
    launch = (*mpirun_command(), "-n", "1", *TRAIN, ":", "-n", "1", sys.executable, "-c")
    commands = {name: (*launch, deaf.format(name=name)) for name in ("TERM", "INT")}
    started = started_together(commands, runner.directory, runner.scratch)
    try:
        time.sleep(2)
        for name, (_, process) in started.items():
            process.send_signal(signal.Signals[f"SIG{name}"])
        for one, process in started.values():
            assert one.finish(process, 15).returncode != 0
    finally:
        for one, _ in started.values():
            one.close()


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("place", "how", "words"),
    [
        ("before MPI", "exit0", "in MPI_Init for ranks that have not come"),
        ("before MPI", "SIGKILL", ""),
        ("MPI_Init", "SIGKILL", ""),
        ("before MPI_Finalize", "hang", f"{WAIT} s for ranks that do not come to the end of theirs"),
        ("before MPI_Finalize", "late,SIGKILL", ""),
    ],
)
def test_a_rank_ends_at_either_end_of_mpi(runner: Runner, place: str, how: str, words: str) -> None:
    """Without words it is mpirun that ends the job: the limit of the watch is longer than that of the test."""
    fault = (sys.executable, str(Path(__file__).parent / "fault.py"), place, "1", how)
    result = runner.run(*fault, *TRAIN[1:], ranks=3, DISTBP_WAIT_SECONDS=WAIT if words else f"{5 * LIMIT:g}")
    assert result.returncode != 0 or how == "exit0"  # MPICH's mpirun takes that for an end like others
    assert "Traceback" not in result.stderr
    assert result.stderr.count("distbp: error: ") == bool(words), result.stderr
    assert words in result.stderr
    assert ("done" in result.stdout) == (place == "before MPI_Finalize")
    if place == "before MPI_Finalize":
        assert "last      run/checkpoint-" in result.stdout


@pytest.mark.mpi
def test_a_rank_ends_in_mpi_init_as_if_all_were_well(runner: Runner) -> None:
    """mpirun ends the job where the rank had made itself known to it, and the watch does where it had not.

    On a busy machine the rank may end when all are out of MPI_Init.
    """
    fault = (sys.executable, str(Path(__file__).parent / "fault.py"), "MPI_Init", "1", "exit0")
    result = runner.run(*fault, *TRAIN[1:], ranks=3, DISTBP_WAIT_SECONDS=WAIT)
    assert "Traceback" not in result.stderr
    told = result.stderr.count("distbp: error: ")
    words = ("in MPI_Init for ranks that have not come", "for ranks that have started MPI and do not answer")
    assert told == sum(result.stderr.count(one) for one in words)
    assert told <= 1
    assert "done" not in result.stdout
