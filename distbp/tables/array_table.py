"""NPY, NPZ and IDX files as tables, for `distbp import`; read block by block, never unpickled."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.mathematics.finite import first_not_finite
from distbp.tables.source_files import is_packed, opened, shown

BLOCK_BYTES = 8 * 2**20
DAMAGE = (  # what NumPy's and Python's readers raise about damaged files
    ValueError,
    EOFError,
    OSError,
    TypeError,
    KeyError,
    SyntaxError,
    OverflowError,
    RecursionError,
    MemoryError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}  # of LeCun's MNIST page


@dataclass
class Array:
    """An array in a file, whose rows can be read one block after another."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[], Any]  # a context manager that gives the file, where the values begin
    fortran: bool = False

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All rows, in blocks of shape (rows, …)."""
        row = prod(self.shape[1:]) * self.dtype.itemsize
        rows = max(1, BLOCK_BYTES // max(1, row)) if not self.fortran else max(1, self.shape[0])
        with self.open() as file:
            for first in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - first)
                try:
                    content = file.read(count * row)
                except DAMAGE as error:
                    raise DataError(f"{self.name}: cannot be read after row {first}: {error}") from None
                if len(content) != count * row:
                    raise DataError(
                        f"{self.name}: ends after row {first + len(content) // max(1, row)} of {self.shape[0]}"
                    )
                values = np.frombuffer(content, self.dtype)
                order = "F" if self.fortran else "C"
                yield values.reshape((count, *self.shape[1:]), order=order)  # type: ignore[call-overload]


class ArrayTable:
    """Arrays with the same number of rows, under names."""

    is_text = False

    def __init__(self, name: str, arrays: dict[str, Array]) -> None:
        self.name, self._arrays = name, arrays
        self.columns = list(arrays)
        for array in arrays.values():
            if not array.shape:
                raise DataError(f"{array.name} is a single value, expected rows")
            longest = 8 if array.dtype.kind in "biuf" else 8000
            if array.dtype.kind not in "biufSU" or array.dtype.itemsize > longest:
                raise DataError(f"{array.name} is of type {array.dtype}; expected integers, real numbers or strings")

    def blocks(self, columns: Sequence[str], *, numbers: bool) -> Iterator[NDArray[Any]]:
        """See `Table`; numbers are in the type of the arrays."""
        arrays = [self._arrays[name] for name in columns]
        for array in arrays:
            if array.shape[0] != arrays[0].shape[0]:
                raise DataError(
                    f"{array.name} has {array.shape[0]} rows, and {arrays[0].name} has {arrays[0].shape[0]}"
                )
            if numbers and array.dtype.kind not in "biuf":
                raise DataError(f"{array.name} is of type {array.dtype}; expected numbers")
        streams = [_Rows(array) for array in arrays]
        widest = max(prod(array.shape[1:]) * array.dtype.itemsize for array in arrays)
        count, done = max(1, BLOCK_BYTES // max(1, widest)), 0
        while done < arrays[0].shape[0]:
            parts = [stream.take(count) for stream in streams]
            block = np.concatenate([_flat(part) for part in parts], axis=1) if len(parts) > 1 else _flat(parts[0])
            row = first_not_finite(block) if numbers else None
            if row is not None:
                raise DataError(f"{self.name}, row {done + row}: not finite: {shown(str(block[row].tolist()))}")
            yield block
            done += len(block)

    def place(self, row: int) -> str:
        """'file.npz, row 17'"""
        return f"{self.name}, row {row}"


class _Rows:
    """So many rows of an array at a time, however its blocks are cut."""

    def __init__(self, array: Array) -> None:
        self._blocks, self._left = array.blocks(), np.empty((0, *array.shape[1:]), array.dtype)

    def take(self, count: int) -> NDArray[Any]:
        parts, missing = [], count
        while missing:
            if not len(self._left):
                self._left = next(self._blocks, self._left)
                if not len(self._left):
                    break
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _flat(rows: NDArray[Any]) -> NDArray[Any]:
    flat = rows.reshape(len(rows), -1)
    if flat.dtype.kind in "SU":
        try:
            return np.array([[v.decode() if isinstance(v, bytes) else v for v in row] for row in flat.tolist()], object)
        except (UnicodeDecodeError, ValueError):
            raise DataError("strings that are not UTF-8; expected labels as text or numbers") from None
    return flat.view(np.uint8) if flat.dtype.kind == "b" else flat.astype(flat.dtype.newbyteorder("="), copy=False)


def npy(path: str) -> Array:
    """The array of a .npy file."""
    with opened(path) as file:
        shape, fortran, dtype = _npy_header(path, file)
        start = file.tell()
    if not is_packed(path):
        _check_shape(path, shape, dtype, os.path.getsize(path) - start)

    @contextmanager
    def at_values() -> Iterator[IO[bytes]]:
        with opened(path) as file:
            file.seek(start)
            yield file

    return Array(path, shape, dtype, at_values, fortran)


def npz(path: str) -> dict[str, Array]:
    """The arrays of a .npz file."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            for member in members:
                name = f"{path}: {member.removesuffix('.npy')}"
                with archive.open(member) as file:
                    shape, fortran, dtype = _npy_header(name, file)

                @contextmanager
                def at_values(member: str = member, name: str = name) -> Iterator[IO[bytes]]:
                    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                        _npy_header(name, file)
                        yield file

                arrays[member.removesuffix(".npy")] = Array(name, shape, dtype, at_values, fortran)
    except DAMAGE as error:
        raise DataError(f"{path}: not a NumPy archive: {error}") from None
    return arrays


def _npy_header(name: str, file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except DAMAGE as error:
        raise DataError(f"{name}: not a NumPy array: {str(error) or type(error).__name__}") from None
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, which could run code; save it as numbers or strings")
    _check_shape(name, shape, dtype)
    return shape, fortran, dtype


def _check_shape(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], available: int = 2**62) -> None:
    """Raises DataError for a shape that no array has, or that needs more bytes than there are."""
    needed = prod(shape) * dtype.itemsize
    if len(shape) > 32 or any(size < 0 for size in shape) or dtype.itemsize == 0 or needed > 2**62:
        raise DataError(f"{name}: its header says {len(shape)} dimensions, {shown(str(shape))}; the file is damaged")
    if needed > available:
        raise DataError(
            f"{name}: its header says {needed} bytes of values, and there are {available}; it is cut or damaged"
        )


def is_idx(path: str) -> bool:
    """Whether the file, maybe gzipped, begins as IDX files do."""
    with opened(path) as file:
        magic = file.read(4)
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in IDX_TYPES and magic[3] > 0


def idx(path: str) -> Array:
    """The array of an IDX file, which is MNIST's format."""
    with opened(path) as file:
        magic = file.read(4)
        dtype, dimensions = np.dtype(IDX_TYPES[magic[2]]), magic[3]
        header = file.read(4 * dimensions)
    if len(header) != 4 * dimensions:
        raise DataError(f"{path}: ends inside its header")
    sizes = np.frombuffer(header, ">u4")
    available = 2**62 if is_packed(path) else os.path.getsize(path) - 4 - len(header)
    _check_shape(path, tuple(sizes.tolist()), dtype, available)

    @contextmanager
    def at_values() -> Iterator[IO[bytes]]:
        with opened(path) as file:
            file.read(4 + 4 * dimensions)
            yield file

    return Array(path, tuple(sizes.tolist()), dtype, at_values)
