"""Lines of text, taken apart into the cells of rows, with the numbers of the lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from distbp.errors import DataError
from distbp.tables.source_files import shown

LONGEST_ROW = 2**24  # characters
BLANK = " \t"
_BLANKS = re.compile(r"[ \t]+")
_WORD = re.compile(r'[ \t]+|"((?:[^"]|"")*)"(?![^ \t])|([^ \t"][^ \t]*)|(.)')


@dataclass(frozen=True)
class Dialect:
    """How the cells of a row stand in a line.

    `delimiter`: a character; a blank stands for one or more blanks or tabs.  `comments`: marks of lines that are
    skipped.  `split`: takes a line apart where rows are written in another way than these, with bytes from `special`.
    """

    delimiter: str = ","
    comments: str = ""
    split: Callable[[str], list[str]] | None = None
    special: bytes = b""

    @property
    def by_lines(self) -> bool:
        """Whether a row never goes on in the next line."""
        return self.split is not None or self.delimiter == " "

    def is_skipped(self, line: str) -> bool:
        """Whether a line has no row: it is empty, or a comment."""
        bare = line.strip(" \n" if self.delimiter == "\t" else " \t\n")
        return not bare or bare[0] in self.comments

    def may_have_comments(self, data: bytes) -> bool:
        """Whether a line of these begins like a comment."""
        marks = self.comments.encode()
        return any(mark in data for mark in marks) and bool(re.search(rb"^[ \t]*[" + marks + rb"]", data, re.MULTILINE))


@dataclass
class Rows:
    """Rows that were read: their cells, and the line in which each begins.

    `unread`: how many of the lines, at their end, are the beginning of a row that is not complete.
    """

    cells: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    unread: int = 0


class NotARow(ValueError):
    """A line that cannot be taken apart."""


def blank_separated(line: str) -> list[str]:
    """The cells between blanks and tabs; one with blanks inside stands in double quotes.  Raises NotARow."""
    line = line.strip(" \t\n")
    if '"' not in line:
        return _BLANKS.split(line)
    cells = []
    for found in _WORD.finditer(line):
        if found[3]:
            raise NotARow("a cell that begins with a quote does not end with one in this line")
        if found[1] is not None or found[2] is not None:
            cells.append(found[2] if found[1] is None else found[1].replace('""', '"'))
    return cells


def read_rows(name: str, text: str, first_line: int, dialect: Dialect, *, final: bool) -> Rows:
    """All rows of a text that begins with this line.  Raises DataError with the line.

    `final`: the file ends with this text; otherwise the last row may be incomplete, and is left unread then.
    """
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return (_line_rows if dialect.by_lines else _csv_rows)(name, lines, first_line, dialect, final)


def _line_rows(name: str, lines: Sequence[str], first_line: int, dialect: Dialect, final: bool) -> Rows:
    rows = Rows()
    split = dialect.split or blank_separated
    for number, line in enumerate(lines, first_line):
        if dialect.is_skipped(line):
            continue
        try:
            rows.cells.append(split(line))
        except NotARow as error:
            raise DataError(f"{name}, line {number}: {error}: {shown(line)}") from None
        rows.lines.append(number)
    return rows


class _Feed:
    """Hands lines to csv.reader, and knows in which of them the row began that it is reading."""

    def __init__(self, lines: Sequence[str], dialect: Dialect) -> None:
        self._lines, self._dialect = lines, dialect
        self.taken = self.begin = 0
        self.at_start = True

    def __iter__(self) -> Iterator[str]:
        for i, line in enumerate(self._lines):
            self.taken = i + 1
            if self.at_start:
                if self._dialect.is_skipped(line):
                    continue
                self.begin, self.at_start = i, False
            yield line + "\n"
        self.taken = len(self._lines) + 1


def _csv_rows(name: str, lines: Sequence[str], first_line: int, dialect: Dialect, final: bool) -> Rows:
    if csv.field_size_limit() < LONGEST_ROW:
        csv.field_size_limit(LONGEST_ROW)
    rows, feed = Rows(), _Feed(lines, dialect)
    reader = csv.reader(iter(feed), delimiter=dialect.delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            rows.cells.append(cells)
            rows.lines.append(first_line + feed.begin)
            feed.at_start = True
    except csv.Error as error:
        ended = feed.taken > len(lines) and not feed.at_start
        unread = lines[feed.begin :]
        if ended and not final and sum(map(len, unread)) < LONGEST_ROW:
            rows.unread = len(unread)
            return rows
        endless = ended or "field larger" in str(error)
        _refuse(name, unread, first_line + feed.begin, dialect, "" if endless else str(error))
    return rows


def _refuse(name: str, lines: Sequence[str], number: int, dialect: Dialect, error: str) -> None:
    """Says what is wrong with the row that begins with these lines; `error` is "" where it does not end."""
    if error:
        raise DataError(
            f"{name}, line {number}: a quote with neither {dialect.delimiter!r} nor the row's end behind it ({error}); "
            f"quotes in a cell are doubled; the row begins {shown(lines[0])}"
        )
    opened = max(i for i, line in enumerate(lines) if '"' in line)  # what opens last is not closed
    raise DataError(
        f"{name}, line {number + opened}: a quote opens in this line and is not closed: {shown(lines[opened])}"
    )
