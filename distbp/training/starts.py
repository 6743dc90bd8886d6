"""starts.csv of a run: a line for each time that it was started, by which job, on what; and how far it had come."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence

from distbp import __version__
from distbp.errors import RunError
from distbp.ranks.job import Job

COLUMNS = ("time", "step", "ranks", "nodes", "launcher", "job", "task", "restarts", "node_list", "version")
LOOP = 5  # starts of a job in a row that came no further


def start_of(job: Job, step: int, ranks: int, nodes: int) -> list[str]:
    """A line: time in UTC, updates done before, ranks, nodes, and the job (see `Job`)."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    values = (now, step, ranks, nodes, job.launcher, job.id, job.task, job.restarts, job.nodes, __version__)
    return list(map(str, values))


def parse(lines: Sequence[str]) -> list[dict[str, str]]:
    """The lines of the file, but for those that are not whole."""
    rows = [row for row in csv.reader(lines) if len(row) == len(COLUMNS) and row != list(COLUMNS)]
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def check_progress(starts: Sequence[dict[str, str]], job: Job, step: int, where: str) -> None:
    """Raises RunError where SLURM has requeued a job again and again, and it came no further."""
    last = starts[-LOOP:]
    if not job.restarts or len(last) < LOOP:
        return
    if all(start["job"] == job.id and start["step"] == str(step) for start in last):
        raise RunError(
            f"{where}: {job.name} was started {LOOP} times in a row with {step} steps done, and came no further: "
            "not started again\nlook in its log for what ended it; it may need more time, or --checkpoint-minutes "
            "shorter than the time it has; then submit it as another job"
        )
