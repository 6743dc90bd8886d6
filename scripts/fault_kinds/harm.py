"""One rank comes to harm, in every way and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import LIMIT, MPI, Ended, Place
from table import CORES, Sums, show

OPTIONS = ("--epochs", "4")
STALL = ("--stall-minutes", "0.05")
WAIT = 8  # seconds for a rank that does not come to MPI, or to its end
FAULTS = [
    ("before MPI", "exit0"),
    ("before MPI", "exit1"),
    ("before MPI", "SIGKILL"),
    ("MPI_Init", "exit0"),
    ("MPI_Init", "exit1"),
    ("MPI_Init", "SIGKILL"),
    ("reading", "bug"),
    ("measuring", "memory"),
    ("update", "bug"),
    ("update", "memory"),
    ("update", "exit0"),
    ("update", "SIGKILL"),
    ("update", "SIGSEGV"),
    ("validation", "bug"),
    ("validation", "SIGKILL"),
    ("checkpoint", "bug"),
    ("checkpoint", "SIGKILL"),
    ("update", "SIGUSR1"),
    ("update", "SIGTERM"),
    ("update", "SIGSTOP"),
    ("before MPI_Finalize", "exit0"),
    ("before MPI_Finalize", "exit1"),
    ("before MPI_Finalize", "SIGKILL"),
    ("before MPI_Finalize", "hang"),
]
IN_TIME = {"before MPI": "ends before MPI_Init", "MPI_Init": "ends in MPI_Init"}
TITLES = ("fault", "MPI", "ranks", "exit code", "seconds", "first words", "after a resume")


@dataclass(frozen=True)
class Case:
    """What happens to which rank of how many."""

    place: str
    how: str
    ranks: int

    @property
    def kind(self) -> str:
        """For the sums."""
        return f"a rank {IN_TIME.get(self.place, 'ends before MPI_Finalize' if 'MPI' in self.place else 'in its work')}"


def cases() -> list[Case]:
    """On 1, 2 and 3 ranks; a rank that is alone has nobody who could notice what happens around MPI."""
    alone = [(place, how) for place, how in FAULTS if how != "SIGSTOP" and "MPI" not in place]
    return [Case(*fault, ranks) for ranks in (1, 2, 3) for fault in (alone if ranks == 1 else FAULTS)]


def harm(mpi: MPI, data: Path, expected: str, sums: Sums) -> None:
    """Each fault; `expected` is the digest of a run that nobody disturbs."""

    def row(case: Case) -> Sequence[object]:
        rank = "0" if case.place == "checkpoint" else str(case.ranks - 1)
        with Place(mpi, data) as place:
            stalls = case.how == "SIGSTOP" or (case.how == "hang" and "MPI" not in case.place)
            stall = STALL if stalls else ()  # else nobody is to be in a hurry
            wait = str(WAIT if "MPI" in case.place else LIMIT)
            command = mpi.faulty(case.place, rank, case.how, *OPTIONS, *stall)
            ended = place.run(command, case.ranks, DISTBP_WAIT_SECONDS=wait)
            wrong = _after(mpi, case, place, ended)
            result = ", ".join(filter(None, [wrong, place.goes_on(expected, *OPTIONS, ranks=case.ranks % 3 + 1)]))
        what = f"{case.how} at {case.place}"
        return what, mpi.name, case.ranks, ended.code, f"{ended.seconds:.1f}", ended.words, result

    for case, result in zip(cases(), show(TITLES, cases(), row, CORES), strict=True):
        sums.add(f"{case.kind} ({mpi.name})", result)


def _after(mpi: MPI, case: Case, place: Place, ended: Ended) -> str:
    """What is not as it should be; no job that is not done ends with 0, but for what MPICH's mpirun makes of it."""
    failed = list(range(1, 256))
    codes = [75] if case.how in ("SIGUSR1", "SIGTERM") else failed
    if case.place == "before MPI_Finalize" and case.how != "hang":
        codes = [0, *failed]  # all is done
    elif case.how == "exit0" and case.place != "before MPI" and mpi.name == "mpich":
        codes = [0, *failed]  # findings/mpich_mpirun_zero.sh: 0 for a job that it has cut short
    if case.how == "exit0" and case.ranks == 1:
        codes = [0]  # nobody is there who could know better
    most = case.ranks if case.how in ("SIGSTOP", "hang") else 1  # each rank that waits says where
    return place.after(ended, codes, range(most + 1), may_trace=case.how == "bug")
