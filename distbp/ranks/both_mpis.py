"""Both MPIs in one environment: mpi4py loads MPICH's library there, whichever of them has the mpirun of that name.

Their wheels put a libmpi each beside the other, and an mpirun in the place of the other.
"""

from __future__ import annotations

import sys
from pathlib import Path

VARIABLE = "MPI4PY_LIBMPI"
NAMES = {True: ("libmpi.so.40", "libmpi.40.dylib"), False: ("libmpi.so.12", "libmpi.12.dylib")}  # of Open MPI or not


def is_open_mpi(library: str) -> bool:
    """By its name."""
    return library.startswith("Open MPI")


def library_beside(*, open_mpi: bool, directory: Path | None = None) -> Path | None:
    """The library of Open MPI, or of MPICH, that was installed by pip where this Python is."""
    where = directory or Path(sys.prefix) / "lib"
    return next((where / name for name in NAMES[open_mpi] if (where / name).exists()), None)


def how_to_load(library: str, directory: Path | None = None) -> str:
    """What has mpi4py load the MPI that `library`, which it has loaded, is not: NAME=VALUE; "" where there is none."""
    own, other = (library_beside(open_mpi=is_open_mpi(library) == same, directory=directory) for same in (True, False))
    return f"{VARIABLE}={other}" if own and other else ""


def why_not_loaded(environ_value: str | None) -> str:
    """How to mend that mpi4py could load no library, where it was told which one or there is one; else ""."""
    found = [path for path in (library_beside(open_mpi=kind) for kind in (False, True)) if path]
    if environ_value is not None:
        instead = f", or set it to {found[0]}" if found else ""
        return f"{VARIABLE}={environ_value} names no MPI library that can be loaded here: unset it{instead}"
    return f"set {VARIABLE} to the library to load: {' or '.join(map(str, found))}" if found else ""
