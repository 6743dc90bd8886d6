"""Small data sets, and ways to run distbp: in this process on any number of ranks, as a command, under mpirun."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from forked import Forks
from rank_forks import RankForks

from distbp.data.layout import Column, Layout, Part
from distbp.data.split import Split
from distbp.engine.epoch_sums import EpochSums
from distbp.engine.step_memory import StepMemory
from distbp.engine.sums import Stepped, Steps, Sums
from distbp.files import patience
from distbp.ranks.attention import Attention
from distbp.ranks.communicator import Communicator, OneProcess, run_threads
from distbp.runs import listener
from distbp.settings.config import Config
from distbp.settings.merged import merge
from distbp.training.listener import Listener
from distbp.training.prepare import Start, Voice, prepare
from distbp.training.run import Run
from distbp.training.run_directory import RunDirectory
from distbp.training.run_lock import NAME as LOCK
from distbp.training.train import train

BIN = Path(sys.executable).parent
LIMIT = float(os.environ.get("DISTBP_TEST_LIMIT", "60"))  # seconds for a subprocess
# Open MPI's wheel: allow root, skip a slow network layer, be silent about a missing one; a rank that waits lets others
# have its core
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_btl": "^ofi",
    "OMPI_MCA_mtl": "^ofi",
    "OMPI_MCA_osc": "^ucx",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}
# MPICH: the same
MPICH = {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1", "MPIR_CVAR_POLLS_BEFORE_YIELD": "100"}


def samples(
    *, train: int = 23, test: int = 11, inputs: int = 4, kind: str = "classes"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """x and y of each split, of seeded random numbers; kind "classes" (3 of them), "binary" or "targets" (2 reals)."""
    rng, splits = np.random.default_rng(7), {}
    for split, count in (("train", train), ("test", test)):
        x = rng.standard_normal((count, inputs)) * 3 + 1
        score = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2] / 9, np.cos(x[:, 3])], axis=1)
        y = {"classes": score.argmax(axis=1), "binary": (score[:, 0] > 0).astype(int), "targets": score[:, :2] * 50}
        splits[split] = x, y[kind]
    return splits


def write_data(path: Path, **words: Any) -> str:
    """A data set of such samples."""
    with h5py.File(path, "w") as file:
        for split, (x, y) in samples(**words).items():
            file[f"{split}/x"], file[f"{split}/y"] = x, y
    return str(path)


def split_of(x: Any, y: Any = None, labels: Any = None) -> Split:
    """A split that is in no file."""
    if labels is not None:
        y = np.asarray(y, np.int32)
    columns = [
        (Column("", name, None, len(a), a.size // len(a), a.dtype.str, a.shape[1:], None),) if a is not None else ()
        for name, a in (("x", x), ("y", y))
    ]
    part = Part(0, len(x), *columns)
    return Split(Layout("train", "x", "" if y is None else "y", (part,)), x, y, labels)


def configuration(data: str, out: Path | str, **options: Any) -> Config:
    """Small and quick, in float64, unless told otherwise."""
    small = {"data": [data], "out": str(out), "hidden": [6], "dtype": "float64", "epochs": 3, "batch_size": 7}
    return merge({**small, **options}, "test")


def train_on(ranks: int, config: Config, nodes: int = 1, **words: Any) -> Run:
    """Trains on threads that stand in for ranks (one: in this thread), on so many nodes; the run of rank 0."""
    if ranks == 1:
        return train_as(OneProcess(), config, **words)
    return run_threads(ranks, lambda comm: train_as(comm, config, **words), nodes_of(ranks, nodes))[0]


def train_as(comm: Communicator, config: Config, *, listener: Listener | None = None, **words: Any) -> Run:
    """Trains as this rank; `words`: those of Start and Attention; the listener is that of rank 0.

    Where somebody may ask for a stop, he is asked at each step.
    """
    watching = {name: words.pop(name) for name in ("beat", "why_stop") if name in words}
    listeners: list[Listener] = [OneByOne()] if "why_stop" in watching else []
    if listener and comm.rank == 0:
        listeners.append(listener)
    return train(comm, config, Start(**words), attention=Attention(**watching), listeners=listeners)


class OneByOne(Listener):
    """Wants each step to be a call of its own."""

    def sleeps(self, step: int) -> int:
        return 1


def prepared(comm: Communicator, config: Config, *, dry: bool = True, **words: Any) -> Run:
    """A run before its first step; `words`: those of Start."""
    voice = Voice(comm, lambda text: None, lambda phase: None)
    return prepare(voice, config, RunDirectory(config.out, dry=dry), Start(dry_run=dry, **words))


def nodes_of(ranks: int, nodes: int) -> list[list[int]]:
    """Ranks dealt out to nodes one by one, and the last node has one rank less, where it can."""
    dealt = [list(range(node, ranks, nodes)) for node in range(min(nodes, ranks))]
    if len(dealt) > 1 and len(dealt[-1]) > 1:
        dealt[0].append(dealt[-1].pop())
    return dealt


def resumed(ranks: int, config: Config, **changes: Any) -> Run:
    """Continues the run in config.out."""
    return train_on(ranks, replace(config, **changes), resume_with=changes)


class StopAt:
    """Asks for a stop at the nth step of a run: of one rank alone, the one that comes to its first step first."""

    def __init__(self, step: int) -> None:
        self._step, self._steps, self._who = step, 0, 0

    def beat(self, phase: str) -> None:
        if phase.startswith("in epoch"):
            self._who = self._who or threading.get_ident()
            self._steps += self._who == threading.get_ident()

    def __call__(self) -> str:
        return "on request" if self._who == threading.get_ident() and self._steps == self._step else ""

    @property
    def words(self) -> dict[str, Any]:
        """For `train_on`."""
        return {"why_stop": self, "beat": self.beat}


@cache
def to_preload(name: str) -> str:
    """The library of `name`.c, for LD_PRELOAD."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    directory = tempfile.mkdtemp(prefix="distbp-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path, source = Path(directory) / f"{name}.so", Path(__file__).parent / f"{name}.c"
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", path, source, "-ldl"]
    subprocess.run(command, check=True, timeout=LIMIT)
    return str(path)


