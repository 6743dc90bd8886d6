"""How the samples of a split lie in HDF5 files: which columns of which file, end to end and side by side.

A split is a group of each file (or a table: a compound data set), or the file as a whole, "/".  Its inputs and its
labels or targets are one data set, or several side by side, each a row for a sample; a field of a compound data set
counts as a data set, and so do an attribute and the name of a group or file, which are the same for all rows.  Found
by `distbp.data.locate`, read by `distbp.data.reader`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.selection import Selection
from distbp.errors import DataError

CLASSES, TARGETS = "classes", "targets"


def _not_compared() -> Any:
    """The default of an array in a dataclass whose objects are compared."""
    return field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Column:
    """A data set of a file, or one of its fields: rows of shape `shape`, `width` numbers, or strings (dtype "|O").

    `names`: of each of its numbers, () where the file does not name them; `units`: likewise.  `selection`: what of the
    stored array it is, None for all of it with a row for each sample.  `is_decoded`: whether the values are other than
    those that HDF5 gives.  `constant`: the values of every row, where they are those of an attribute or a name.
    """

    file: str
    dataset: str
    field: str | None
    rows: int
    width: int
    dtype: str
    shape: tuple[int, ...]
    chunk: int | None  # rows of a chunk, where there are chunks
    offset: int | None = None  # byte of the file where the first row begins, where rows lie plainly one after another
    stride: int = 0  # bytes from a row to the next
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    selection: Selection | None = None
    is_decoded: bool = False
    constant: tuple[Any, ...] | None = None
    brackets: str = ""  # "[:, samples]", as the user wrote them
    axis: str = ""  # what the file calls the axis of the samples
    notes: tuple[str, ...] = ()  # how the values were decoded, for the user
    alias: str = ""  # of a data set that has a second name in the first file: the name that another column has
    held: NDArray[Any] | None = _not_compared()  # (rows, width): an array of the caller

    @property
    def name(self) -> str:
        """train/x, train/table.pressure, or state_t[:, samples]"""
        return (self.dataset if self.field is None else f"{self.dataset}.{self.field}") + self.brackets

    @property
    def is_text(self) -> bool:
        """Strings: the names of classes."""
        return np.dtype(self.dtype).kind == "O"

    @property
    def type(self) -> str:
        """float32, >i2, string"""
        return "string" if self.is_text else str(np.dtype(self.dtype))

    @property
    def is_direct(self) -> bool:
        """Whether its rows are read as HDF5 has them."""
        return self.selection is None and not self.is_decoded and self.constant is None and self.held is None


@dataclass(frozen=True, slots=True)
class Part:
    """What one file, or one group of it, adds to a split; `first` is its first row in the split.

    Empty `x` or `y` were not asked for.  `begin`: a checksum of the beginning of the file, by which another file of
    the same name and size is told from it.
    """

    first: int
    rows: int
    x: tuple[Column, ...]
    y: tuple[Column, ...]
    bytes: int = 0  # of the file
    begin: int = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of x, and of y."""
        return (*self.x, *self.y)

    @property
    def file(self) -> str:
        return self.columns[0].file


