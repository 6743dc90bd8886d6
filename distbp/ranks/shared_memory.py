"""Memory that the ranks of a node share: how much there is, whether MPI can start with it, and who sees whom.

MPI libraries keep it in files of /dev/shm, and take what they find there for memory: where it is full they die of a bus
error.  Containers have 64 MiB of it if nothing else is said, and each container has its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distbp.ranks.node_memory import in_units

SHARED_MEMORY = "/dev/shm"  # where MPI libraries keep the memory that ranks share
MPICH_BYTES = 2**20 + 2**16  # of each rank on a node, in MPI_Init of MPICH (4.0 to 5.0, measured; 64 cells of 16 KiB)
MPICH_WITHOUT = "MPIR_CVAR_NOLOCAL"
# Ranks on this node, and the number of this one among them, as launchers tell them.
COUNTS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")
NUMBERS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
LARGER = f"a larger {SHARED_MEMORY} (containers: --shm-size)"


def free_shared_bytes(directory: str = SHARED_MEMORY) -> int:
    """Bytes free where MPI libraries keep the memory that ranks share; 0 where there is no such place."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def why_no_start(library: str, environ: Mapping[str, str], free: int) -> str:
    """Why this MPI library would die in MPI_Init with so many bytes free, and how to mend it; else "".

    The first rank of a node asks, before MPI starts: it makes the file, and what it has made is not free any more.
    """
    ranks = _number(environ, COUNTS) or (_tasks_here(environ) if "SLURM_STEP_ID" in environ else 1)
    without = environ.get(MPICH_WITHOUT, "0").lower() in ("1", "yes", "true", "on")
    needed = ranks * MPICH_BYTES
    if not library.startswith("MPICH") or without or ranks < 2 or _number(environ, NUMBERS) or free >= needed:
        return ""
    return (
        f"{library} takes {in_units(needed)} of shared memory for {ranks} ranks on a node, and {SHARED_MEMORY} has "
        f"{in_units(free)} free: it would die of a bus error\n"
        f"give it {LARGER}, remove what ended jobs have left there, start fewer ranks on a node, or set "
        f"{MPICH_WITHOUT}=1: then ranks of a node talk as if they were on several"
    )


def _number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    found = (environ.get(name, "") for name in names)
    return next((int(text) for text in found if text.isdecimal() and len(text) < 10), None)


def _tasks_here(environ: Mapping[str, str]) -> int:
    """4 of 4(x2),3: where nodes have different numbers, the smallest, lest a sound start be refused."""
    parts = [part.partition("(")[0] for part in environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(",")]
    return min((int(part) for part in parts if part.isdecimal() and len(part) < 10), default=1)


def all_see_first(node: Any, directory: str = SHARED_MEMORY) -> bool:
    """Whether all ranks of an MPI communicator see there what its first rank has written.

    All of its ranks call it.  A launcher says who is on a node; but ranks in containers of their own share nothing.
    """
    token, path = secrets.token_bytes(16), Path(directory) / f"distbp-{secrets.token_hex(8)}"
    written = None
    if node.rank == 0:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                written = (str(path), token) if os.write(descriptor, token) == len(token) else None
            finally:
                os.close(descriptor)
    told = node.bcast(written)
    sees = False
    if told is not None:
        with contextlib.suppress(OSError):
            sees = Path(told[0]).read_bytes() == told[1]
    all_see = all(node.allgather(sees))
    if node.rank == 0:
        path.unlink(missing_ok=True)
    return all_see
