"""Matrices of which the numbers that are not 0 are stored, row by row or column by column: CSR and CSC.

Rows are made dense when they are read, those that are asked for and no others.  What is stored by columns is turned
over once, in memory.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.plain_array import Index, PlainArray, normalized, without_axes
from distbp.errors import DataError

ENTRIES = 2**21  # that are read together


class SparseRows:
    """A matrix of a shape, from the arrays of a group: numbers, their columns, and where each row begins and ends.

    `by_columns`: rows and columns change their parts.  Raises DataError where these do not fit together.
    """

    chunks: tuple[int, ...] | None = None

    def __init__(
        self, path: str, group: h5py.Group, members: tuple[Any, Any, Any], shape: tuple[int, int], by_columns: bool
    ) -> None:
        self.name = f"{path}: {str(group.name).lstrip('/')}"
        self._numbers, self._places, pointers = (PlainArray(path, one) for one in members)
        self.shape: tuple[int, ...] = shape
        self.dtype, self._by_columns = self._numbers.dtype, by_columns
        for array in (self._numbers, self._places, pointers):
            if len(array.shape) != 1 or array.is_text:
                raise DataError(f"{array.name}: expected a list of numbers, as a sparse matrix has them")
        self._pointers = self._checked(pointers, shape[by_columns])
        self._turned: tuple[NDArray[Any], NDArray[Any]] | None = None

    def read(self, index: Index) -> NDArray[Any]:
        """The values at an index, with the zeros between them."""
        (first, rows, step), (left, columns, stride) = normalized(index, self.shape)
        found = np.zeros((rows, columns), self.dtype)
        if self._by_columns and self._turned is None:
            self._turn()
        is_whole = step == 1 and columns == self.shape[1]
        for begin, end in self._blocks(first, rows, step):
            row, column, numbers = self._entries(first + begin * step, first + (end - 1) * step + 1)
            if not is_whole:
                column = column.astype(np.int64) - left
                wanted = (row % step == 0) & (column >= 0) & (column < columns * stride) & (column % stride == 0)
                row, column, numbers = row[wanted] // step, column[wanted] // stride, numbers[wanted]
            _put(found[begin:end], row * columns + column, numbers)
        return without_axes(found, index)

    def _checked(self, pointers: PlainArray, count: int) -> NDArray[np.int64]:
        """Where each row begins, and the last one ends."""
        damage = "the file is damaged, write it again"
        if pointers.shape[0] != count + 1 or pointers.dtype.kind not in "iu":
            raise DataError(
                f"{pointers.name} has {pointers.shape[0]} values of type {pointers.dtype}; expected {count + 1} whole "
                f"numbers for {count} {'columns' if self._by_columns else 'rows'}; {damage}"
            )
        if self._places.dtype.kind not in "iu":
            raise DataError(f"{self._places.name} is of type {self._places.dtype}; expected whole numbers; {damage}")
        if self._numbers.shape != self._places.shape:
            raise DataError(
                f"{self._numbers.name} has {self._numbers.shape[0]} values and {self._places.name} "
                f"{self._places.shape[0]}; expected as many; {damage}"
            )
        found = pointers.read((slice(None),)).astype(np.int64)
        falls = np.flatnonzero(found[1:] < found[:-1])
        if found[0] != 0 or len(falls) or found[-1] > self._numbers.shape[0]:
            at = int(falls[0]) + 1 if len(falls) else (0 if found[0] else count)
            raise DataError(
                f"{pointers.name}, row {at}: {found[at]}; expected numbers from 0 to at most {self._numbers.shape[0]}, "
                f"none less than the one before it; {damage}"
            )
        return found

    def _blocks(self, first: int, rows: int, step: int) -> list[tuple[int, int]]:
        """Runs of the wanted rows, counted from the first, with about so many entries."""
        found, begin = [], 0
        while begin < rows:
            limit = self._pointers[first + begin * step] + ENTRIES
            end = (int(np.searchsorted(self._pointers, limit, "right")) - 1 - first - 1) // step + 1
            end = min(max(end, begin + 1), rows)
            found.append((begin, end))
            begin = end
        return found

    def _entries(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Of rows start … stop - 1 each entry: its row, counted from `start`, its column and its number."""
        some = slice(int(self._pointers[start]), int(self._pointers[stop]))
        lengths = np.diff(self._pointers[start : stop + 1])
        rows = np.repeat(np.arange(stop - start), lengths)
        if self._turned is not None:
            places, numbers = self._turned
            return rows, places[some], numbers[some]
        places = self._places.read((some,))
        self._check_places(places, rows, start, self.shape[1])
        return rows, places, self._numbers.read((some,))

    def _check_places(self, places: NDArray[Any], rows: NDArray[np.int64], start: int, count: int) -> None:
        if len(places) and (places.min() < 0 or places.max() >= count):
            at = int(((places < 0) | (places >= count)).argmax())
            what = ("column", "row") if self._by_columns else ("row", "column")
            raise DataError(
                f"{self.name}, {what[0]} {start + rows[at]}: {what[1]} {places[at]} is stored, and there are {count}; "
                "the file is damaged, write it again"
            )

    def _turn(self) -> None:
        """From columns, one after another, to rows."""
        end = int(self._pointers[-1])
        rows, numbers = self._places.read((slice(0, end),)), self._numbers.read((slice(0, end),))
        columns = np.repeat(np.arange(self.shape[1], dtype=rows.dtype), np.diff(self._pointers))
        self._check_places(rows, columns, 0, self.shape[0])
        order = _sorted_places(rows)
        counts = np.bincount(rows, minlength=self.shape[0])
        self._pointers = np.concatenate([[0], np.cumsum(counts)])
        self._turned = columns[order], numbers[order]


def _sorted_places(rows: NDArray[Any]) -> NDArray[np.intp]:
    """Where the rows stand in rising order, those of one in theirs; 16 bits at a time, which NumPy sorts fast."""
    order = np.argsort((rows & 0xFFFF).astype(np.uint16), kind="stable")
    for shift in range(16, 64, 16):
        if len(rows) and int(rows.max()) >> shift:
            order = order[np.argsort(((rows >> shift) & 0xFFFF).astype(np.uint16)[order], kind="stable")]
    return order


def _put(found: NDArray[Any], places: NDArray[np.int64], numbers: NDArray[Any]) -> None:
    """Numbers into their places; those of one place are added up, as every program does it."""
    flat = found.reshape(-1)
    is_rising = bool((places[1:] > places[:-1]).all())
    if is_rising or len(np.unique(places)) == len(places):
        flat[places] = numbers
    elif found.dtype == np.bool_:
        np.logical_or.at(flat, places, numbers)
    else:
        np.add.at(flat, places, numbers)
