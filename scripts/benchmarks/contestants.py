"""The contestants: how each is started, and how its speed, its losses, its start and its memory are measured."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from installed import installed
from job import Job, JobError
from networks import Network, make_data
from task import ANSWER, NOTE, Task

LEARNING_RATE, MOMENTUM = 0.001, 0.9
CHECK_LEARNING_RATE, CHECK_STEPS = 0.01, 20  # so large that the losses move
SHORT_BATCHES = 10
STOPPED = 75  # distbp's exit code after a signal
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Contestant:
    """One way to train a network (or, for the limit, only to multiply its matrices).

    `ranks` and `threads`: whether there are as many as cores, or one; `crowd`: ranks for each of those.  `by_mpirun`:
    mpirun starts the ranks; else they are started one by one, as torchrun would.  `variable` and `compiler`: what has
    to be there beside the package `needs`.
    """

    name: str
    words: str
    program: str
    needs: str
    ranks: bool = False
    threads: bool = False
    options: tuple[str, ...] = ()
    crowd: int = 1
    by_mpirun: bool = True
    variable: str = ""
    compiler: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def ranks_on(self, cores: int) -> int:
        """The number of its ranks."""
        return self.crowd * cores if self.ranks else 1

    def threads_on(self, cores: int) -> int:
        """The number of threads of each rank."""
        return cores if self.threads else 1

    def missing(self) -> str:
        """What it needs and is not here; "" if all is."""
        if not installed(self.needs):
            return f"{self.needs} is not installed"
        if self.ranks and self.by_mpirun and not program("mpirun"):
            return f"no mpirun beside {sys.executable} or on PATH"
        if self.variable and self.variable not in os.environ:
            return f"{self.variable} is not set"
        if self.compiler and not shutil.which(os.environ.get("CXX", "g++")):
            return "no C++ compiler: neither CXX nor g++"
        return ""


DISTBP, LIMIT = "distbp", "limit.py"
OVERSUBSCRIBE = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}  # Open MPI: more ranks than cores
CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("distbp-ranks", "distbp", DISTBP, "mpi4py", ranks=True),
        Contestant(
            "distbp-reproducible", "distbp --reproducible", DISTBP, "mpi4py", ranks=True, options=("--reproducible",)
        ),
        Contestant(
            "distbp-numpy", "distbp --engine numpy", DISTBP, "mpi4py", ranks=True, options=("--engine", "numpy")
        ),
        Contestant("distbp-threads", "distbp", DISTBP, "distbp", threads=True),
        Contestant("distbp-single", "distbp", DISTBP, "distbp"),
        Contestant("distbp-crowd", "distbp", DISTBP, "mpi4py", ranks=True, crowd=4, environment=OVERSUBSCRIBE),
        Contestant("pytorch-ddp", "PyTorch DDP, gloo", "pytorch.py", "torch", ranks=True, by_mpirun=False),
        Contestant("pytorch-threads", "PyTorch", "pytorch.py", "torch", threads=True),
        Contestant(
            "pytorch-compile", "PyTorch, torch.compile", "pytorch_compiled.py", "torch", threads=True, compiler=True
        ),
        Contestant("jax", "JAX, jit", "jax_step.py", "jax", threads=True),
        Contestant("jax-scan", "JAX, scan", "jax_step.py", "jax", threads=True, options=("--scan",)),
        Contestant("jax-devices", "JAX, scan, a device a core", "jax_parallel.py", "jax", threads=True),
        Contestant(
            "jax-gloo",
            "JAX, scan, gloo",
            "jax_parallel.py",
            "jax",
            ranks=True,
            options=("--collectives", "gloo"),
            by_mpirun=False,
        ),
        Contestant(
            "jax-mpi",
            "JAX, scan, MPI",
            "jax_parallel.py",
            "jax",
            ranks=True,
            options=("--collectives", "mpi"),
            variable="MPITRAMPOLINE_LIB",
        ),
        Contestant("sklearn", "scikit-learn", "scikit_learn.py", "scikit-learn", threads=True),
        Contestant("numpy-loop", "NumPy + mpi4py loop", "numpy_loop.py", "mpi4py", ranks=True),
        Contestant("limit", "the limit: matrix products alone", LIMIT, "mpi4py", ranks=True),
        Contestant("limit-single", "the limit: matrix products alone", LIMIT, "mpi4py"),
    )
}
PEERS = tuple(name for name in CONTESTANTS if not name.startswith(("distbp", "limit")))


def program(name: str) -> str:
    """The program beside this Python, or on PATH; "" where there is none."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name) or ""


