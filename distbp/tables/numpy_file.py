"""The arrays of NPY and NPZ files, described without reading them; never unpickled."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from distbp.errors import DataError
from distbp.tables.packed_file import is_packed, unpacked
from distbp.tables.stored_array import DAMAGE, StoredArray, check_shape


def npy(path: str) -> StoredArray:
    """The array of a .npy file, which may be packed.  Raises DataError."""
    with unpacked(path) as file:
        shape, fortran, dtype = _header(path, file)
        start = file.tell()
    packed = is_packed(path)
    check_shape(path, shape, dtype, 2**62 if packed else os.path.getsize(path) - start)

    @contextmanager
    def at_values() -> Iterator[IO[bytes]]:
        with unpacked(path) as file:
            file.seek(start)
            yield file

    return StoredArray(path, shape, dtype, at_values, fortran, seekable=not packed)


def npz(path: str) -> dict[str, StoredArray]:
    """The arrays of a .npz file by name.  Raises DataError."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in (name for name in archive.namelist() if name.endswith(".npy")):
                name = member.removesuffix(".npy")
                with archive.open(member) as file:
                    shape, fortran, dtype = _header(f"{path}: {name}", file)
                arrays[name] = StoredArray(f"{path}: {name}", shape, dtype, _Member(path, member), fortran)
    except DAMAGE as error:
        raise DataError(f"{path}: not a NumPy archive: {error}") from None
    return arrays


class _Member:
    """Opens an array of an archive where its values begin."""

    def __init__(self, path: str, member: str) -> None:
        self._path, self._member = path, member

    @contextmanager
    def __call__(self) -> Iterator[IO[bytes]]:
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
                _header(f"{self._path}: {self._member}", file)
                yield file
        except DAMAGE as error:
            raise DataError(f"{self._path}: {self._member}: cannot be read: {error}") from None


def _header(name: str, file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except DAMAGE as error:
        raise DataError(f"{name}: not a NumPy array: {str(error) or type(error).__name__}") from None
    check_shape(name, shape, dtype)
    return shape, fortran, dtype
