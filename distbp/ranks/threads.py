"""BLAS threads: cores of the node, or of the job there, divided by its ranks, unless the user has said otherwise."""

from __future__ import annotations

import os

from distbp.ranks.communicator import Communicator
from distbp.ranks.job import job_of

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")


def set_threads(comm: Communicator, asked: int, *, reproducible: bool = False) -> tuple[int, str]:
    """Limits the BLAS of this process; returns the threads per rank of rank 0 and where the number comes from.

    A reproducible run has one, unless the user has said otherwise: products on another number of threads may have
    other bits, and the cores for each rank depend on the number of ranks.  A rank that is bound to cores of its own
    counts those; ranks that may run on the same cores share them.  Where nothing binds the processes of a job to its
    cpus, they are divided by all ranks of the node.
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    here = comm.node_ranks()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    masks = comm.allgather(cores)
    sharing = sum(1 for rank in here if masks[rank] & cores)
    if asked:
        threads, source = asked, "--threads"
    elif name := next((name for name in VARIABLES if os.environ.get(name)), None):
        return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1), name
    elif reproducible:
        threads, source = 1, "--reproducible"
    else:
        count, among, of_job = len(cores), sharing, ""
        cpus = job_of(os.environ).cpus
        if cpus and cpus // len(here) < count // among:  # nothing binds the processes of the job to its cpus
            count, among, of_job = cpus, len(here), " of the job"
        threads = max(1, count // among)
        source = f"{count} core{'s' * (count > 1)}{of_job} for {among} rank{'s' * (among > 1)}"
    threadpool_limits(threads, user_api="blas")
    return threads, source
