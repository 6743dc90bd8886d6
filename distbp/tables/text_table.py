"""Text files as tables, for `distbp import`: CSV, its relatives with other delimiters, and columns between blanks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distbp.errors import DataError
from distbp.tables.arrow_text import ArrowText
from distbp.tables.source_files import shown
from distbp.tables.table import TableColumn, Values
from distbp.tables.text_file import text_chunks
from distbp.tables.text_look import TextLook, look
from distbp.tables.text_numbers import TextNumbers
from distbp.tables.text_options import TextOptions
from distbp.tables.text_quotes import end_of_rows
from distbp.tables.text_rows import BLANK, LONGEST_ROW, Rows, read_rows

LARGEST_BLOCK, BYTES_A_COLUMN = 2**23, 2**11  # wide tables have larger blocks, for each column costs something
MOST_CELLS = 2**22


@dataclass(frozen=True)
class _Piece:
    """Some rows: as text of whole rows, about which there is no doubt; or taken apart."""

    line: int
    data: bytes
    rows: Rows | None = None


class TextTable:
    """A text file whose rows have the same number of cells.

    `notes`: what was found by looking, in words for the user.
    """

    is_text = True

    def __init__(self, path: str, options: TextOptions | None = None, found: TextLook | None = None) -> None:
        """`found`: what the file is, where it says so itself; None: found by looking.  Raises DataError."""
        self.name, self._options = path, options or TextOptions()
        found = found or look(path, self._options)
        self.columns, self.notes = found.columns, found.notes
        self._dialect, self._first_line, self._words = found.dialect, found.first_line, found.words
        self._numbers = TextNumbers(self._options)
        self._places = {column.name: i for i, column in enumerate(self.columns)}
        self._counts: list[int] = []  # the rows of each piece, as far as the file was read

    def column(self, name: str) -> TableColumn:
        """The column of this name; "" is the first one, where it has no name.  Raises DataError."""
        place = self._places.get(name)
        if place is None and not name and self.columns[0].not_data:
            place = 0
        if place is None:
            raise DataError(f"{self.name}: no column {shown(name)}; it has {_few([c.name for c in self.columns])}")
        return self.columns[place]

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        """See `Table`.  Blanks around a cell do not belong to it."""
        chosen = [self._places[self.column(name).name] for name in names]
        as_text = frozenset(self._places[self.column(name).name] for name in text)
        arrow = ArrowText(len(self.columns), self._dialect, self._options, self._words)
        for number, piece in enumerate(self._pieces()):
            values = arrow.values(piece.data, chosen, as_text) if piece.rows is None else None
            if values is not None:
                self._count(number, len(values[0].array))
                if len(values[0].array):
                    yield values
                continue
            rows = self._rows(piece)
            self._count(number, len(rows.cells))
            step = max(1, MOST_CELLS // len(self.columns))
            for begin in range(0, len(rows.cells), step):
                values = self._values(rows.cells[begin : begin + step], chosen, as_text)
                arrow.learn(chosen, values)
                yield values

    def place(self, row: int) -> str:
        """'file.csv, line 18 (the row)', found by reading it again."""
        done = 0
        for number, piece in enumerate(self._pieces()):
            if number < len(self._counts) and done + self._counts[number] <= row:
                done += self._counts[number]
                continue
            rows = self._rows(piece)
            if row < done + len(rows.cells):
                cells, line = rows.cells[row - done], rows.lines[row - done]
                return f"{self.name}, line {line} ({shown(self._joined(cells))})"
            done += len(rows.cells)
        raise DataError(f"{self.name}: row {row} is not there any more; it had been there before")

    def _count(self, number: int, rows: int) -> None:
        if number == len(self._counts):
            self._counts.append(rows)

    def _values(self, cells: Sequence[Sequence[str]], chosen: Sequence[int], as_text: frozenset[int]) -> list[Values]:
        return [self._numbers.values([row[i].strip(BLANK) for row in cells], as_text=i in as_text) for i in chosen]

    def _rows(self, piece: _Piece) -> Rows:
        """The rows of a piece, all of the same width.  Raises DataError."""
        rows = piece.rows
        if rows is None:
            rows = read_rows(self.name, piece.data.decode(), piece.line, self._dialect, final=True)
        width = len(self.columns)
        for cells, line in zip(rows.cells, rows.lines, strict=True):
            if len(cells) != width:
                raise DataError(
                    f"{self.name}, line {line}: expected {width} values, got {len(cells)}: "
                    + shown(self._joined(cells))
                )
        return rows

    def _joined(self, cells: Sequence[str]) -> str:
        return self._dialect.delimiter.join(cells)

    def _pieces(self) -> Iterator[_Piece]:
        """The data in pieces of whole rows; the same ones each time."""
        line, data = self._first_line, b""
        for block, final in self._data():
            data += block
            lines = len(data) if final else data.rfind(b"\n") + 1
            end = self._end_of_rows(data[:lines], final)
            rows = None
            if end is None:
                rows = read_rows(self.name, data[:lines].decode(), line, self._dialect, final=final)
                end = lines - sum(len(text) + 1 for text in data[:lines].split(b"\n")[-1 - rows.unread : -1])
            elif not end and len(data) > LONGEST_ROW:
                raise DataError(
                    f"{self.name}, line {line}: a row of more than {LONGEST_ROW} bytes: {shown(str(data[:99]))}"
                )
            if end:
                yield _Piece(line, data[:end], rows)
            line += data.count(b"\n", 0, end)
            data = data[end:]

    def _end_of_rows(self, data: bytes, final: bool) -> int | None:
        """How many bytes of these lines are whole rows; None where that takes a closer look."""
        if self._dialect.by_lines:
            return len(data)
        if self._dialect.may_have_comments(data):
            return None
        end = end_of_rows(data, self._dialect.delimiter.encode())
        if end is None or len(data) - end > LONGEST_ROW:
            return None
        if final and end < len(data):
            return None if data.count(b'"', end) % 2 else len(data)
        return end

    def _data(self) -> Iterator[tuple[bytes, bool]]:
        """The text from the first row of data on, in blocks; and whether a block is the last one."""
        skipped, size = self._first_line - 1, min(LARGEST_BLOCK, len(self.columns) * BYTES_A_COLUMN)
        held: list[bytes] = []
        for chunk in text_chunks(self.name, self._options.encoding):
            while skipped and chunk:
                end = chunk.find(b"\n") + 1
                chunk = chunk[end:] if end else b""
                skipped -= end > 0
            if chunk and sum(map(len, held)) >= size:
                yield b"".join(held), False
                held = []
            held.append(chunk)
        yield b"".join(held), True


def _few(names: Sequence[str]) -> str:
    texts = [shown(name) for name in (names if len(names) <= 12 else [*names[:10], names[-1]])]
    return ", ".join(texts if len(names) <= 12 else [*texts[:10], "…", texts[-1]])
