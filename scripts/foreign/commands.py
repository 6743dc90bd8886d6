"""Commands of distbp, each under a time limit, and what they wrote."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT = 60.0  # seconds for a command
PREFIXES = ("OMPI_", "PMI", "PRTE_", "SLURM_", "MPI_", "HYD", "HDF5_")


class Failure(Exception):
    """A command did not do what it had to."""


@dataclass(frozen=True)
class Done:
    """A command that ended: its line, exit code, and what it wrote."""

    line: str
    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What distbp says of the failure; or the end of what it wrote."""
        said = [line for line in self.err.splitlines() if line.strip() and not line.startswith(("Usage:", "Try "))]
        first = next((i for i, line in enumerate(said) if "distbp: error: " in line), None)
        if first is not None:
            return "\n".join(said[first:])
        return "\n".join(said[-6:]) or f"exit code {self.code}, and nothing was written to stderr"


class Commands:
    """Runs commands in a folder.  `programs`: where distbp and mpirun are; `variables`: added to the environment."""

    def __init__(self, programs: Path, folder: Path, variables: dict[str, str], ranks: int) -> None:
        self._programs, self._folder, self._ranks = programs, folder, ranks
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
        self._environment = {**kept, "TMPDIR": str(folder.parent), "PYTHONWARNINGS": "default", **variables}
        self._environment["PATH"] = f"{programs}{os.pathsep}{kept.get('PATH', '')}"
        self.lines: list[str] = []

    def distbp(self, line: str) -> Done:
        """Runs `distbp LINE`; training, on several ranks.  Raises Failure where it fails."""
        done = self._run(line)
        if done.code:
            raise Failure(f"exit code {done.code}: {done.line}\n{done.message}")
        return done

    def refused(self, line: str) -> None:
        """Runs a line that has to be refused, with the words behind " # ".  Raises Failure where it is not."""
        command, _, words = line.partition(" # ")
        done = self._run(command)
        if not done.code:
            said = "\n".join(f"{done.out}\n{done.err}".strip().splitlines()[:12])
            raise Failure(f"was not refused: {done.line}\n{said}")
        if "distbp: error: " not in done.err:
            raise Failure(f"was refused without a message of distbp: {done.line}\n{done.message}")
        message = re.sub(r"\s+", " ", done.message)
        if words and words not in message:
            raise Failure(f"was refused, and the message does not say {words!r}: {done.line}\n{done.message}")

    def _run(self, line: str) -> Done:
        words = shlex.split(line)
        before = []
        if words[0] == "env":
            before, words = words[:2], words[2:]
        launcher = [str(self._programs / "mpirun"), "-n", str(self._ranks)] if words[0] == "train" else []
        shown = shlex.join([*before, *(["mpirun", "-n", str(self._ranks)] if launcher else []), "distbp", *words])
        self.lines.append(shown)
        process = subprocess.Popen(
            [*before, *launcher, str(self._programs / "distbp"), *words],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started = time.monotonic()
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise Failure(f"still running after {time.monotonic() - started:.0f} s: {shown}\n{err[-2000:]}") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        if "Traceback" in err:
            raise Failure(f"traceback: {shown}\n{err[-3000:]}")
        return Done(shown, process.returncode, out, err)
