"""Many runs in one process: what it holds after each tenth of them.  See scripts/many_runs."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

import distbp
from distbp.ranks.mpi import MPIRank

MIB = 2**20
GROWTH_MIB, GROWTH_FILES = 4.0, 0  # that is no leak: per 5,000 runs


def held() -> tuple[float, int, int]:
    """Memory of this process in MiB, open files, threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB, len(os.listdir("/proc/self/fd")), threading.active_count()


def windows_made() -> list[int]:
    """The number of windows of shared memory that this process has made, from now on."""
    made, allocate = [0], MPIRank._allocate

    def counted(rank: MPIRank, size: int, item: int) -> Any:
        made[0] += 1
        return allocate(rank, size, item)

    MPIRank._allocate = counted  # type: ignore[method-assign]
    return made


def kept_by_library(comm: MPI.Comm, times: int = 9000) -> float:
    """MiB that the MPI library keeps of a window that was made and freed: see findings/mpich_freed_windows.sh."""
    for _ in range(300):
        MPI.Win.Allocate_shared(4096, 1, comm=comm).Free()
    before = held()[0]
    for _ in range(times):
        MPI.Win.Allocate_shared(4096, 1, comm=comm).Free()
    return (held()[0] - before) / times


def main(runs: int) -> int:
    """Returns 1 if memory grows from the first tenth on, by more than the MPI library keeps for itself, or files do."""
    comm = MPI.COMM_WORLD
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    y = (x.sum(axis=1) > 0).astype(np.int64)
    digests, rows, made, begun = set(), [], windows_made(), time.perf_counter()
    modes: list[dict[str, Any]] = [{"reproducible": True, "grain": 8}, {"engine": "numpy"}, {}]  # {}: the compiled step
    for run in range(1, runs + 1):
        mode = run % len(modes)
        digests.add((mode, distbp.train((x, y), comm=comm, hidden=[4], epochs=2, **modes[mode]).digest))
        if run % max(1, runs // 10) == 0:
            rows.append((run, *held(), time.perf_counter() - begun, made[0]))
    if comm.rank == 0:
        sys.stdout.write(f"{MPI.get_vendor()[0]}, {comm.size} ranks, rank 0\n\n")
        sys.stdout.write("| runs | MiB | files | threads | s | windows |\n")
        sys.stdout.write("|---|---|---|---|---|---|\n")
        for row in rows:
            sys.stdout.write("| {} | {:.1f} | {} | {} | {:.0f} | {} |\n".format(*row))
        sys.stdout.write(f"\ndigests: {len(digests)}, of {len(modes)} ways to train\n\n")
    kept = kept_by_library(comm) * (rows[-1][-1] - rows[0][-1])
    if comm.rank == 0:
        sys.stdout.write(f"kept by the MPI library of as many windows, freed: {kept:.1f} MiB\n\n")
    grown = rows[-1][1] - rows[0][1] - kept > GROWTH_MIB or rows[-1][2] - rows[0][2] > GROWTH_FILES
    return int(comm.allreduce(int(grown or len(digests) > len(modes)), MPI.MAX))


sys.exit(main(int(sys.argv[1])))
