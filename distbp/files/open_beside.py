"""HDF5 files that this process has open already, such as a notebook that looks into its data with h5py."""

from __future__ import annotations

import os
import re

import h5py

LOCKING = (False, True, "best-effort")
OTHER_FLAGS = re.compile(r"(flag values|close degree) (don't|doesn't) match")


def open_beside(path: str | os.PathLike[str], error: Exception) -> h5py.File | None:
    """Opens a file that could not be opened because this process has it open with other flags.

    HDF5 opens a file a second time only with the flags of the first time, whatever these are.  The result is None if
    `error` says something else, or if the file cannot be opened for reading with any flags.
    """
    if not OTHER_FLAGS.search(str(error)):
        return None
    for locking in LOCKING:
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError:
            continue
    return None