class NoWaits:
    """A clock for `patience.schedule` that goes on when somebody waits, which takes no time."""

    def __init__(self) -> None:
        self.time, self.waits = 0.0, 0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.waits += 1

    def install(self, monkeypatch: pytest.MonkeyPatch) -> NoWaits:
        monkeypatch.setattr(patience, "schedule", patience.Schedule(now=self.now, sleep=self.sleep))
        return self


class Notes(listener.Notes):
    """Keeps what is told to the user."""

    def about(self, words: str) -> list[str]:
        """Those that have these words."""
        return [line for line in self.lines if words in line]


@cache
def mpirun_command() -> tuple[str, ...]:
    """The mpirun beside this Python, with what it needs to start more ranks than cores."""
    program = BIN / "mpirun"
    if not program.exists():
        pytest.skip("no mpirun beside this Python (pip install mpich)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=LIMIT, env=environment())
    return (str(program), "--oversubscribe") if "Open MPI" in version.stdout else (str(program),)


def environment(**extra: str) -> dict[str, str]:
    """That of a user, without what a launcher may have left."""
    prefixes = ("OMPI_", "PMI", "PRTE_", "SLURM_", "MPI_", "HYD")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **OPEN_MPI, **MPICH, "PYTHONWARNINGS": "default", **extra}


# Starts `distbp`; what fails is tried again as often as else, in a tenth of the time.
HASTY = """
import time
from distbp.__main__ import main
from distbp.files import patience
patience.schedule = patience.Schedule(now=lambda: 10 * time.monotonic(), sleep=lambda seconds: time.sleep(seconds / 10))
main()
"""


@cache
def forks() -> Forks:
    """For commands in one process, which do not have to be imported again each time."""
    started = Forks(Path(tempfile.gettempdir()), environment())
    atexit.register(started.__exit__)
    return started


def rank_forks(preloaded: str = "") -> RankForks:
    """For ranks, and for one process that is to get signals; with a library that is loaded before all others."""
    return _started(preloaded)


@cache
def _started(preloaded: str) -> RankForks:
    started = RankForks(environment(**({"LD_PRELOAD": preloaded} if preloaded else {})))
    atexit.register(started.close)
    return started


def in_fork(*command: str, **extra: str) -> tuple[str, ...]:
    """What to start in the place of `distbp ARGUMENTS`, or of this Python with a program; see `rank_forks`."""
    forks = rank_forks(extra.get("LD_PRELOAD", ""))
    is_known = command[0] in (str(BIN / "distbp"), sys.executable)
    return forks.command(*command) if is_known and forks.may_have(environment(**extra)) else command


def distbp_of_shell() -> str:
    """`distbp` in a command of the shell, in a fork."""
    return shlex.join(in_fork(str(BIN / "distbp")))


