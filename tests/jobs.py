"""Several commands of distbp in one process or job, one after the other: their ranks are started once (`in_turn.py`).

For commands that all ranks end together.  One that ends the job, or that is about how a process starts and ends, has a
job of its own (`Runner.distbp`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from runs import LIMIT, Runner

PROGRAM = Path(__file__).parent / "in_turn.py"


class Commands:
    """What is to be run, and what came of it."""

    def __init__(self, runner: Runner, *commands: Sequence[object]) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="job-", dir=runner.directory.parent))
        self._count = len(commands)
        lines = [json.dumps(list(map(str, command))) for command in commands]
        (self.place / "commands").write_text("".join(f"{line}\n" for line in lines))

    @property
    def command(self) -> tuple[str, ...]:
        """For each rank."""
        return sys.executable, str(PROGRAM), str(self.place)

    def results(self, ended: Any) -> list[subprocess.CompletedProcess[str]]:
        """Of each command, when the process has ended: what all ranks said, by rank, and the code of the job.

        Fails where a command has ended the job, or where the job has not ended as it should.
        """
        found = [self._result_of(number, ended) for number in range(self._count)]
        if ended.returncode != 0:
            pytest.fail(f"the job ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}", pytrace=False)
        return found

    def _result_of(self, number: int, ended: Any) -> subprocess.CompletedProcess[str]:
        def of_ranks(ending: str) -> list[str]:
            paths = sorted(self.place.glob(f"{number}-*.{ending}"), key=lambda path: int(path.stem.split("-")[1]))
            return [path.read_text() for path in paths]

        command = (self.place / "commands").read_text().splitlines()[number]
        out, err, codes = "".join(of_ranks("out")), "".join(of_ranks("err")), of_ranks("code")
        if len(codes) < max(1, len(of_ranks("err"))):
            said = f"{out}\n{err}\n{ended.stdout}\n{ended.stderr}"
            pytest.fail(f"the job ended in {command} with {ended.returncode}\n{said}", pytrace=False)
        return subprocess.CompletedProcess(json.loads(command), max(map(int, codes)), out, err)


def in_one_job(
    runner: Runner, ranks: int, *commands: Sequence[object], limit: float = LIMIT, **extra: str
) -> list[subprocess.CompletedProcess[str]]:
    """Runs the commands to their ends, on so many ranks; 0: in one process, without mpirun."""
    job = Commands(runner, *commands)
    return job.results(runner.run_fork(*job.command, ranks=ranks, limit=limit, **extra))
