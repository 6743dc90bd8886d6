"""The clock that tells the time of the day is set, by hours, while a job works.

A job that is to come to its end does so, with the digest of a run that nobody disturbs, and no limit of it takes the
jump for time that has passed.  A limit that is reached is noticed all the same.  The end of a SLURM job is a time of
the day, and moves nearer, or away.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs import MPI, Ended, Place
from table import CORES, Sums, show

AHEAD, BACK = 7200, -7200  # seconds
OPTIONS = ("--engine", "numpy", "--epochs", "4", "--trace", "trace.json")
PATIENT = ("--time-limit", "60", "--stall-minutes", "10", "--checkpoint-minutes", "30")
LONG = ("--engine", "numpy", "--epochs", "1000000", "--checkpoint-every", "1000000", "--keep", "1000")
PLACES = ("before MPI", "MPI_Init", "reading", "update", "validation", "checkpoint", "before MPI_Finalize")
TITLES = ("what is set, where", "options", "MPI", "ranks", "exit code", "seconds", "first words", "result")


@dataclass(frozen=True)
class Case:
    """A jump, and what else; `says`: a word of the message; `fewest` and `most`: checkpoints that are left."""

    kind: str
    how: str
    place: str
    ranks: int
    rank: str = "all"
    options: tuple[str, ...] = (*OPTIONS, *PATIENT)
    code: int = 0
    says: str = ""
    checkpoints: range = field(default=range(1, 1000))
    job_seconds: int = 0  # of a SLURM job, from now to its end; 0: none


def _plain() -> list[Case]:
    """The run comes to its end, be it set for all ranks or for one: on a node of its own."""
    found = []
    for jump in (AHEAD, BACK):
        found += [Case("a run to its end", f"clock{jump:+}", place, 0) for place in PLACES if "MPI" not in place]
        found += [Case("a run to its end", f"clock{jump:+}", place, 2) for place in PLACES]
        found += [Case("a run to its end", f"clock{jump:+}", place, 3, "0") for place in PLACES[2:]]
    return found


def _limits(pace: float) -> list[Case]:
    """`pace`: seconds of a run that nobody disturbs, which depend on what else the machine has to do."""
    limit, stall = f"{(3 + 3 * pace) / 60:.3f}", f"{(3 + pace) / 60:.3f}"
    found = []
    for jump in (AHEAD, BACK):
        how, of_slurm = f"clock{jump:+}", "before the end of the time of SLURM job 7"
        stalled = (*OPTIONS, "--stall-minutes", stall)
        often = (*LONG, "--checkpoint-minutes", "0.005", "--time-limit", limit)
        never = (*LONG, "--checkpoint-minutes", "60", "--time-limit", limit)
        for ranks in (0, 2):
            found += [
                Case("--time-limit", how, "update", ranks, "all", never, 75, "end of --time-limit", range(1, 3)),
                Case("--checkpoint-minutes", how, "update", ranks, "all", often, 75, "--time-limit", range(3, 1000)),
                Case("--stall-minutes", f"{how},hang", "update", ranks, "0", stalled, 1, "has not come on"),
                Case("run.lock of a run that is killed", f"{how},SIGKILL", "update", ranks, "0", code=9),
            ]
            end = (75, of_slurm) if jump > 0 else (0, "")
            found.append(Case("the end of a SLURM job", how, "update", ranks, "all", OPTIONS, *end, job_seconds=3600))
    return found


def clocks(mpi: MPI, data: Path, library: str, whole: Ended, sums: Sums) -> None:
    """Each case; `whole` is a run that nobody disturbs."""

    def row(case: Case) -> Sequence[object]:
        with Place(mpi, data) as place:
            command = mpi.faulty(case.place, case.rank, case.how, *case.options)
            ended = place.run([*_job(case), *command], case.ranks, LD_PRELOAD=library)
            codes = [case.code] if case.code != 9 else [-9, 9, 137]
            messages = range(1, 4) if case.code == 1 else [int(case.code == 75)]  # each rank that hangs says where
            wrong = [place.after(ended, codes, messages)]
            if case.says not in ended.errors:
                wrong.append(f"UNEXPECTED words: {ended.errors[-200:]!r}")
            if len(place.checkpoints()) not in case.checkpoints:
                wrong.append(f"UNEXPECTED: {len(place.checkpoints())} checkpoints")
            if case.code in (0, 75):
                wrong.append(place.times())
            wrong.append(_digest(case, place, ended.digest, whole.digest))
            result = ", ".join(filter(None, wrong))
        limits = " ".join(word for word in case.options if word not in OPTIONS)
        cells = f"{case.how} {case.place} ({case.rank})", limits, mpi.name, case.ranks or 1, ended.code
        return *cells, f"{ended.seconds:.1f}", ended.words, result

    cases = _plain() + _limits(whole.seconds)
    for case, result in zip(cases, show(TITLES, cases, row, CORES), strict=True):
        sums.add(f"clock jumps: {case.kind} ({mpi.name})", result)


def _digest(case: Case, place: Place, digest: str, expected: str) -> str:
    if case.code == 0:
        return "same digest" if digest == expected else "ANOTHER DIGEST"
    if case.options[:2] == LONG[:2]:
        return "stopped in time"
    return place.goes_on(expected, *OPTIONS, ranks=case.ranks % 3 + 1)


def _job(case: Case) -> Sequence[str]:
    """A SLURM job around the command, as it is told to its processes."""
    if not case.job_seconds:
        return ()
    now = int(time.time())
    return ("env", "SLURM_JOB_ID=7", f"SLURM_JOB_START_TIME={now}", f"SLURM_JOB_END_TIME={now + case.job_seconds}")
