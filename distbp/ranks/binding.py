"""Cores that stay idle because a launcher binds each of its ranks to less than there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from distbp.ranks.job import HYDRA, OPEN_MPI, Job

PROCESSES = Path("/proc")
# Who starts the ranks on a node, as the kernel names them: 15 letters
STARTERS = frozenset(
    ("mpirun", "mpiexec", "prterun", "prte", "prted", "orterun", "orted", "mpiexec.hydra", "hydra_pmi_proxy")
)
FREE = {OPEN_MPI: "mpirun --bind-to none", HYDRA: "mpiexec -bind-to none"}


def cores_of(process: int) -> frozenset[int]:
    """Those that a process may run on; 0 is this one."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(process))
    return frozenset(range(os.cpu_count() or 1))


def idle_cores(job: Job, ranks_here: Iterable[frozenset[int]]) -> str:
    """'7 of 8 cores are idle, for …', where the launcher has bound the ranks of this node; or ''."""
    used = len(frozenset().union(*ranks_here))
    if job.launcher.startswith("srun"):
        there, mend = min(job.cpus or 0, os.cpu_count() or 1), "srun --cpus-per-task"
    elif job.launcher in FREE:
        there, mend = len(cores_of_starter(os.getppid())), FREE[job.launcher]
    else:
        return ""
    idle = there - used
    if idle <= 0:
        return ""
    return f"{idle} of {there} cores {'is' if idle == 1 else 'are'} idle, for the launcher binds its ranks: {mend}"


def cores_of_starter(
    process: int, processes: Path = PROCESSES, cores: Callable[[int], frozenset[int]] = cores_of
) -> frozenset[int]:
    """Those of the process above this one that has started the ranks of this node; none where it is not seen."""
    try:
        while process > 1:
            said = dict(line.split(":", 1) for line in (processes / f"{process}/status").read_text().splitlines())
            if said["Name"].strip() in STARTERS:
                return cores(process)
            process = int(said["PPid"])
    except (OSError, ValueError, KeyError):
        pass
    return frozenset()