@dataclass
class Bench:
    """Measures contestants in a directory, on so many cores."""

    directory: Path
    cores: int
    seconds: float
    limit: float
    notes: dict[str, None] = field(default_factory=dict)  # in the order of their coming
    _runs: Any = field(default_factory=itertools.count)

    def speed(self, contestant: Contestant, network: Network) -> float:
        """samples/s in steady state."""
        return self._speed(contestant, network, None)

    def memory(self, contestant: Contestant, network: Network) -> float:
        """The most that all its processes held at a time, in MB, looked at every 20th of a second."""
        peaks: list[int] = []
        self._speed(contestant, network, peaks)
        return max(peaks) / 1e6

    def losses(self, contestant: Contestant, network: Network, weights: str) -> list[float]:
        """Of each of the first steps, all on the same batch, before its update."""
        data = make_data(network, self.directory, batches=1)
        if contestant.program == DISTBP:
            epochs = CHECK_STEPS
            rows, _ = self._distbp(contestant, network, data, epochs, CHECK_LEARNING_RATE)
            return [float(row["train_loss"]) for row in rows]
        task = self._task(contestant, network, "losses", data)
        found = self._peer(contestant, replace(task, weights=weights, learning_rate=CHECK_LEARNING_RATE), None)[0]
        return list(found["losses"])

    def first_weights(self, network: Network) -> str:
        """The checkpoint of distbp before its first step."""
        out = self._new_run()
        data = make_data(network, self.directory, batches=1)
        with self._job(CONTESTANTS["distbp-single"], [self._train(network, data, out, 0, LEARNING_RATE)]) as job:
            job.finish()
        return str(out / "checkpoint-0000000000.h5")

    def start(self, contestant: Contestant, network: Network, *, torchrun: bool = False) -> tuple[float, float]:
        """Seconds from the start of the command to the end of the first step, and to the end of a short job."""
        data = make_data(network, self.directory, batches=SHORT_BATCHES)
        if contestant.program == DISTBP:
            one = make_data(network, self.directory, batches=1)
            _, first = self._distbp(contestant, network, one, 1, LEARNING_RATE)
            _, whole = self._distbp(contestant, network, data, 1, LEARNING_RATE)
            return first[0], whole[1]
        task = self._task(contestant, network, "job", data)
        found, seconds = self._peer(contestant, task, None, torchrun=torchrun)
        return found["first_step_at"], seconds

    def _new_run(self) -> Path:
        return self.directory / f"run-{next(self._runs)}"

    def _task(self, contestant: Contestant, network: Network, kind: str, data: Path) -> Task:
        ranks, threads = contestant.ranks_on(self.cores), contestant.threads_on(self.cores)
        return Task(
            kind,
            str(data),
            network.layers,
            network.n,
            ranks,
            threads,
            LEARNING_RATE,
            MOMENTUM,
            self.seconds,
            CHECK_STEPS,
        )

    def _speed(self, contestant: Contestant, network: Network, peaks: list[int] | None) -> float:
        data = make_data(network, self.directory)
        if contestant.program == DISTBP:
            return self._distbp_speed(contestant, network, data, peaks)
        return float(self._peer(contestant, self._task(contestant, network, "speed", data), peaks)[0]["speed"])

    # --- the programs of this folder ------------------------------------------------------------------------------
    def _peer(
        self, contestant: Contestant, task: Task, peaks: list[int] | None, *, torchrun: bool = False
    ) -> tuple[dict[str, Any], float]:
        """Its answer, and the seconds from start to end; a point in time in the answer is from the start, too."""
        command = [sys.executable, str(HERE / contestant.program), task.words(), *contestant.options]
        commands, environments = [command], [_meeting(task.ranks)]
        if torchrun:
            launcher = ["-m", "torch.distributed.run", "--standalone"]
            commands = [[sys.executable, *launcher, f"--nproc-per-node={task.ranks}", *command[1:]]]
            environments = [{}]
        elif task.ranks > 1 and contestant.by_mpirun:
            commands = [[program("mpirun"), "-n", str(task.ranks), *command]]
        elif task.ranks > 1:
            commands = [command] * task.ranks
            ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(task.ranks)]
            environments = [environments[0] | rank for rank in ranks]
        with self._job(contestant, commands, environments) as job:
            while peaks is not None and job.is_running():
                peaks.append(job.memory())
                time.sleep(0.05)
            lines = job.finish().splitlines()
            found = [json.loads(line.removeprefix(ANSWER)) for line in lines if line.startswith(ANSWER)]
            self.notes.update(dict.fromkeys(line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)))
            if len(found) != 1:
                raise JobError(f"{len(found)} answers instead of one: {job.words()}\n{job.output()[-3000:]}")
            if "first_step_at" in found[0]:
                found[0]["first_step_at"] -= job.started_at
            return found[0], job.ended_at - job.started_at

    def _job(
        self, contestant: Contestant, commands: list[list[str]], environments: list[dict[str, str]] | None = None
    ) -> Job:
        threads = contestant.threads_on(self.cores)
        blas = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
        extra = environments or [{}] * len(commands)
        return Job(commands, self.directory, self.limit, [{**blas, **contestant.environment, **own} for own in extra])

    # --- distbp ---------------------------------------------------------------------------------------------------
    def _train(self, network: Network, data: Path, out: Path, epochs: int, learning_rate: float) -> list[str]:
        options = f"--batch-size {network.n} --optimizer sgd --learning-rate {learning_rate} --momentum {MOMENTUM}"
        options += f" --epochs {epochs} --dtype float32 --scale none --checkpoint-every 1000000 --checkpoint-minutes 0"
        hidden = ",".join(map(str, network.layers[1:-1]))
        named = ["--validation-split", "", "--hidden", hidden, "--out", str(out)]
        return [program("distbp"), "train", str(data), *options.split(), *named]

    def _distbp_job(
        self, contestant: Contestant, network: Network, data: Path, out: Path, epochs: int, learning_rate: float
    ) -> Job:
        command = self._train(network, data, out, epochs, learning_rate)
        command += ["--threads", str(contestant.threads_on(self.cores)), *contestant.options]
        ranks = contestant.ranks_on(self.cores)
        launcher = [program("mpirun"), "-n", str(ranks)] if ranks > 1 else []
        return self._job(contestant, [[*launcher, *command]])

    def _distbp(
        self, contestant: Contestant, network: Network, data: Path, epochs: int, learning_rate: float
    ) -> tuple[list[dict[str, str]], tuple[float, float]]:
        """A whole run: its rows of metrics.csv, and the seconds from the start to the first of them and to the end."""
        out = self._new_run()
        with self._distbp_job(contestant, network, data, out, epochs, learning_rate) as job:
            while job.is_running() and not _rows(out):
                time.sleep(0.005)
            first = time.time()
            job.finish()
            seconds = first - job.started_at, job.ended_at - job.started_at
        rows = _rows(out)
        shutil.rmtree(out)
        return rows, seconds

    def _distbp_speed(self, contestant: Contestant, network: Network, data: Path, peaks: list[int] | None) -> float:
        """A run that is asked to stop when it has taken long enough; what counts are epochs after the warm-up."""
        out = self._new_run()
        with self._distbp_job(contestant, network, data, out, 1_000_000, LEARNING_RATE) as job:
            while job.is_running():
                if peaks is not None:
                    peaks.append(job.memory())
                times = [float(row["seconds"]) for row in _rows(out)]
                warm = next((i for i, sum_ in enumerate(itertools.accumulate(times), 1) if sum_ >= self.seconds / 2), 0)
                if warm and sum(times[warm:]) >= self.seconds:
                    break
                time.sleep(0.1 if peaks is None else 0.05)
            job.signal(signal.SIGUSR1)
            job.finish(STOPPED)
        shutil.rmtree(out)
        return network.samples * len(times[warm:]) / sum(times[warm:])


def _rows(out: Path) -> list[dict[str, str]]:
    """The whole lines of metrics.csv so far."""
    try:
        text = (out / "metrics.csv").read_text()
    except FileNotFoundError:
        return []
    return list(csv.DictReader(line for line in text.splitlines(keepends=True) if line.endswith("\n")))


def _meeting(ranks: int) -> dict[str, str]:
    """Where processes find each other: what torchrun would put into the environment of all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    sizes = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **sizes}
