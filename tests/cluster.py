"""A SLURM of several nodes on this machine (see scripts/slurm), and jobs on it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest
from runs import BIN, LIMIT, environment, mpirun_command, rank_forks

SCRIPT = Path(__file__).parent.parent / "scripts" / "slurm"
NEEDED = ("slurmctld", "slurmd", "munged", "srun", "ip", "tc", "nsenter", "unshare")
LOOK_SECONDS = 0.2  # between two looks, each of which starts some processes
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT"}


def mpirun() -> str:
    """The launcher beside this Python, in a job; not to bind to CPUs of a node that the machine may not have."""
    return f"{mpirun_command()[0]} --bind-to none" if _is_open_mpi() else mpirun_command()[0]


def srun() -> str:
    """SLURM's own launcher, for the MPI of this Python."""
    if not _is_open_mpi():
        return "srun --mpi=pmi2"
    if not any(Path("/usr/lib").glob("*/pmix2/lib")):
        pytest.skip("srun starts Open MPI by way of PMIx (Debian: libpmix2)")
    return "srun --mpi=pmix"


def _is_open_mpi() -> bool:
    return "--oversubscribe" in mpirun_command()


class Slurm:
    """Nodes h1 ... hN while it is entered; jobs start in `directory`, with this Python first in their PATH."""

    def __init__(self, directory: Path, nodes: int = 3, cpus: int = 2, kill_wait: int = 2) -> None:
        self.directory, self.nodes = directory, [f"h{i}" for i in range(1, nodes + 1)]
        self._sizes = (str(nodes), str(cpus), str(kill_wait))

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            pytest.skip("a SLURM on this machine needs root")
        if missing := [program for program in NEEDED if not shutil.which(program)]:
            pytest.skip(f"a SLURM on this machine needs {', '.join(missing)} (Debian: slurm-wlm, munge, iproute2)")
        self._scratch = tempfile.TemporaryDirectory(prefix="distbp-", ignore_cleanup_errors=True)
        try:
            made = self._run("up", *self._sizes)
            assert made.returncode == 0, made.stderr
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def down(self) -> None:
        """Removes all."""
        try:
            done = self._run("down")
        finally:
            self._scratch.cleanup()
        assert done.returncode == 0, done.stderr

    def command(self, *words: str, text: str = "", **extra: str) -> str:
        """What a command of SLURM prints; `text` is its input."""
        done = self._run(*words, text=text, **extra)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def scontrol(self, *words: str) -> str:
        return self.command("scontrol", *words)

    def submit(self, script: str | Path, *options: str, **extra: str) -> str:
        """The id of a new job: a script for bash, as its text or its path; `extra` goes to its environment."""
        if isinstance(script, Path):
            return self.command("sbatch", "--parsable", *options, str(script), **extra).strip()
        text = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
        return self.command("sbatch", "--parsable", *options, text=text, **extra).strip()

    def state(self, job: str) -> str:
        """Such as RUNNING; of an array, those of all its tasks (of one: "JOB_TASK")."""
        return " ".join(self.command("squeue", "-h", "-r", "-j", job, "-t", "all", "-o", "%T").split())

    def states(self) -> dict[str, str]:
        """Of all jobs that have not been forgotten."""
        lines = self.command("squeue", "-h", "-t", "all", "-o", "%i %T").splitlines()
        return {job: state for job, state in map(str.split, lines)}

    def wait(self, job: str, *states: str, limit: float = LIMIT) -> str:
        """Until its state, or that of every task of an array, is one of these; fails when it has ended in another."""
        end = time.monotonic() + limit
        while not (now := set(self.state(job).split())) or not now <= set(states):
            if now & ENDED - set(states) or time.monotonic() > end:
                is_now = {name: self.show(job)[name] for name in ("JobState", "Reason", "ExitCode", "NodeList")}
                pytest.fail(f"job {job}, not {' or '.join(states)}: {is_now}\n{self.output(job)}", pytrace=False)
            time.sleep(LOOK_SECONDS)
        return " ".join(now)

    def show(self, job: str) -> dict[str, str]:
        """All that scontrol says of a job (of an array: of one of its tasks)."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.scontrol("show", "job", "-o", job).partition("\n")[0]))

    def output(self, job: str) -> str:
        """What it has written until now; killed jobs of Open MPI write bytes that are not text."""
        file = Path(self.show(job)["StdOut"])
        return file.read_text(errors="replace") if file.exists() else ""

    def break_node(self, node: str) -> None:
        """SLURM is told that a node is down, and all that runs there is killed.

        In this order: else the launcher may see it first, and then the job has failed before it can be requeued.
        """
        self.scontrol("update", f"nodename={node}", "state=down", "reason=test")
        self.command("crash", node)

    def clear(self) -> None:
        """Between two tests: ends all jobs and mends all nodes."""
        self.command("scancel", "--full", "-u", "root")
        self.command("scancel", "--full", "-s", "KILL", "-u", "root")
        for node in self.nodes:
            if "down" in self.command("sinfo", "-h", "-p", "low", "-n", node, "-o", "%T"):
                self.command("boot", node)
                self.scontrol("update", f"nodename={node}", "state=resume")
        end = time.monotonic() + LIMIT
        while self.command("squeue", "-h") or self._idle() < len(self.nodes):
            assert time.monotonic() < end, self.command("squeue") + self.command("sinfo")
            time.sleep(LOOK_SECONDS)

    def _idle(self) -> int:
        return self.command("sinfo", "-h", "-p", "low", "-N", "-o", "%T").split().count("idle")

    def _run(self, *words: str, text: str = "", **extra: str) -> Any:
        path = f"{rank_forks().bin}:{BIN}:{os.environ['PATH']}"  # ranks are forks, see rank_forks
        return subprocess.run(
            [SCRIPT, *words],
            input=text,
            cwd=self.directory,
            env=environment(**{"TMPDIR": self._scratch.name, "PATH": path, **extra}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
        )
