"""The array of an IDX file, which is MNIST's format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from distbp.errors import DataError
from distbp.tables.packed_file import is_packed, unpacked
from distbp.tables.stored_array import StoredArray, check_shape

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}  # of LeCun's MNIST page


def is_idx(begin: bytes) -> bool:
    """Whether these are the first bytes of an IDX file."""
    return len(begin) >= 4 and begin[:2] == b"\0\0" and begin[2] in IDX_TYPES and begin[3] > 0


def idx(path: str) -> StoredArray:
    """The array of an IDX file, which may be packed.  Raises DataError."""
    with unpacked(path) as file:
        magic = file.read(4)
        dtype, dimensions = np.dtype(IDX_TYPES[magic[2]]), magic[3]
        header = file.read(4 * dimensions)
    if len(header) != 4 * dimensions:
        raise DataError(f"{path}: ends inside its header")
    shape, start = tuple(np.frombuffer(header, ">u4").tolist()), 4 + len(header)
    check_shape(path, shape, dtype, 2**62 if is_packed(path) else os.path.getsize(path) - start)

    @contextmanager
    def at_values() -> Iterator[IO[bytes]]:
        with unpacked(path) as file:
            file.read(start)
            yield file

    return StoredArray(path, shape, dtype, at_values)
