"""The first pass of `distbp import`: what is in the columns, before anything is decided or written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.row_numbers import RowNumbers
from distbp.errors import DataError, TooLargeError
from distbp.ranks.node_memory import in_units
from distbp.tables.digits import Digits
from distbp.tables.distinct import Distinct
from distbp.tables.row_stream import Place, stream
from distbp.tables.table import Table, Values

MOST_TEXTS = 100_000  # distinct values of a column that are kept
PLACES = 3
Progress = Callable[[str, int], None]  # what is read, and how many rows more


@dataclass(frozen=True)
class Wanted:
    """Columns to look at.

    `text`: those wanted as they are written; `coded`: those whose distinct values matter though they are numbers, and
    for each row which of them it has; `words`: texts that mean "missing"; `gaps`: whether to keep which rows have them.
    `memory`: bytes that may be taken for what is kept of each row.
    """

    names: tuple[str, ...]
    text: frozenset[str] = frozenset()
    coded: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    gaps: bool = False
    memory: float = inf


class ColumnSurvey:
    """What was found in a column of a split.  `places`: where its first missing values are."""

    def __init__(self, name: str, *, coded: bool) -> None:
        self.name, self._coded = name, coded
        self.width = self.missing = 0
        self.places: list[Place] = []
        self.infinite: Place | None = None
        self.fraction: tuple[Place, float] | None = None  # a number that is not whole, in a column that is coded
        self.has_text = self.has_numbers = self.is_written = False
        self.is_flag = True  # 0 and 1 only, in a column that is coded
        self.least: tuple[Place, int, int] | None = None  # the least integer of a type: where, which, how often
        self.types: dict[np.dtype[Any], str] = {}  # of numbers that have one, each with the first table
        self.lowest, self.highest = 2**63, -(2**63)  # of integers of 64 bits, and of coded ones
        self.distinct = Distinct(MOST_TEXTS, written=False)
        self.codes: list[NDArray[np.int32]] = []
        self.digits = Digits()
        self.rows_followed = RowNumbers()
        self._starts: list[tuple[int, Place]] = []
        self._rows = 0

    def begin_table(self, table: Table) -> None:
        """The rows that follow are those of another table."""
        if not self._rows:
            self.distinct = Distinct(MOST_TEXTS, written=table.is_text)
        self.rows_followed.begin_table()

    def add(self, first: Place, values: Values) -> None:
        """Rows; `first` is where they begin."""
        array = values.array
        self._starts.append((self._rows, first))
        if self.width and array.shape[1] != self.width:
            raise DataError(
                f"{first.table.name}: {self.name} has {array.shape[1]} numbers a row, and {self.width} before"
            )
        self.width = array.shape[1]
        missing = np.zeros(array.shape, np.bool_) if values.missing is None else values.missing
        if values.missing is not None:
            self.missing += int(missing.sum())
            for row in np.flatnonzero(missing.any(axis=1))[: PLACES - len(self.places)].tolist():
                self.places.append(first + row)
        if values.is_text:
            self.has_text = self.has_text or not missing.all()
            self.is_written = self.is_written or first.table.is_text
        elif not missing.all():
            self.has_numbers = True
            self._add_numbers(first, array, values.missing)
        if (values.is_text or self._coded) and self.width == 1:
            codes = self.distinct.add(array[:, 0], missing[:, 0], self._rows)
            if codes is None:
                self.codes = []
            elif self._coded:
                self.codes.append(codes)
        self._rows += len(array)

    def _add_numbers(self, first: Place, array: NDArray[Any], missing: NDArray[np.bool_] | None) -> None:
        if first.table.is_text:
            self.is_written = True
        else:
            self.types.setdefault(array.dtype, first.table.name)
        there = array if missing is None else array[~missing]
        self.is_flag = self.is_flag and self._coded and bool(((there == 0) | (there == 1)).all())
        if array.dtype.kind == "i" and array.dtype.itemsize >= 4 and not first.table.is_text:
            self._add_least(first, array, missing)
        if array.dtype.kind == "f":
            self._add_floats(first, array, there)
        elif array.dtype.itemsize == 8 or self._coded:
            self.lowest, self.highest = min(self.lowest, int(there.min())), max(self.highest, int(there.max()))
        if missing is None and array.dtype.kind != "b":
            self.rows_followed.add(array)
        elif missing is not None:
            self.rows_followed.add(np.where(missing, np.nan, array))

    def _add_least(self, first: Place, array: NDArray[Any], missing: NDArray[np.bool_] | None) -> None:
        least = int(np.iinfo(array.dtype).min)
        found = array == least
        if missing is not None:
            found &= ~missing
        if found.any():
            place = self.least[0] if self.least else first + int(found.any(axis=1).argmax())
            self.least = place, least, int(found.sum()) + (self.least[2] if self.least else 0)

    def _add_floats(self, first: Place, array: NDArray[Any], there: NDArray[Any]) -> None:
        infinite = np.isinf(array)
        if self.infinite is None and infinite.any():
            self.infinite = first + int(infinite.any(axis=1).argmax())
        if first.table.is_text:
            self.digits.add(there.ravel()[np.isfinite(there.ravel())])
        if self._coded and self.fraction is None:
            broken = np.isfinite(array) & (array != np.floor(array))
            if broken.any():
                row = int(broken.any(axis=1).argmax())
                self.fraction = (first + row, float(array[row][broken[row]][0]))

    def place(self, row: int) -> Place:
        """Where a row of the split is."""
        start, first = next(one for one in reversed(self._starts) if one[0] <= row)
        return first + (row - start)

    @property
    def is_mixed(self) -> bool:
        """Some blocks came as numbers and some as text: only as it is written can all of it be understood."""
        return self.has_text and self.has_numbers and self.is_written


@dataclass(frozen=True)
class TableSurvey:
    """What was found in the tables of a split.  `gaps`: which rows have a missing value; None if not wanted."""

    rows: int
    columns: dict[str, ColumnSurvey]
    gaps: NDArray[np.bool_] | None


def survey(tables: Sequence[Table], wanted: Wanted, progress: Progress) -> TableSurvey:
    """Reads the columns once; a second time those that are text and began with what looked like numbers.

    Raises DataError.
    """
    found = _survey(tables, wanted, progress)
    mixed = tuple(name for name, column in found.columns.items() if column.is_mixed and name not in wanted.text)
    if mixed:
        again = _survey(tables, replace(wanted, names=mixed, text=frozenset(mixed), gaps=False), progress)
        found.columns.update(again.columns)
    return found


def _survey(tables: Sequence[Table], wanted: Wanted, progress: Progress) -> TableSurvey:
    columns = {name: ColumnSurvey(name, coded=name in wanted.coded) for name in wanted.names}
    gaps: list[NDArray[np.bool_]] = []
    rows, table = 0, None
    for block in stream(tables, wanted.names, wanted.text, wanted.words):
        if block.first.table is not table:
            table = block.first.table
            for column in columns.values():
                column.begin_table(table)
        bad = np.zeros(len(block), np.bool_)
        for column, values in zip(columns.values(), block.values, strict=True):
            column.add(block.first, values)
            if values.missing is not None:
                bad |= values.missing.any(axis=1)
        if wanted.gaps:
            gaps.append(bad)
        rows += len(block)
        if rows * (wanted.gaps + 4 * len(wanted.coded)) > wanted.memory:
            raise TooLargeError(
                f"{block.first.table.name}: what is kept of {rows} rows, to know which of them are for testing or left "
                f"out, takes more than the {in_units(wanted.memory)} of --memory"
            )
        progress("looking", len(block))
    if not rows:
        raise DataError(f"{', '.join(t.name for t in tables[:3])}: has no rows; a split needs at least one sample")
    return TableSurvey(rows, columns, np.concatenate(gaps) if wanted.gaps else None)
