"""The rows of several tables, one after another, as both passes of `distbp import` read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.table import Table, Values


@dataclass(frozen=True)
class Place:
    """A row of a table, counted from 0."""

    table: Table
    row: int

    def __add__(self, rows: int) -> Place:
        return Place(self.table, self.row + rows)

    def __str__(self) -> str:
        return self.table.place(self.row)


@dataclass(frozen=True)
class Rows:
    """Some rows of the columns that were asked for; `first`: where the first of them is."""

    first: Place
    values: list[Values]

    def __len__(self) -> int:
        return len(self.values[0].array)

    def cut(self, start: int, stop: int) -> Rows:
        """Rows start … stop - 1."""
        parts = [
            Values(one.array[start:stop], None if one.missing is None else one.missing[start:stop])
            for one in self.values
        ]
        return Rows(self.first + start, parts)


def stream(
    tables: Sequence[Table], names: Sequence[str], text: frozenset[str], words: frozenset[str]
) -> Iterator[Rows]:
    """The rows of all tables.  `text`: names of columns that are wanted as they are written.

    What is missing is marked, whatever a format says it with: also a float that is NaN, and a string that is one of
    `words`.  Raises DataError where a table does not have a column, or where it holds what is neither number nor text.
    """
    for table in tables:
        known = {column.name for column in table.columns}
        own = [name if name in known else table.column(name).name for name in names]
        wanted = frozenset(one for name, one in zip(names, own, strict=True) if name in text)
        row = 0
        for values in table.blocks(own, wanted):
            marked = [_marked(table, name, one, words) for name, one in zip(names, values, strict=True)]
            rows = Rows(Place(table, row), marked)
            row += len(rows)
            if len(rows):
                yield rows


def side_by_side(one: Iterator[Rows], other: Iterator[Rows], names: str) -> Iterator[tuple[Rows, Rows]]:
    """Two streams in step, however their blocks are cut.  Raises DataError where one ends before the other."""
    left = right = None
    done = 0
    while True:
        left, right = left or next(one, None), right or next(other, None)
        if left is None and right is None:
            return
        if left is None or right is None:
            what = "inputs" if left is None else "labels or targets"
            raise DataError(f"{names}: the {what} end after row {done}; each sample needs one row in both")
        rows = min(len(left), len(right))
        yield left.cut(0, rows), right.cut(0, rows)
        done += rows
        left = left.cut(rows, len(left)) if rows < len(left) else None
        right = right.cut(rows, len(right)) if rows < len(right) else None


def _marked(table: Table, name: str, values: Values, words: frozenset[str]) -> Values:
    array, missing = values.array, values.missing
    if array.dtype.kind not in "biufO":
        raise DataError(f"{table.name}: column {name!r} is of type {array.dtype}; expected numbers or text")
    more: NDArray[Any] | None = None
    if array.dtype.kind == "f":
        more = np.isnan(array)
    elif array.dtype.kind == "O" and not table.is_text:
        more = np.array([value in words for value in array.ravel().tolist()], np.bool_).reshape(array.shape)
    if more is not None and more.any():
        missing = more if missing is None else missing | more
    return Values(array, missing if missing is not None and missing.any() else None)
