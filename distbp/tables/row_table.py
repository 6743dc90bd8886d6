"""A table put together from sources of rows: arrays of a file, a table in a file, a tree; all read in step.

A reader of a format describes its columns as `RowColumn`s and hands out rows as a `RowSource`; names with an index,
blocks of bounded size and rows that do not fit together are the same for all of them, and are here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.counted import counted
from distbp.data.choice import is_meant
from distbp.data.names import Index, Name, quoted
from distbp.data.overlap import Taken, check_taken
from distbp.data.selection import select
from distbp.errors import DataError
from distbp.tables.source_files import shown
from distbp.tables.table import TableColumn, Values

BLOCK_BYTES = 8 * 2**20
LARGEST_ROW = 2**30  # bytes
STRING_BYTES = 64  # what a Python string takes beside its characters
PREFERRED = ("x", "y", "data", "images", "features", "inputs", "label", "labels", "target", "targets")
Part = tuple[NDArray[Any], NDArray[np.bool_] | None]  # values (n, …), and where they are missing


class RowSource(Protocol):
    """Rows of one or more columns that are stored together."""

    @property
    def rows(self) -> int | None:
        """How many; None where only reading tells."""

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        """All rows, in blocks of about `rows` rows, none of them empty: a part for each key.  Raises DataError."""


@dataclass(frozen=True)
class RowColumn:
    """A column of a table.

    `source`, `key`: where its rows come from.  `shape`: of one row; None where only reading tells.  `row_bytes`: of one
    row.  `problem`: why it cannot be read, or "".  `dimensions`: names of the axes, the first of which has the samples.
    `take`: what of each row is wanted, an entry for each axis of `shape`.
    `along`: gives the column with its samples along other axes, where the format allows that.
    `nan_is_missing`: whether the format has no other way to say that there is no value.
    """

    about: TableColumn
    source: RowSource
    key: str
    shape: tuple[int, ...] | None = ()
    row_bytes: int = 8
    problem: str = ""
    dimensions: tuple[str, ...] = ()
    take: tuple[int | slice, ...] | None = None
    along: Callable[[tuple[Index, ...], str], RowColumn] | None = None
    nan_is_missing: bool = True


class RowTable:
    """See `Table`.  Columns in the same number of rows; others are kept, and are no data."""

    is_text = False

    def __init__(self, name: str, columns: Sequence[RowColumn]) -> None:
        self.name = name
        self._columns = {column.about.name: _meant(column) for column in _fitting(columns)}
        if not self._columns:
            raise DataError(f"{name}: there is nothing in it that could be a column")

    @property
    def columns(self) -> list[TableColumn]:
        return [column.about for column in self._columns.values()]

    def column(self, name: str) -> TableColumn:
        return self._find(name).about

    def place(self, row: int) -> str:
        """'file.npz, row 17'"""
        return f"{self.name}, row {row}"

    def check_overlap(self, x: Sequence[str], y: Sequence[str]) -> None:
        """Raises UsageError where two of these names take the same numbers."""
        check_taken(*([one for name in names for one in self._taken(name)] for names in (x, y)))

    def _taken(self, text: str) -> Iterator[Taken]:
        """Which numbers of which array a name takes, where that is known without reading."""
        name = Name(text)
        path = text if text in self._columns else name.path
        column = self._columns[path]
        if column.shape is None:
            return
        shape = (column.source.rows or 1, *column.shape)
        dimensions = column.dimensions or ("",) * len(shape)
        index = None if path == text else name.index()
        yield Taken(text, path, select(f"{self.name}: {text}", index, shape, dimensions))

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        columns = [self._find(name) for name in names]
        self._check(columns)
        rows = max(1, BLOCK_BYTES // max(1, sum(column.row_bytes for column in columns)))
        streams = [_Stream(source, keys, rows) for source, keys in _grouped(columns)]
        while True:
            blocks = [stream.take(rows) for stream in streams]
            lengths = [len(next(iter(block.values()))[0]) for block in blocks]
            if not any(lengths):
                return
            if len(set(lengths)) > 1:
                raise DataError(f"{self.name}: {', '.join(names)}: not as many rows in all of them")
            parts = {(id(s.source), key): part for s, block in zip(streams, blocks, strict=True) for key, part in block}
            yield [self._values(column, *parts[id(column.source), column.key]) for column in columns]

    def _find(self, text: str) -> RowColumn:
        if text in self._columns:
            return self._columns[text]
        name = Name(text)
        if name.has_index and name.path in self._columns:
            return _indexed(self._columns[name.path], name, self.name)
        raise DataError(f"{self.name}: no column {shown(text)}; it has {few(list(self._columns))}")

    def _check(self, columns: Sequence[RowColumn]) -> None:
        """Raises DataError where one of them cannot be read, or not beside the others."""
        for column in columns:
            if column.problem:
                raise DataError(f"{self.name}: column {column.about.name!r} {column.problem}")
            if column.row_bytes > LARGEST_ROW:
                raise DataError(
                    f"{self.name}: column {column.about.name!r} has {column.row_bytes} bytes in a row; "
                    f"expected at most {LARGEST_ROW}"
                )
        known = [column for column in columns if column.source.rows is not None]
        for column in known:
            if column.source.rows != known[0].source.rows:
                raise DataError(
                    f"{self.name}: {column.about.name} has {counted(column.source.rows or 0, 'row')}, and "
                    f"{known[0].about.name} has {known[0].source.rows}; expected as many"
                )

    def _values(self, column: RowColumn, array: NDArray[Any], missing: NDArray[np.bool_] | None) -> Values:
        if column.take is not None:
            try:
                array = array[:, *column.take]
                missing = None if missing is None else missing[:, *column.take]
            except IndexError:
                raise DataError(
                    f"{self.name}: {column.about.name}: its rows have the shape {array.shape[1:]}"
                ) from None
        if column.nan_is_missing and array.dtype.kind == "f" and array.size and np.isnan(array.min()):
            nan = np.isnan(array)
            missing = nan if missing is None else missing | nan
        return Values(_flat(array), None if missing is None or not missing.any() else _flat(missing))


class _Stream:
    """So many rows of a source at a time, however its blocks are cut."""

    def __init__(self, source: RowSource, keys: Sequence[str], rows: int) -> None:
        self.source, self._keys = source, keys
        self._blocks = source.blocks(keys, rows)
        self._left: list[Part] = []

    def take(self, count: int) -> _Block:
        taken: list[list[Part]] = []
        missing = count
        while missing:
            if not self._left or not len(self._left[0][0]):
                following = next(self._blocks, None)
                if following is None:
                    break
                self._left = following
            taken.append([(array[:missing], _cut(mask, slice(missing))) for array, mask in self._left])
            self._left = [(array[missing:], _cut(mask, slice(missing, None))) for array, mask in self._left]
            missing -= len(taken[-1][0][0])
        return _Block(self._keys, taken)


class _Block:
    """The parts of a block by key, each put together from what was taken."""

    def __init__(self, keys: Sequence[str], taken: list[list[Part]]) -> None:
        self._parts = [(key, _joined([parts[i] for parts in taken])) for i, key in enumerate(keys)]

    def __iter__(self) -> Iterator[tuple[str, Part]]:
        return iter(self._parts)

    def values(self) -> list[Part]:
        return [part for _, part in self._parts]


def _cut(mask: NDArray[np.bool_] | None, rows: slice) -> NDArray[np.bool_] | None:
    return None if mask is None else mask[rows]


def _joined(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty(0), None
    arrays = [array for array, _ in parts]
    if all(mask is None for _, mask in parts):
        return np.concatenate(arrays), None
    masks = [np.zeros(array.shape, bool) if mask is None else mask for array, mask in parts]
    return np.concatenate(arrays), np.concatenate(masks)


def _grouped(columns: Sequence[RowColumn]) -> list[tuple[RowSource, list[str]]]:
    """The sources of the columns, each once, with the keys that are wanted of it, each once."""
    found: dict[int, tuple[RowSource, list[str]]] = {}
    for column in columns:
        keys = found.setdefault(id(column.source), (column.source, []))[1]
        if column.key not in keys:
            keys.append(column.key)
    return list(found.values())


def _flat(rows: NDArray[Any]) -> NDArray[Any]:
    return rows.reshape(len(rows), prod(rows.shape[1:]))


def _indexed(column: RowColumn, name: Name, where: str) -> RowColumn:
    """The column with what the brackets behind its name say."""
    index = name.index() or ()
    who = f"{where}: {name}"
    ordered = _by_axis(index, column.dimensions, who)
    along = [i for i, one in enumerate(ordered) if one.samples]
    if along not in ([], [0]):
        if column.along is None:
            raise DataError(f"{who}: of this format the samples can only be along the first axis; expected [:, …]")
        return column.along(ordered, str(name))
    if ordered and ordered[0].what != slice(None):
        raise DataError(f"{who}: the first axis has the samples; expected : there, as in {name.path}[:, …]")
    if column.shape is not None:
        if len(ordered) > 1 + len(column.shape):
            raise DataError(f"{who}: {len(ordered)} axes in the brackets, and {name.path} has {1 + len(column.shape)}")
        for one, size in zip(ordered[1:], column.shape, strict=False):
            if isinstance(one.what, int) and not -size <= one.what < size:
                raise DataError(f"{who}: number {one.what} of {size}; expected 0 to {size - 1}")
    take = tuple(one.what for one in ordered[1:])
    return replace(column, about=replace(column.about, name=str(name), names=()), take=take)


def _by_axis(index: Sequence[Index], dimensions: Sequence[str], who: str) -> tuple[Index, ...]:
    """The entries in the order of the axes; those with the name of an axis where that axis is."""
    if not any(one.axis for one in index):
        return tuple(index)
    if not all(one.axis for one in index):
        raise DataError(f"{who}: either all entries in the brackets have the name of an axis, or none")
    found = {one.axis: one for one in index}
    unknown = [axis for axis in found if axis not in dimensions]
    if unknown:
        raise DataError(
            f"{who}: no axis {unknown[0]!r}; there are {few(dimensions) or 'no names of axes in this file'}"
        )
    if len(found) < len(index):
        raise DataError(f"{who}: an axis is named twice")
    return tuple(found.get(axis, Index(slice(None))) for axis in dimensions)


def _fitting(columns: Sequence[RowColumn]) -> list[RowColumn]:
    """All columns; those of another number of rows than most are no data, and say so."""
    counts = Counter(c.source.rows for c in columns if c.source.rows is not None and not c.about.not_data)
    if len(counts) < 2:
        return list(columns)
    preferred = [c for c in columns if c.about.name.lower() in PREFERRED and c.source.rows in counts]
    rows = preferred[0].source.rows if preferred else max(counts, key=lambda rows: (counts[rows], rows))
    first = next(c for c in columns if c.source.rows == rows and not c.about.not_data)
    where = f"where {first.about.name} has {first.source.rows}"
    return [
        column
        if column.about.not_data or column.source.rows in (rows, None)
        else replace(
            column, about=replace(column.about, not_data=f"{counted(column.source.rows or 0, 'row')}, {where}")
        )
        for column in columns
    ]


def _meant(column: RowColumn) -> RowColumn:
    """The column; x or y that cannot be read is refused when it is read, and not left out."""
    if column.problem and column.about.not_data == column.problem and is_meant(column.about.name):
        return replace(column, about=replace(column.about, not_data=""))
    return column


def few(names: Sequence[str]) -> str:
    """Names in a message, as an option would have them; not more than twelve."""
    shortened = [quoted(name) if len(name) <= 60 else quoted(name[:60] + "…") for name in names]
    return ", ".join(shortened if len(shortened) <= 12 else [*shortened[:10], "…", shortened[-1]])
