"""The job that this process belongs to, as launcher and SLURM tell it: who started it, where, and when it ends."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

EARLIEST, LATEST = 1e9, 1e11  # seconds since 1970 that may be the end of a job: 2001 to 5138
ASK_SECONDS = 20.0  # for an answer of SLURM's controller, which may have much to do
FIELDS_ASKED = "%A %F %K %e"  # JobId, ArrayJobId (the same without an array), ArrayTaskId, EndTime (NONE: no limit)
NO_LIMIT_SECONDS = 365 * 86400  # of a job without a time limit, where SLURM names an end for it all the same
ABOUT = 60  # seconds: a job that was held up a moment
OPEN_MPI, HYDRA = "mpirun of Open MPI", "mpiexec (Hydra)"


@dataclass(frozen=True)
class Job:
    """Empty where there is nothing to say: without a launcher, outside SLURM."""

    launcher: str = ""
    id: str = ""  # SLURM_JOB_ID: of a task of an array its own
    task: str = ""  # of an array: ARRAY_INDEX
    restarts: int = 0  # how often SLURM has requeued it
    nodes: str = ""  # n[1-4]
    cpus: int | None = None  # of this job on each of its nodes, on the smallest of them; None: all
    end: float | None = None  # seconds since 1970; None: not known; inf: there is no limit
    started: float = 0.0  # when this process asked: seconds since 1970,
    begun: float = 0.0  # and by the clock that nobody sets (time.monotonic)

    @property
    def name(self) -> str:
        """SLURM job 124 (task 7 of array 117)"""
        array, _, index = self.task.partition("_")
        return f"SLURM job {self.id}" + (f" (task {index} of array {array})" if self.task else "") if self.id else ""

    def describe(self) -> str:
        """For the summary: SLURM job 124, restart 2, on n[1-4], by srun --mpi=pmi2"""
        parts = [self.name] if self.id else []
        parts += [f"restart {self.restarts}"] if self.restarts else []
        parts += [f"on {self.nodes}"] if self.nodes else []
        parts += [f"by {self.launcher}"] if self.launcher else []
        return ", ".join(parts)


NO_JOB = Job()


def job_of(environ: Mapping[str, str]) -> Job:
    """What the environment says."""
    array, index = (_text(environ, f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    return Job(
        _launcher(environ),
        _text(environ, "SLURM_JOB_ID"),
        f"{array}_{index}" if array and index else "",
        _number(environ.get("SLURM_RESTART_COUNT", "")) or 0,
        _text(environ, "SLURM_JOB_NODELIST"),
        _fewest_cpus(environ.get("SLURM_JOB_CPUS_PER_NODE", "")),
        _end(environ),
        time.time(),
        time.monotonic(),
    )


def _end(environ: Mapping[str, str]) -> float | None:
    """What SLURM 23 and later say; where there is no time limit they name a day a year after the start."""
    begun, end = (_number(environ.get(f"SLURM_JOB_{name}_TIME", "")) for name in ("START", "END"))
    if not end or not EARLIEST < end < LATEST:
        return None
    return math.inf if begun and abs(end - begun - NO_LIMIT_SECONDS) <= ABOUT else end


def _text(environ: Mapping[str, str], name: str) -> str:
    """Nothing in the place of what cannot be printed, or be written to a file."""
    value = environ.get(name, "")
    return value if value.isprintable() else ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _launcher(environ: Mapping[str, str]) -> str:
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return OPEN_MPI
    if "MPI_LOCALNRANKS" in environ:
        return HYDRA
    step = environ.get("SLURM_STEP_ID", "").isdecimal()
    kind = _text(environ, "SLURM_MPI_TYPE")
    if not step:
        return HYDRA if "PMI_SIZE" in environ else ""
    return f"srun --mpi={kind}" if kind and kind != "none" else "srun"


def _fewest_cpus(text: str) -> int | None:
    """72(x2),36 -> 36"""
    found = [_number(part.partition("(")[0]) for part in text.split(",")]
    return min((count for count in found if count), default=None)


def end_of(job: Job) -> float | None:
    """When it ends, as it was told or as its controller says: see `Job.end`."""
    return asked_end(job) if job.end is None else job.end


def asked_end(job: Job, environ: Mapping[str, str] = os.environ, seconds: float = ASK_SECONDS) -> float | None:
    """The end of a job, from SLURM's controller; inf: there is none; None: it does not say, or not in so many seconds.

    One question to the controller: for one rank.  Asked for are fields that hold numbers and times only: the output of
    `scontrol show job` has names and comments in it too, in which a user may write anything, and lines of other tasks.
    """
    import subprocess

    own = {name: value for name, value in environ.items() if not name.startswith("SQUEUE_")}  # filters of a user's
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job.id}", f"--format={FIELDS_ASKED}"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**own, "TZ": "UTC0", "SLURM_TIME_FORMAT": "standard"},  # it prints times of its own zone
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _end_told(job, answer.stdout)


def _end_told(job: Job, answer: str) -> float | None:
    """The end in the line of this job and task; lines of an array's other tasks may be there, too."""
    for line in answer.splitlines():
        found = re.fullmatch(r"(\d+) (\d+) (\S+) (NONE|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", line.strip())
        if found and found[1] == job.id and job.task in ("", f"{found[2]}_{found[3]}"):
            if found[4] == "NONE":
                return math.inf
            with suppress(ValueError):  # a day that is in no calendar
                return datetime.fromisoformat(found[4]).replace(tzinfo=UTC).timestamp()
    return None
