"""An array in a file, whose rows are read one block after another: what NPY, NPZ and IDX files have in common."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.row_table import LARGEST_ROW, STRING_BYTES, Part, RowColumn
from distbp.tables.source_files import shown
from distbp.tables.table import TableColumn

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


@dataclass(frozen=True)
class StoredArray:
    """An array of shape (N, …) and of plain values: numbers, strings of fixed length, or a structure of these.

    `open`: gives the file, where the values begin.  `seekable`: whether it is cheap to go to another place of it.
    With the first axis the fastest (`fortran`) a block is put together from many places; where the file is packed, so
    that it can only be read from its beginning to its end, the whole array is read at once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    fortran: bool = False
    seekable: bool = False

    @property
    def rows(self) -> int | None:
        """N."""
        return self.shape[0] if self.shape else None

    def stored(self, rows: int) -> Iterator[NDArray[Any]]:
        """All rows as they are in the file, in blocks of shape (rows, …).  Raises DataError."""
        rows = max(1, min(rows, LARGEST_ROW // max(1, self._row_bytes)))
        with self.open() as file:
            if self.fortran and self.seekable and len(self.shape) > 1:
                yield from self._gathered(file, rows)
            elif self.fortran and len(self.shape) > 1:
                content = self._read(file, self.shape[0] * self._row_bytes, 0)
                whole = np.frombuffer(content, self.dtype).reshape(self.shape, order="F")
                yield from (whole[first : first + rows] for first in range(0, len(whole), rows))
            else:
                for first in range(0, self.shape[0], rows):
                    count = min(rows, self.shape[0] - first)
                    content = self._read(file, count * self._row_bytes, first)
                    yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        """See `RowSource`; a key is the path of a field, "a.b", or "" for the array itself."""
        for block in self.stored(rows):
            yield [(plain(_field(block, key), self.name), None) for key in keys]

    @property
    def _row_bytes(self) -> int:
        return prod(self.shape[1:]) * self.dtype.itemsize

    def _gathered(self, file: IO[bytes], rows: int) -> Iterator[NDArray[Any]]:
        """Blocks of rows of an array that is stored with the first axis the fastest."""
        start, size, width = file.tell(), self.dtype.itemsize, prod(self.shape[1:])
        for first in range(0, self.shape[0], rows):
            count = min(rows, self.shape[0] - first)
            parts = []
            for column in range(width):
                file.seek(start + (column * self.shape[0] + first) * size)
                parts.append(self._read(file, count * size, first))
            block = np.frombuffer(b"".join(parts), self.dtype).reshape((count, *self.shape[1:]), order="F")
            yield np.ascontiguousarray(block)

    def _read(self, file: IO[bytes], size: int, row: int) -> bytes:
        try:
            content = file.read(size)
        except DAMAGE as error:
            raise DataError(f"{self.name}: cannot be read after row {row}: {error}") from None
        if len(content) != size:
            raise DataError(
                f"{self.name}: ends after row {row + len(content) // max(1, self._row_bytes)} of {self.rows}"
            )
        return content


def array_columns(name: str, array: StoredArray) -> list[RowColumn]:
    """The column of an array, or one for each field of a structure: "name.field", or "field" where `name` is ""."""
    if not array.shape:
        return [_column(name, array, "", array.dtype, ())]
    found = []
    for path, dtype in _fields(array.dtype):
        shape = (*array.shape[1:], *dtype.shape)
        found.append(_column(".".join(filter(None, (name, path))), array, path, dtype.base, shape))
    return found


def _column(name: str, array: StoredArray, key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> RowColumn:
    problem = why_no_data(dtype)
    not_data = "a single value" if not array.shape else problem
    size = prod(shape) * (dtype.itemsize + STRING_BYTES * (dtype.kind in "SU"))
    if not array.shape:
        problem = "is a single value; expected a value for each row"
    return RowColumn(TableColumn(name, not_data=not_data), array, key, shape, size, problem)


def why_no_data(dtype: np.dtype[Any]) -> str:
    """Why values of this type are neither numbers nor strings that can be used, or ""."""
    if dtype.hasobject:
        return "holds Python objects, which could run code; save it as numbers or strings"
    if dtype.kind in "biuf" and dtype.itemsize > 8:
        return f"is of type {dtype}; save it as float64"
    if dtype.kind in "SU" and not 0 < dtype.itemsize <= 8000:
        return f"has strings of {dtype.itemsize} bytes; expected at most 8000"
    if dtype.kind not in "biufSU":
        return f"is of type {dtype}; expected integers, real numbers or strings"
    return ""


def plain(array: NDArray[Any], name: str) -> NDArray[Any]:
    """In this machine's byte order; strings as str, and bytes that are no bool as bool."""
    if array.dtype.kind in "SU":
        return _strings(array, name)
    if array.dtype.kind == "b":
        return np.asarray(array.view(np.uint8) != 0)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _strings(array: NDArray[Any], name: str) -> NDArray[Any]:
    try:
        texts = [v.decode() if isinstance(v, bytes) else v for v in array.reshape(-1).tolist()]
    except (UnicodeDecodeError, ValueError):
        raise DataError(f"{name}: strings that are not UTF-8; expected text or numbers") from None
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(array.shape)


def _fields(dtype: np.dtype[Any]) -> Iterator[tuple[str, np.dtype[Any]]]:
    """The paths of the fields of a structure, those inside fields included; ("", dtype) of what is none."""
    if dtype.names is None:
        yield "", dtype
        return
    for name in dtype.names:
        field = dtype[name]
        if field.names is None:  # a structure in an array of them keeps its name alone, and is no data
            yield name, field
        else:
            yield from ((f"{name}.{path}", inner) for path, inner in _fields(field))


def _field(block: NDArray[Any], path: str) -> NDArray[Any]:
    for name in path.split(".") if path else ():
        block = block[name]
    return block


def check_shape(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], available: int = 2**62) -> None:
    """Raises DataError for a shape that no array has, or that needs more bytes than there are."""
    needed = prod(shape) * dtype.itemsize
    if len(shape) > 32 or any(size < 0 for size in shape) or dtype.itemsize == 0 or needed > 2**62:
        raise DataError(f"{name}: its header says {len(shape)} dimensions, {shown(str(shape))}; the file is damaged")
    if needed > available:
        raise DataError(
            f"{name}: its header says {needed} bytes of values, and there are {available}; it is cut or damaged"
        )
