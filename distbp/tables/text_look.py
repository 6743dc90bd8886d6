"""Looks at the beginning of a text file: comments, the delimiter, the names of the columns, where the data begin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distbp.errors import DataError
from distbp.tables.source_files import shown
from distbp.tables.table import TableColumn
from distbp.tables.text_file import text_chunks
from distbp.tables.text_header import named_columns, names_come_first
from distbp.tables.text_numbers import TextNumbers
from distbp.tables.text_options import TextOptions
from distbp.tables.text_rows import BLANK, Dialect, read_rows

COMMENTS = "#%@|"
ROWS_LOOKED_AT, LOOKED_AT, LONGEST_LOOK = 1000, 2**20, 2**25  # bytes; the last is for very long names
WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "blanks"}
_UNIT = re.compile(r"\{name: ([^,}]+), unit: ([^,}]+)")


@dataclass(frozen=True)
class TextLook:
    """What a text file is: how its rows are written, its columns, and the line in which the first row of data begins.

    `words`: the columns that hold text, as far as was looked.  `notes`: what was found, in words for the user.
    """

    dialect: Dialect
    columns: tuple[TableColumn, ...]
    first_line: int
    words: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Start:
    """The first lines of a file: comments, and behind them data and maybe names."""

    name: str
    lines: list[str]
    comments: int  # how many lines are skipped
    complete: bool

    def rows(self, dialect: Dialect) -> tuple[list[list[str]], list[int]]:
        """The cells and line numbers of the first rows; raises DataError where they cannot be taken apart."""
        lines = self.lines[self.comments : self.comments + ROWS_LOOKED_AT]
        complete = self.complete and len(self.lines) <= self.comments + ROWS_LOOKED_AT
        rows = read_rows(self.name, "\n".join(lines), self.comments + 1, dialect, final=complete)
        return [[cell.strip(BLANK) for cell in cells] for cells in rows.cells], rows.lines

    def rows_without_quotes(self, delimiter: str) -> list[list[str]]:
        """The cells of those lines that have no quotes."""
        lines = self.lines[self.comments : self.comments + ROWS_LOOKED_AT]
        return read_rows(
            "", "\n".join(line for line in lines if '"' not in line), 1, Dialect(delimiter), final=True
        ).cells


def look(path: str, options: TextOptions) -> TextLook:
    """Looks at a text file.

    Raises DataError where it has no data, or where it cannot be said whether its first row holds names.
    """
    start = _start(path, options)
    marks = "".join({line.lstrip(BLANK)[:1] for line in start.lines[: start.comments]} & set(COMMENTS))
    dialect = Dialect(_delimiter(start, options), marks)
    rows, lines = start.rows(dialect)
    if not rows:  # a first row that is longer than all that was looked at
        raise DataError(f"{path}, line {start.comments + 1}: a row that does not end; expected rows of cells")
    return _Columns(start, dialect, options).look(rows, lines)


def _start(path: str, options: TextOptions) -> _Start:
    chunks = text_chunks(path, options.encoding)
    data = following = b""
    for chunk in chunks:
        if len(data) >= LONGEST_LOOK or (len(data) >= LOOKED_AT and data.count(b"\n") > 1):
            following = chunk
            break
        data += chunk
    chunks.close()  # type: ignore[attr-defined]
    text = data.decode()
    lines = text.split("\n")
    if following or not lines[-1]:
        lines.pop()  # not complete, or what is behind the last line end
    if not any(line.strip() for line in lines):
        raise DataError(
            f"{path}: {'empty' if not data else 'the first line does not end' if following else 'blank'}; "
            "expected rows of text"
        )
    marks = COMMENTS.replace(options.delimiter_mark or "#", "") if options.delimiter_mark else COMMENTS
    for i, line in enumerate(lines):
        bare = line.strip()
        if bare and bare[0] not in marks:
            return _Start(path, lines, i, not following)
    raise DataError(f"{path}: no row of data: all lines begin with one of {' '.join(marks)}, which begin comments")


def _delimiter(start: _Start, options: TextOptions) -> str:
    """The delimiter that is given; or the first of tab, semicolon, comma and blanks that cuts all rows alike."""
    if options.delimiter_mark:
        return options.delimiter_mark
    numbers = TextNumbers(options)
    best, share = ",", 0.0
    there = {letter for line in start.lines[start.comments :] for letter in "\t;," if letter in line}
    for mark in "\t;, ":
        if mark != " " and mark not in there:
            continue
        if mark in (options.decimal, options.thousands) and not any('"' in line for line in start.lines):
            continue
        try:
            rows, _ = start.rows(Dialect(mark))
            lines = len(rows)
        except DataError:  # a quote that is not right: what do the lines without quotes say?
            rows, lines = start.rows_without_quotes(mark), len(start.lines)
        widths = [len(row) for row in rows]
        width, count = Counter(widths).most_common(1)[0] if widths else (1, 0)
        if width > 1 and (count == lines or (count == lines - 1 and widths[0] == width - 1)):
            return mark
        if width > 1 and count > max(share, 0.5) * len(widths) and (mark != " " or _mostly_numbers(rows, numbers)):
            best, share = mark, count / len(widths)
    return best


def _mostly_numbers(rows: Sequence[Sequence[str]], numbers: TextNumbers) -> bool:
    cells = [cell for row in rows for cell in row]
    return sum(numbers.number(cell) is not None for cell in cells) >= len(cells) / 2


class _Columns:
    """Finds the names of the columns."""

    def __init__(self, start: _Start, dialect: Dialect, options: TextOptions) -> None:
        self._start, self._dialect, self._options = start, dialect, options
        self._numbers = TextNumbers(options)

    def look(self, rows: list[list[str]], lines: list[int]) -> TextLook:
        """What the file is, whose first rows and their lines these are."""
        width = Counter(len(row) for row in rows[1:] or rows).most_common(1)[0][0]
        below = [row for row in rows[1:] if len(row) == width]
        first, where = rows[0], f"{self._start.name}, line {lines[0]}"
        short = width - len(first) == 1 and len(below) > 0
        if short and len(below) > 1 and names_come_first(below[0], below[1:], self._numbers):
            short = False  # a title, and then the names
        ends_empty = short and not any(row[-1] for row in below)
        aligned = [row[:-1] if ends_empty else row[1:] for row in below] if short else below
        fits = short or len(first) == width
        if not fits:
            raise DataError(
                f"{where}: expected {width} values, as in the rows below, got {len(first)}: "
                f"{shown(self._joined(first))}; lines that are skipped begin with one of {' '.join(COMMENTS)}"
            )
        verdict = names_come_first(first, aligned, self._numbers)
        above = self._names_in_comment(width) if verdict is not True else None
        header = self._options.header
        if header is None and verdict is None and above is None:
            raise DataError(
                f"{where}: it cannot be said whether {shown(self._joined(first))} are the names of the columns or "
                "values; say it with --header or --no-header"
            )
        if above and header is not False and not (header and verdict is None):
            columns, at, note = (
                named_columns(f"{self._start.name}, line {self._start.comments}", above),
                0,
                (f"names from the comment in line {self._start.comments}"),
            )
        elif header or (header is None and verdict):
            columns, at, note = self._from_first(where, first, short, ends_empty), 1, f"names from line {lines[0]}"
        else:
            columns = tuple(TableColumn(str(i)) for i in range(width))
            at, note = 0, "no names in the file: the columns are 0, 1, …"
        first_line = lines[at] if at < len(lines) else len(self._start.lines) + 1
        data = [row for row in rows[at:] if len(row) == len(columns)]
        words = frozenset(i for i in range(len(columns)) if self._has_words([row[i] for row in data]))
        between = WORDS.get(self._dialect.delimiter, repr(self._dialect.delimiter)) + " between the cells"
        between = between if len(columns) > 1 else "one column"
        return TextLook(self._dialect, self._with_units(columns), first_line, words, (between, note))

    def _from_first(self, where: str, first: list[str], short: bool, ends_empty: bool) -> tuple[TableColumn, ...]:
        """The columns, where the first row has their names: maybe one name less than there are cells below."""
        if ends_empty:
            extra = TableColumn(f"column {len(first)}", not_data="empty: each row ends with a delimiter")
            return (*named_columns(where, first), extra)
        return named_columns(where, ["", *first] if short else first)

    def _names_in_comment(self, width: int) -> list[str] | None:
        """The names in the comment right above the data, as NumPy's savetxt writes them; None if there are none."""
        if not self._start.comments:
            return None
        line = self._start.lines[self._start.comments - 1].strip()
        if line[:1] not in ("#", "%"):
            return None
        try:
            rows = read_rows("", line[1:].strip(), 1, replace(self._dialect, comments=""), final=True).cells
        except DataError:
            return None
        names = [cell.strip(BLANK) for cell in rows[0]] if rows else []
        plain = len(names) == width and all(names) and len(set(names)) == width
        if not plain or any(self._numbers.number(name) is not None for name in names):
            return None
        return names if width > 1 or " " not in names[0] else None

    def _with_units(self, columns: tuple[TableColumn, ...]) -> tuple[TableColumn, ...]:
        """With the units that astropy's ECSV has in its comments."""
        comments = self._start.lines[: self._start.comments]
        if not comments or not comments[0].startswith("# %ECSV"):
            return columns
        units = {found[1]: found[2] for line in comments for found in _UNIT.finditer(line)}
        return tuple(replace(column, units=units.get(column.name, "").strip("'\" ")) for column in columns)

    def _has_words(self, cells: list[str]) -> bool:
        there = [cell for cell in cells if cell not in self._numbers.words]
        return self._numbers.numbers(there) is None

    def _joined(self, cells: Sequence[str]) -> str:
        return self._dialect.delimiter.join(cells)
