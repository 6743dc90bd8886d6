"""LibSVM's text format as a table: `label [qid:n] index:value …`, what is not written is zero."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.source_files import shown
from distbp.tables.table import Table, TableColumn, Values
from distbp.tables.text_file import text_chunks
from distbp.tables.text_numbers import TextNumbers
from distbp.tables.text_options import TextOptions

BLOCK_NUMBERS = 2**20
LARGEST_INDEX = 2**24
_PLAIN = b"0123456789+-.eE: \t\n"
_LINE = re.compile(
    r"\s*[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?(?:\s+qid:[0-9]+)?(?P<pairs>(?:\s+[0-9]{1,9}:[^\s:]+)*)\s*(?:#.*)?"
)
_PAIR = re.compile(r"([0-9]+):([^\s:]+)")


def agree(tables: Iterable[Table], width: int | None = None) -> None:
    """Gives all files of LibSVM's among these tables the same inputs: from the least index to the largest of all.

    `width`: the number of inputs, where it is known.  Raises DataError where an index does not fit.
    """
    files = [table for table in tables if isinstance(table, LibSVMTable)]
    if files:
        first = min(file.first_index for file in files)
        inputs = width or max(file.first_index + file.width for file in files) - first
        for file in files:
            file.widen(inputs, first)


def is_libsvm(lines: Sequence[str]) -> bool:
    """Whether these first lines of a file are all written in this way, with indices that ascend."""
    pairs = 0
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found:
            return False
        indices = [int(index) for index, _ in _PAIR.findall(found["pairs"])]
        if any(after <= before for before, after in pairwise(indices)):
            return False
        pairs += len(indices)
    return pairs > 0


@dataclass
class _Rows:
    """Some rows: label, query and line of each; and of each number that is not zero its row, index and value."""

    labels: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    lines: list[int] | NDArray[np.intp] = field(default_factory=list)
    row: Any = field(default_factory=list)
    index: Any = field(default_factory=list)
    value: Any = field(default_factory=list)


class LibSVMTable:
    """A file in LibSVM's format: the columns y (the labels), x (all inputs, dense), and qid where there are queries.

    The largest index is the number of inputs.  Indices count from 1, as LibSVM's do; from 0 where a 0 is there.
    `notes`: what was found by looking, in words for the user.
    """

    is_text = True

    def __init__(self, path: str, options: TextOptions | None = None) -> None:
        self.name, self._options = path, options or TextOptions()
        self._numbers = TextNumbers(self._options)
        least, most, rows, queries = LARGEST_INDEX, -1, 0, False
        for part in self._parts():
            if len(part.index):
                least, most = min(least, int(np.min(part.index))), max(most, int(np.max(part.index)))
            rows, queries = rows + len(part.labels), queries or any(part.queries)
        if most < 0:
            raise DataError(f"{path}: {'no number with an index' if rows else 'no rows'}; expected label index:value …")
        self._indices = (least, most)
        self._base, self.width = (0, most + 1) if least == 0 else (1, most)
        self.columns: tuple[TableColumn, ...] = (
            TableColumn("y"),
            TableColumn("x"),
            *((TableColumn("qid", not_data="the query that a row belongs to"),) if queries else ()),
        )
        self.notes = (self._counted(),)

    def _counted(self) -> str:
        return f"LibSVM's format: indices from {self._base}, {self.width} inputs"

    def widen(self, width: int, first_index: int) -> None:
        """Another number of inputs, and another first index, where that of other files is known to be right.

        Raises DataError where an index does not fit.
        """
        least, most = self._indices
        if least < first_index or most >= first_index + width:
            raise DataError(
                f"{self.name}: indices from {least} to {most}; expected {first_index} to {first_index + width - 1}"
            )
        self._base, self.width = first_index, width
        self.notes = (self._counted(),)

    @property
    def first_index(self) -> int:
        """From where the indices count: 0 or 1."""
        return self._base

    def column(self, name: str) -> TableColumn:
        """The column of this name.  Raises DataError."""
        for column in self.columns:
            if column.name == name:
                return column
        names = ", ".join(column.name for column in self.columns)
        raise DataError(f"{self.name}: no column {shown(name)}; a file in LibSVM's format has {names}")

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        """See `Table`; x is dense, shape (rows, width)."""
        for name in names:
            self.column(name)
        step = max(1, BLOCK_NUMBERS // self.width)
        for part in self._parts():
            row, index, value = (np.asarray(numbers) for numbers in (part.row, part.index, part.value))
            for begin in range(0, len(part.labels), step):
                end = min(begin + step, len(part.labels))
                first, last = np.searchsorted(row, [begin, end])
                found = []
                for name in names:
                    if name == "x":
                        dense = np.zeros((end - begin, self.width))
                        dense[row[first:last] - begin, index[first:last] - self._base] = value[first:last]
                        found.append(Values(dense))
                    else:
                        cells = (part.labels if name == "y" else part.queries)[begin:end]
                        found.append(self._numbers.values(cells, as_text=name in text))
                yield found

    def place(self, row: int) -> str:
        """'file.svm, line 18'"""
        done = 0
        for part in self._parts():
            if row < done + len(part.labels):
                return f"{self.name}, line {part.lines[row - done]}"
            done += len(part.labels)
        raise DataError(f"{self.name}: row {row} is not there any more; it had been there before")

    def _parts(self) -> Iterator[_Rows]:
        line, data = 1, b""
        for chunk in text_chunks(self.name, self._options.encoding):
            data += chunk
            end = data.rfind(b"\n") + 1
            yield self._rows(data[:end], line)
            line, data = line + data.count(b"\n"), data[end:]
        yield self._rows(data, line)

    def _rows(self, data: bytes, line: int) -> _Rows:
        return plain_rows(data, line) or self._checked_rows(data.decode(), line)

    def _checked_rows(self, text: str, first_line: int) -> _Rows:
        """Line by line.  Raises DataError that names the line."""
        rows = _Rows()
        for number, whole in enumerate(text.split("\n"), first_line):
            label, *pairs = whole.partition("#")[0].split() or [""]
            if not label:
                continue
            if ":" in label or "," in label:
                expected = "one label" if "," in label else "a label before the numbers"
                raise DataError(f"{self.name}, line {number}: expected {expected}, got {shown(label)}: {shown(whole)}")
            query = pairs.pop(0).removeprefix("qid:") if pairs and pairs[0].startswith("qid:") else ""
            before = -1
            for pair in pairs:
                index, value = self._pair(pair, number, whole)
                if index <= before:
                    raise DataError(
                        f"{self.name}, line {number}: index {index} comes after {before}, expected a greater one: "
                        f"{shown(whole)}"
                    )
                before = index
                rows.row.append(len(rows.labels))
                rows.index.append(index)
                rows.value.append(value)
            rows.labels.append(label)
            rows.queries.append(query)
            rows.lines.append(number)  # type: ignore[union-attr]
        rows.index = np.array(rows.index, np.int64)
        return rows

    def _pair(self, pair: str, line: int, whole: str) -> tuple[int, float]:
        index, colon, text = pair.partition(":")
        value = self._numbers.number(text)
        if not (colon and index.isascii() and index.isdigit()) or value is None:
            raise DataError(
                f"{self.name}, line {line}: expected index:value, got {shown(pair)}; the row: {shown(whole)}"
            )
        if len(index) > 9 or int(index) > LARGEST_INDEX:
            raise DataError(
                f"{self.name}, line {line}: index {shown(index)}; dense rows of more than {LARGEST_INDEX} inputs are "
                "not made"
            )
        return int(index), value


def plain_rows(data: bytes, line: int) -> _Rows | None:
    """All rows at once, where each line is a label and pairs of plain numbers; None where it takes a closer look."""
    if not data.strip() or data.translate(None, _PLAIN):
        return None
    letters = np.frombuffer(data, np.uint8)
    blank = letters <= ord(" ")
    begins = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    ends = np.flatnonzero(letters == ord("\n"))
    colons = np.flatnonzero(letters == ord(":"))
    at_line = np.searchsorted(ends, begins)  # the line of each word
    is_first = np.concatenate([[True], at_line[1:] > at_line[:-1]])
    colons_of = np.diff(np.searchsorted(colons, np.concatenate([begins, [len(letters)]])))
    if not np.array_equal(colons_of, ~is_first):
        return None
    if b" :" in data or b": " in data or b":\n" in data or b"\t:" in data or b":\t" in data or data.endswith(b":"):
        return None
    words = data.split()
    labels = [words[i].decode() for i in np.flatnonzero(is_first)]
    try:
        numbers = np.array([float(word) for word in data.replace(b":", b" ").split()])
    except ValueError:
        return None
    at_number = np.repeat(is_first, np.where(is_first, 1, 2))
    pairs = numbers[~at_number].reshape(-1, 2)
    row = (np.cumsum(is_first) - 1)[~is_first]
    index = pairs[:, 0].astype(np.int64) if (np.abs(pairs[:, 0]) <= LARGEST_INDEX).all() else np.full(len(pairs), -1)
    ascends = (np.diff(row) > 0) | (np.diff(index) > 0)
    if not ascends.all() or (index != pairs[:, 0]).any() or (index < 0).any() or not _digits_before(letters, colons):
        return None
    return _Rows(labels, [""] * len(labels), line + at_line[is_first], row, index, pairs[:, 1])


def _digits_before(letters: NDArray[np.uint8], colons: NDArray[np.intp]) -> bool:
    """Whether all before each colon, back to a blank, is digits: 1e1 and 1.0 are no indices."""
    other = (letters > ord(" ")) & ((letters < ord("0")) | (letters > ord("9"))) & (letters != ord(":"))
    blanks = np.flatnonzero(letters <= ord(" "))
    behind = np.searchsorted(blanks, colons)
    begin = (
        np.where(behind > 0, blanks[np.maximum(behind - 1, 0)], 0) if len(blanks) else np.zeros(len(colons), np.intp)
    )
    seen = np.concatenate([[0], np.cumsum(other)])
    return bool((seen[colons] == seen[begin]).all())
