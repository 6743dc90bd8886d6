"""Many runs in one process: what it holds after each tenth of them.  See scripts/many_runs."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

import distbp

MIB = 2**20
GROWTH_MIB, GROWTH_FILES = 4.0, 0  # that is no leak: per 5,000 runs


def held() -> tuple[float, int, int]:
    """Memory of this process in MiB, open files, threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB, len(os.listdir("/proc/self/fd")), threading.active_count()


def main(runs: int) -> int:
    """Returns 1 if memory or files grow from the first tenth on."""
    comm = MPI.COMM_WORLD
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    y = (x.sum(axis=1) > 0).astype(np.int64)
    digests, rows, begun = set(), [], time.perf_counter()
    for run in range(1, runs + 1):
        digests.add(distbp.train((x, y), comm=comm, hidden=[4], epochs=2, reproducible=True, grain=8).digest)
        if run % max(1, runs // 10) == 0:
            rows.append((run, *held(), time.perf_counter() - begun))
    if comm.rank == 0:
        sys.stdout.write(f"{MPI.get_vendor()[0]}, {comm.size} ranks, rank 0\n\n| runs | MiB | files | threads | s |\n")
        sys.stdout.write("|---|---|---|---|---|\n")
        for row in rows:
            sys.stdout.write("| {} | {:.1f} | {} | {} | {:.0f} |\n".format(*row))
        sys.stdout.write(f"\ndigests: {len(digests)}\n\n")
    grown = rows[-1][1] - rows[0][1] > GROWTH_MIB or rows[-1][2] - rows[0][2] > GROWTH_FILES
    return int(comm.allreduce(int(grown or len(digests) > 1), MPI.MAX))


sys.exit(main(int(sys.argv[1])))