@dataclass(frozen=True)
class Layout:
    """A split, all files end to end.

    `task`: "classes" or "targets" where the user has said what y is, else "auto": integers and strings are labels.
    `order`: of "x" or "y", which of the stored columns is the first, the second, …; as they are stored without it.
    """

    split: str
    x_name: str
    y_name: str
    parts: tuple[Part, ...]
    changed: dict[str, int] = field(default_factory=dict)  # when each file was, as this node saw it first
    task: str = "auto"
    order: dict[str, tuple[int, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()  # groups that lack a column, where names have a star

    @property
    def rows(self) -> int:
        """N"""
        return self.parts[-1].first + self.parts[-1].rows

    @cached_property
    def _firsts(self) -> list[int]:
        return [part.first for part in self.parts]

    def part_at(self, row: int) -> int:
        """Which part has a row."""
        return bisect_right(self._firsts, row) - 1

    def width(self, of: str) -> int:
        """Numbers in a row of "x" or "y"."""
        return sum(column.width for column in getattr(self.parts[0], of))

    def dtype(self, of: str) -> np.dtype[Any]:
        """A type, in this machine's byte order, that holds all columns of "x" or "y"; object for strings."""
        found = np.result_type(*(np.dtype(column.dtype) for column in getattr(self.parts[0], of)))
        return np.dtype(np.uint8) if found.kind == "b" else found.newbyteorder("=")

    def names(self, of: str) -> tuple[str, ...]:
        """Of the columns of "x" or "y", in the order in which they are read; () where the file names not all."""
        columns = getattr(self.parts[0], of)
        found = [name for column in columns for name in column.names]
        if not found or len(found) != self.width(of):
            return ()
        return tuple(found[i] for i in self.order.get(of, range(len(found))))

    def units(self, of: str) -> tuple[str, ...]:
        """Likewise, "" for a column without a unit; () where there are none."""
        found = [unit for column in getattr(self.parts[0], of) for unit in (column.units or ("",) * column.width)]
        return tuple(found[i] for i in self.order.get(of, range(len(found)))) if any(found) else ()

    @property
    def is_labelled(self) -> bool:
        """Whether y are the labels of classes."""
        if not self.y_name or self.task == TARGETS:
            return False
        return self.task == CLASSES or self.dtype("y").kind != "f"

    @property
    def axis(self) -> str:
        """What the file calls the axis of the samples, or ""."""
        return next((column.axis for column in self.parts[0].columns if column.axis), "")

    def notes_of(self, of: str) -> tuple[str, ...]:
        """How the values of "x" or "y" were decoded."""
        return tuple(dict.fromkeys(note for column in getattr(self.parts[0], of) for note in column.notes))

    @property
    def notes(self) -> list[str]:
        """How values were decoded, a line for each kind."""
        found: dict[str, list[str]] = {}
        for column in self.parts[0].columns:
            for note in column.notes:
                found.setdefault(note, []).append(column.name)
        return [f"{', '.join(names)}: {note}" for note, names in found.items()]

    def held(self, of: str) -> NDArray[Any] | None:
        """All rows of "x" or "y", shape (N, width), if the caller holds them in one array; else None."""
        columns = getattr(self.parts[0], of)
        return columns[0].held if len(self.parts) == len(columns) == 1 and of not in self.order else None

    def row_bytes(self) -> int:
        """Of a row of x and y."""
        bytes_of_y = 4 if self.is_labelled else 0  # classes are int32
        if self.y_name and not bytes_of_y:
            bytes_of_y = self.width("y") * self.dtype("y").itemsize
        return self.width("x") * self.dtype("x").itemsize + bytes_of_y

    def chunk_rows(self, of: str) -> int:
        """Rows that have to be read together, in the file where these are most; 1 without chunks."""
        return max(column.chunk or 1 for part in self.parts for column in getattr(part, of))

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """All rows, cut into blocks of about `size` bytes: whole chunks of a file, and never of two files."""
        found = []
        most = max(1, size // self.row_bytes())
        for part in self.parts:
            chunk = max((column.chunk or 1) for column in part.x)
            rows = -(-most // chunk) * chunk
            found += [
                (part.first + first, part.first + min(first + rows, part.rows)) for first in range(0, part.rows, rows)
            ]
        return found

    @property
    def is_plain(self) -> bool:
        """Whether every number lies in its file as it is in memory, at a known place."""
        return all(
            column.offset is not None
            for part in self.parts
            for column in (*part.x, *(part.y if self.y_name and not self.is_labelled else ()))
        )

    def place(self, row: int, of: str, at: int | None = None) -> str:
        """'file.h5: train/pressure,velocity, row 17' for a row of "x" or "y"; `at`: only what has this column of it."""
        part = self.parts[self.part_at(row)]
        columns = getattr(part, of)
        if at is not None:
            ends = accumulate(column.width for column in columns)
            stored = self.order[of][at] if of in self.order else at
            columns = [next(column for column, end in zip(columns, ends, strict=True) if stored < end)]
        if at is not None or "*" in self.x_name + self.y_name:
            return f"{part.file}: {','.join(column.name for column in columns)}, row {row - part.first}"
        return f"{part.file}: {inside(self.split, self.x_name if of == 'x' else self.y_name)}, row {row - part.first}"

    def column_name(self, of: str, at: int) -> str:
        """What a column of "x" or "y" is called, in words for the user: its name, or its number."""
        names = self.names(of)
        return repr(names[at]) if names else f"column {at}"

    def ordered_as(self, of: str, wanted: tuple[str, ...], who: str) -> Layout:
        """This layout with the columns of "x" or "y" in the order of `wanted`, if both sides have names.

        `who` says in the message whose names `wanted` are.  Raises DataError where other columns are there.
        """
        there = self.names(of)
        order = column_order(there, wanted, self.place(0, of).removesuffix(", row 0"), who)
        if order is None:
            return self
        now = self.order.get(of, tuple(range(len(there))))
        return replace(self, order={**self.order, of: tuple(now[i] for i in order)})


def few(names: tuple[str, ...] | list[str]) -> str:
    """The names with commas between them; the middle is left out where they are many."""
    shown = list(names) if len(names) <= 20 else [*names[:18], "…", names[-1]]
    return ", ".join(shown)


def column_order(there: tuple[str, ...], wanted: tuple[str, ...], where: str, who: str) -> tuple[int, ...] | None:
    """Where each of the wanted columns is among those that are there.

    The result is None if the order is right as it is, or if one side has no names.  `where` says in the message what
    has the columns, and `who` whose names `wanted` are.  Raises DataError if these are not the same columns.
    """
    if not wanted or not there or there == wanted:
        return None
    if sorted(there) != sorted(wanted) or len(set(there)) < len(there):
        raise DataError(f"{where} has the columns {few(there)}; {who} {few(wanted)} ({_difference(there, wanted)})")
    at = {name: i for i, name in enumerate(there)}
    return tuple(at[name] for name in wanted)


def _difference(there: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    missing = [name for name in wanted if name not in there]
    more = [name for name in there if name not in wanted]
    words = [f"not there: {few(missing)}"] * bool(missing) + [f"not asked for: {few(more)}"] * bool(more)
    return "; ".join(words) or "a name stands twice"


def inside(split: str, name: str) -> str:
    """train/x; and x where the split is the whole file, "/"."""
    return f"{split}/{name}".lstrip("/")