class Runner:
    """Starts commands in `directory`, each with a time limit: a hang is a failure.

    Their temporary files go to `scratch`, a new directory with a short name: what an Open MPI that was killed leaves in
    TMPDIR/ompi.PID keeps a later one that happens to get the same process id from starting.
    """

    def __init__(self, directory: Path, scratch: Path) -> None:
        self.directory, self.scratch = directory, scratch
        self._started: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        """Ends what a test has left running, where it failed."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def start(self, *command: str, ranks: int = 0, **extra: str) -> subprocess.Popen[str]:
        """Starts a command, under mpirun if there are ranks."""
        launcher = (*mpirun_command(), "-n", str(ranks)) if ranks else ()
        process = subprocess.Popen(
            [*launcher, *command],
            cwd=self.directory,
            env=environment(**{"TMPDIR": str(self.scratch), **extra}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
        """Waits for it; ends it and all its children when the time is over."""
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"still running after {limit} s: {process.args}\n{out}\n{err}", pytrace=False)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run(self, *command: str, ranks: int = 0, limit: float = LIMIT, **extra: str) -> Any:
        """Runs a command to its end."""
        return self.finish(self.start(*command, ranks=ranks, **extra), limit)

    def run_fork(self, *command: str, ranks: int = 0, limit: float = LIMIT, **extra: str) -> Any:
        """Runs it to its end, in forks where they are as good."""
        return self.finish(self.fork(*command, ranks=ranks, **extra), limit)

    def fork(self, *command: str, ranks: int = 0, **extra: str) -> subprocess.Popen[str]:
        """Starts `distbp ARGUMENTS`, or this Python with a program: in forks (`rank_forks`) where they are as good."""
        return self.start(*in_fork(*command, **extra), ranks=ranks, **extra)

    def start_faulty(self, place: str, rank: int | str, how: str, *arguments: str, ranks: int) -> subprocess.Popen[str]:
        """Starts `distbp ARGUMENTS`, in which one rank comes to harm (see `fault.py`)."""
        fault = str(Path(__file__).parent / "fault.py")
        return self.fork(sys.executable, fault, place, str(rank), how, *map(str, arguments), ranks=ranks)

    def faulty(self, place: str, rank: int | str, how: str, *arguments: str, ranks: int, limit: float = LIMIT) -> Any:
        """Runs it to its end."""
        return self.finish(self.start_faulty(place, rank, how, *arguments, ranks=ranks), limit)

    def distbp(self, *arguments: str, ranks: int = 0, **extra: str) -> Any:
        """Runs `distbp ARGUMENTS` in forks of a process that has imported it: see `forked` and `rank_forks`."""
        environs = environment(**{"TMPDIR": str(self.scratch), **extra})
        if ranks:
            return self.run_fork(str(BIN / "distbp"), *map(str, arguments), ranks=ranks, **extra)
        if not forks().may_have(environs):
            return self.afresh(*arguments, **extra)
        try:
            return forks().run_apart([str(BIN / "distbp"), *map(str, arguments)], self.directory, environs, LIMIT)
        except subprocess.TimeoutExpired as over:
            pytest.fail(f"still running after {LIMIT} s: {over.cmd}\n{over.output}\n{over.stderr}", pytrace=False)

    def afresh(self, *arguments: str, ranks: int = 0, **extra: str) -> Any:
        """Runs `distbp ARGUMENTS` as a user starts it."""
        return self.run(str(BIN / "distbp"), *map(str, arguments), ranks=ranks, **extra)


def check_error(result: Any, code: int, *words: str) -> None:
    """One message, no traceback, the exit code, and what it must say."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("distbp: error: ") == 1, result.stderr
    for word in words:
        assert word in result.stderr


def wait_for(path: Path, seconds: float = 20.0) -> None:
    """Until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


def wait_for_its_end(run: Path) -> None:
    """A launcher may be gone a moment before rank 0, which has the lock."""
    end = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        status = Path("/proc") / str(json.loads((run / LOCK).read_text())["pid"]) / "stat"
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < end, f"rank 0 is alive: {status}"
            time.sleep(0.01)


def ranks_of(launcher: int) -> list[int]:
    """The processes of the ranks that a launcher has started, by rank."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])

    def is_below(process: int) -> bool:
        while process in parents and process != launcher:
            process = parents[process]
        return process == launcher

    found = {}
    for process in filter(is_below, list(parents)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                name, _, value = line.partition(b"=")
                if name in (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK", b"PMIX_RANK"):
                    found[int(value)] = rank_forks().process_of(process)
    return [found[rank] for rank in sorted(found)]


def whole_gradient(memory: StepMemory) -> np.ndarray:
    """∂L_B/∂w, put together from the slices that are ready in the memory of a step."""
    count = len(memory.w)
    slices = [memory.sums[part][0][mine] for bucket in memory.buckets[::-1] for part, mine in enumerate(bucket.slices)]
    assert sum(map(len, slices)) == count
    return np.concatenate(slices)


def sums_of(comm: Communicator, stepped: Stepped) -> Sums:
    """The sums of a step, over all ranks."""
    sums = EpochSums(comm, [0.0] * len(stepped.part.values))
    sums.add(Steps.of([stepped]))
    return sums.total()
