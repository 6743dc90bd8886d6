"""Sparse matrices in CSR form, as scipy's save_npz and others write them, made dense a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.row_table import BLOCK_BYTES, LARGEST_ROW, Part, RowColumn
from distbp.tables.stored_array import StoredArray
from distbp.tables.table import TableColumn

PARTS = ("data", "indices", "indptr", "shape")


class SparseRows:
    """The rows of a matrix (N, columns).

    Row i has `data[indptr[i] : indptr[i + 1]]` in the columns `indices[…]`, zero elsewhere; what is given twice is
    added.  Only a block of rows, and the numbers in it, are in memory.  Raises DataError where the three do not fit.
    """

    def __init__(self, name: str, parts: dict[str, StoredArray]) -> None:
        self.name = name
        self._data, self._indices, self._indptr = parts["data"], parts["indices"], parts["indptr"]
        shape = _whole(parts["shape"], name)
        for part in PARTS[:3]:
            if len(parts[part].shape) != 1 or parts[part].dtype.kind not in ("biuf" if part == "data" else "iu"):
                raise DataError(f"{name}: {part} is no row of numbers; expected a matrix in CSR form")
        if self._data.shape != self._indices.shape or len(shape) != 2 or self._indptr.shape[0] != shape[0] + 1:
            raise DataError(
                f"{name}: not a matrix in CSR form: a shape of {shape}, {self._data.shape[0]} numbers, "
                f"{self._indices.shape[0]} columns of them, {self._indptr.shape[0]} beginnings of rows"
            )
        self.rows, self.width = shape
        if self.width * self._data.dtype.itemsize > LARGEST_ROW:
            raise DataError(f"{name}: has {self.width} columns, which are more than can be stored in full")

    def column(self, name: str) -> RowColumn:
        """The matrix as a column of a table."""
        about = TableColumn(name, notes=("a sparse matrix, made dense",))
        return RowColumn(about, self, "", (self.width,), self.width * self._data.dtype.itemsize)

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        rows = max(1, min(rows, BLOCK_BYTES // max(1, self.width * self._data.dtype.itemsize)))
        data, indices = _Numbers(self._data), _Numbers(self._indices)
        last, done = np.int64(0), 0
        for starts in _starts(self._indptr, rows):
            ends = np.concatenate([[last], starts])
            if (np.diff(ends) < 0).any() or ends[-1] > self._data.shape[0]:
                raise DataError(f"{self.name}: the beginnings of rows {done} to {done + len(starts)} are not in order")
            yield [(self._dense(np.diff(ends), data, indices, done), None)] * len(keys)
            last, done = ends[-1], done + len(starts)

    def _dense(self, counts: NDArray[Any], data: _Numbers, indices: _Numbers, done: int) -> NDArray[Any]:
        """A block of rows with `counts` numbers each."""
        dense = np.zeros((len(counts), self.width), self._data.dtype.newbyteorder("="))
        ends, at = np.cumsum(counts), 0
        while at < ends[-1]:  # more numbers than places only where some are given twice
            some = min(int(ends[-1]) - at, BLOCK_BYTES // 8)
            columns, values = indices.take(some), data.take(some)
            rows = self._rows(counts, ends, at, some)
            if columns.min() < 0 or columns.max() >= self.width:
                bad = int(((columns < 0) | (columns >= self.width)).argmax())
                raise DataError(
                    f"{self.name}, row {done + rows[bad]}: column {columns[bad]}; expected 0 to {self.width - 1}"
                )
            places = rows * self.width + columns.astype(np.int64, copy=False)
            if at == 0 and some == ends[-1] and (places[1:] > places[:-1]).all():
                dense.reshape(-1)[places] = values
            else:
                np.add.at(dense.reshape(-1), places, values)
            at += some
        return dense

    def _rows(self, counts: NDArray[Any], ends: NDArray[Any], at: int, some: int) -> NDArray[Any]:
        """The rows of numbers at … at + some - 1 of a block."""
        if at == 0 and some == ends[-1]:
            return np.repeat(np.arange(len(counts)), counts)
        return np.searchsorted(ends, np.arange(at, at + some), side="right")


class _Numbers:
    """So many numbers of an array at a time."""

    def __init__(self, array: StoredArray) -> None:
        self._blocks = array.blocks([""], BLOCK_BYTES // 8)
        self._left: NDArray[Any] = np.empty(0)

    def take(self, count: int) -> NDArray[Any]:
        parts = []
        while count:
            if not len(self._left):
                self._left = next(self._blocks)[0][0]
            parts.append(self._left[:count])
            self._left = self._left[count:]
            count -= len(parts[-1])
        return np.concatenate(parts)


def _starts(indptr: StoredArray, rows: int) -> Iterator[NDArray[np.int64]]:
    """The ends of the rows, `rows` of them at a time."""
    numbers, left = _Numbers(indptr), indptr.shape[0] - 1
    if numbers.take(1)[0] != 0:
        raise DataError(f"{indptr.name}: begins with another number than 0; expected a matrix in CSR form")
    while left:
        count = min(rows, left)
        yield numbers.take(count).astype(np.int64)
        left -= count


def _whole(array: StoredArray, name: str) -> tuple[int, ...]:
    """The numbers of a short array."""
    if array.shape not in ((1,), (2,)) or array.dtype.kind not in "iu":
        raise DataError(f"{name}: the shape of a sparse matrix is not two whole numbers")
    return tuple(int(size) for block in array.stored(2) for size in block.tolist())
