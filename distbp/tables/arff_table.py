"""ARFF files of Weka, OpenML and KEEL as tables: their columns are declared, their rows are dense or sparse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distbp.errors import DataError
from distbp.tables.source_files import shown
from distbp.tables.table import TableColumn, Values
from distbp.tables.text_file import text_chunks
from distbp.tables.text_header import check_different
from distbp.tables.text_look import TextLook
from distbp.tables.text_numbers import TextNumbers
from distbp.tables.text_options import DEFAULT_MISSING, TextOptions
from distbp.tables.text_rows import BLANK, Dialect, NotARow, blank_separated
from distbp.tables.text_table import TextTable

LONGEST_HEADER = 2**24  # bytes
NUMERIC = ("numeric", "real", "integer")
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|[^\s{{}}]+)\s*(.*)", re.IGNORECASE | re.DOTALL)
_CELL = re.compile(rf"\s*({_QUOTED}|[^,%'\"{{}}]*)\s*(,|%.*|$)", re.DOTALL)
_SPARSE = re.compile(r"\s*\{(.*)\}\s*(%.*)?", re.DOTALL)
_PLACED = re.compile(r"([0-9]{1,9})\s+(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def is_arff(lines: Sequence[str]) -> bool:
    """Whether a file that begins with these lines says that it is ARFF."""
    for line in lines:
        if line.strip() and not line.lstrip().startswith("%"):
            return line.lstrip().lower().startswith("@relation")
    return False


@dataclass(frozen=True)
class _Attribute:
    """A declared column; `categories` of a nominal one."""

    name: str
    kind: str
    categories: tuple[str, ...] = ()

    @property
    def is_left_out_as(self) -> str:
        """The value where a sparse row does not write it."""
        return self.categories[0] if self.categories else "0"


class ArffTable(TextTable):
    """An ARFF file.  Only ? means "missing" in it, and words that the user names."""

    def __init__(self, path: str, options: TextOptions | None = None) -> None:
        options = options or TextOptions()
        words = () if options.missing_words == DEFAULT_MISSING else options.missing_words
        options = replace(options, missing_words=("?", *words), decimal=".", thousands="")
        self._attributes, first_line = _declared(path, options.encoding)
        check_different(path, [attribute.name for attribute in self._attributes])
        numbers = TextNumbers(options)
        found = TextLook(
            Dialect(",", "%", _Splitter(self._attributes).split, b"'\"\\{}%\t"),
            tuple(_column(attribute) for attribute in self._attributes),
            first_line,
            frozenset(i for i, a in enumerate(self._attributes) if not _is_number(a, numbers)),
            (f"ARFF with {len(self._attributes)} attributes",),
        )
        super().__init__(path, options, found)

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        """See `Table`.  Raises DataError also where a value is none of those that are declared, and for dates."""
        chosen = [self._attributes[self._places[self.column(name).name]] for name in names]
        for attribute in chosen:
            if attribute.kind == "date" and attribute.name not in text:
                raise DataError(f"{self.name}: column {shown(attribute.name)} holds dates; expected numbers or text")
        done = 0
        for block in super().blocks(names, text):
            for attribute, values in zip(chosen, block, strict=True):
                self._check(attribute, values, done)
            done += len(block[0].array) if block else 0
            yield block

    def _check(self, attribute: _Attribute, values: Values, done: int) -> None:
        """That values are of those that are declared.  `done`: the rows before these."""
        if not attribute.categories or attribute.kind != "nominal":
            return
        there = np.ones(values.array.shape, np.bool_) if values.missing is None else ~values.missing
        if values.is_text:
            allowed: set[object] = set(attribute.categories)
        else:
            allowed = {self._numbers.number(category) for category in attribute.categories}
        for wrong in set(values.array[there].tolist()) - allowed:
            row = int(np.flatnonzero((values.array[:, 0] == wrong) & there[:, 0])[0])
            few = ", ".join(attribute.categories[:12]) + (", …" if len(attribute.categories) > 12 else "")
            raise DataError(
                f"{self.place(done + row)}: column {shown(attribute.name)} is {shown(str(wrong))}; declared are "
                f"{{{few}}}"
            )


def _column(attribute: _Attribute) -> TableColumn:
    return TableColumn(attribute.name, not_data="dates" if attribute.kind == "date" else "")


def _is_number(attribute: _Attribute, numbers: TextNumbers) -> bool:
    if attribute.kind == "nominal":
        return numbers.numbers(attribute.categories) is not None
    return attribute.kind in NUMERIC


def _declared(path: str, encoding: str) -> tuple[list[_Attribute], int]:
    """The attributes; and the number of the line behind @data."""
    text, attributes = "", list[_Attribute]()
    for chunk in text_chunks(path, encoding):
        text += chunk.decode()
        if len(text) > LONGEST_HEADER or re.search(r"^\s*@data\b", text, re.IGNORECASE | re.MULTILINE):
            break
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        word = line.split(maxsplit=1)[0].lower() if line else "%"
        if word == "@data":
            if not attributes:
                raise DataError(f"{path}, line {number}: no attribute before @data; expected @attribute NAME TYPE")
            return attributes, number + 1
        if word == "@attribute":
            attributes.append(_attribute(f"{path}, line {number}", line))
        elif word not in ("@relation", "@inputs", "@input", "@outputs", "@output") and word[0] != "%":
            raise DataError(f"{path}, line {number}: expected @attribute NAME TYPE or @data, got {shown(line)}")
    raise DataError(f"{path}: no line @data in the first {len(text)} characters; expected one before the rows")


def _attribute(where: str, line: str) -> _Attribute:
    found = _ATTRIBUTE.fullmatch(line)
    if not found:
        raise DataError(f"{where}: expected @attribute NAME TYPE, got {shown(line)}")
    name, kind = _plain(found[1]), found[2]
    if kind.startswith("{"):
        sparse = _SPARSE.fullmatch(kind)
        try:
            categories = tuple(_cells(sparse[1])) if sparse else ()
        except NotARow:
            categories = ()
        if not categories:
            raise DataError(f"{where}: expected values between {{ and }}, got {shown(kind)}")
        return _Attribute(name, "nominal", categories)
    word = (re.match(r"[a-z]+", kind, re.IGNORECASE) or [""])[0].lower()
    if word not in (*NUMERIC, "string", "date"):
        raise DataError(
            f"{where}: type {shown(kind)}; expected {', '.join(NUMERIC)}, string, date, or values between {{ and }}"
        )
    return _Attribute(name, word)


def _plain(text: str) -> str:
    """A value without its quotes and backslashes."""
    if text[:1] in ("'", '"'):
        text = text[1:-1]
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), text) if "\\" in text else text


def _cells(line: str) -> list[str]:
    """The values between commas.  Raises NotARow."""
    cells, at = [], 0
    while True:
        found = _CELL.match(line, at)
        if not found:
            raise NotARow(f"cannot be read from {shown(line[at : at + 40])} on: a quote that is not closed, or a brace")
        cells.append(_plain(found[1].strip()))
        if found[2] != ",":
            return cells
        at = found.end()


class _Splitter:
    """Takes a row apart: `a,b,c`, `a b c`, or `{place value, place value}`, where places count from 0."""

    def __init__(self, attributes: Sequence[_Attribute]) -> None:
        self._left_out = [attribute.is_left_out_as for attribute in attributes]

    def split(self, line: str) -> list[str]:
        """The cells.  Raises NotARow."""
        if line.lstrip(BLANK).startswith("{"):
            return self._sparse(line)
        if "," not in line and len(self._left_out) > 1:
            return blank_separated(line)
        if not any(mark in line for mark in "'\"\\{}%"):
            return line.split(",")
        return _cells(line)

    def _sparse(self, line: str) -> list[str]:
        found = _SPARSE.fullmatch(line)
        if not found or "{" in found[1]:
            raise NotARow("expected {place value, …} and nothing behind it")
        cells = list(self._left_out)
        before = -1
        for entry in _entries(found[1]):
            placed = _PLACED.fullmatch(entry)
            place = int(placed[1]) if placed else -1
            if not placed or not before < place < len(cells):
                raise NotARow(
                    f"{shown(entry)}: expected a place, in ascending order and below {len(cells)}, and a value"
                )
            before = place
            cells[place] = _cells(placed[2])[0]
        return cells


def _entries(inside: str) -> list[str]:
    """What stands between the commas, with quotes."""
    pattern = re.compile(rf"(?:{_QUOTED}|[^,'\"])+")
    return [entry.strip() for entry in pattern.findall(inside) if entry.strip()]
