"""BLAS threads: cores of the node, or of the job there, divided by its ranks, unless the user has said otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distbp.ranks.binding import cores_of, idle_cores
from distbp.ranks.communicator import Communicator
from distbp.ranks.control_groups import Quota, quotas
from distbp.ranks.job import job_of

# What each BLAS follows, by its name in threadpoolctl, the first one that is set; Accelerate has no name there.
OPENMP, ACCELERATE = "OMP_NUM_THREADS", "Accelerate"
FOLLOWED = {
    "openblas": ("OPENBLAS_NUM_THREADS", "OPENBLAS_DEFAULT_NUM_THREADS", "GOTO_NUM_THREADS", OPENMP),
    "mkl": ("MKL_NUM_THREADS", OPENMP),
    "blis": ("BLIS_NUM_THREADS", OPENMP),
    ACCELERATE: ("VECLIB_MAXIMUM_THREADS",),
}
NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}
VARIABLES = tuple(dict.fromkeys(name for names in FOLLOWED.values() for name in names))
MOST = 2**31 - 1  # that BLAS libraries can be told

Pools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Threads:
    """BLAS threads of this rank, where the number comes from, and what is to be said about it; cores that are idle."""

    count: int
    source: str
    notes: tuple[str, ...] = ()
    idle: str = ""

    @property
    def all_notes(self) -> tuple[str, ...]:
        """For commands that do not `describe` them: with a note on cores that are idle."""
        return (*self.notes, f"note      {self.idle}") if self.idle else self.notes

    def describe(self) -> str:
        """2 threads (4 cores for 2 ranks)"""
        return f"{self.count} thread{'s' * (self.count > 1)} ({'; '.join(filter(None, (self.source, self.idle)))})"


@contextmanager
def threads_given_back() -> Iterator[None]:
    """What is inside may limit the threads of the BLAS; afterwards they are as many as before."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=None, user_api="blas"):
        yield


def blas_threads() -> int:
    """How many threads the BLAS of NumPy has now."""
    from threadpoolctl import ThreadpoolController

    return max((pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"), default=1)


def set_threads(comm: Communicator, asked: int, *, reproducible: bool = False) -> Threads:
    """Limits the BLAS of this process to the threads of a rank.

    A variable counts where the BLAS that is loaded follows it.  A reproducible run has one thread, unless the user has
    said otherwise, and then as many as that, however many cores there are: products on another number of threads may
    have other bits, and cores belong to the machine.  A rank that is bound to cores of its own counts those; ranks that
    may run on the same cores, or are under the same CPU quota, share them.  Where nothing binds the processes of a job
    to its cpus, they are divided by all ranks of the node.
    """
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController()  # made once: to find them takes longer in a process that has loaded much
    pools = [pool for pool in libraries.info() if pool["user_api"] == "blas"]
    cores, (said, notes) = cores_of(0), told(os.environ, pools)
    everyone = comm.allgather((cores, quotas()))
    here = [everyone[rank] for rank in comm.node_ranks()]
    if asked:
        threads, source, notes = asked, "--threads", []
    elif said:
        threads, source = said if reproducible else (min(said[0], len(cores)), said[1])
    elif reproducible:
        threads, source = 1, "--reproducible"
    else:
        threads, source = _share(cores, here)
    notes += _about_others(os.environ, pools, threads) if not asked and not said else []
    libraries.limit(limits=threads, user_api="blas")
    acting = max((pool["num_threads"] for pool in libraries.info() if pool["user_api"] == "blas"), default=threads)
    if reproducible and source not in ("--threads", "--reproducible") and acting > len(cores):
        plural = "s" * (len(cores) > 1)
        notes.append(
            f"warning   {acting} BLAS threads ({source}) on {len(cores)} core{plural} are slow; they stay so many, for "
            f"the bits depend on their number: {source}=1 is fast, with bits of its own"
        )
    from_cores = not (asked or said or reproducible)
    idle = idle_cores(job_of(os.environ), [mask for mask, _ in here]) if from_cores or acting > len(cores) else ""
    return Threads(acting, source, tuple(notes), idle)


def _share(cores: frozenset[int], here: Sequence[tuple[frozenset[int], tuple[Quota, ...]]]) -> tuple[int, str]:
    """The threads of a rank, and in words: of its cores, the cpus of its job, its CPU quotas, what gives it fewest.

    `here`: cores and quotas of all ranks of this node.
    """
    shares: list[tuple[int, int, str]] = [(len(cores), sum(1 for mask, _ in here if mask & cores), "")]
    if cpus := job_of(os.environ).cpus:  # where nothing binds the processes of the job to its cpus
        shares.append((cpus, len(here), " of the job"))
    for quota in quotas():
        among = sum(1 for _, others in here if any(other.group == quota.group for other in others))
        shares.append((max(1, int(quota.cores)), max(1, among), " of the CPU quota"))
    count, among, of = min(shares, key=lambda share: share[0] // share[1])
    return max(1, count // among), f"{count} core{'s' * (count > 1)}{of} for {among} rank{'s' * (among > 1)}"


def followed(pools: Pools) -> list[str]:
    """The variables that the loaded BLAS follows, the one that wins first."""
    if not pools:
        return list(FOLLOWED[ACCELERATE])
    names: dict[str, None] = {}
    for pool in pools:
        only_openmp = pool["internal_api"] == "openblas" and pool.get("threading_layer") == "openmp"
        names |= dict.fromkeys((OPENMP,) if only_openmp else FOLLOWED.get(pool["internal_api"], ()))
    return list(names)


def told(environ: Mapping[str, str], pools: Pools) -> tuple[tuple[int, str] | None, list[str]]:
    """The number of threads in the variable that counts, and its name; and a note on those that hold no number."""
    set_here = [name for name in followed(pools) if name in environ]
    numbers = {name: _number(environ[name]) for name in set_here}
    acts = next((name for name in set_here if numbers[name]), None)
    wrong = [name for name in set_here if not numbers[name]]
    notes = []
    if wrong:
        shown = ", ".join(f"{name}={environ[name][:40]!r}" for name in wrong)
        notes = [f"note      {shown}: expected a whole number of threads, 1 or more; this is as if it were not set"]
    return ((numbers[acts], acts) if acts else None), notes


def _about_others(environ: Mapping[str, str], pools: Pools, threads: int) -> list[str]:
    """A note on variables of another BLAS than the loaded one, where they are all that is set."""
    names = followed(pools)
    others = [name for name in VARIABLES if name not in names and _number(environ.get(name, "")) not in (0, threads)]
    if not others:
        return []
    blas = _listed(NAMES.get(pool["internal_api"], str(pool["internal_api"])) for pool in pools) or ACCELERATE
    shown = ", ".join(f"{name}={environ[name]}" for name in others)
    return [f"note      {shown} does not count: the BLAS of NumPy here is {blas}, which follows {_listed(names)}"]


def _listed(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _number(text: str) -> int:
    """0 where it is not a whole number from 1 on."""
    found = re.fullmatch(r"0*([1-9][0-9]*)", text.strip())
    return min(int(found[1][:20]), MOST) if found else 0
