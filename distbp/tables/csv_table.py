"""CSV files as tables, for `distbp import`; Python's csv does the parsing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.source_files import check_names, is_number, opened, shown

BLOCK_CELLS = 2**20


class CSVTable:
    """Comma-separated values, maybe gzipped; the first line has the names of the columns, unless `header` is False."""

    is_text = True

    def __init__(self, path: str, *, header: bool = True, delimiter: str = ",") -> None:
        self.name, self._header, self._delimiter = path, header, delimiter
        with self._lines() as rows:
            first = next(rows, None)
        if not first:
            raise DataError(f"{path}: line 1 is empty; expected {'the names of the columns' if header else 'values'}")
        self.columns = [name.strip() for name in first] if header else [str(i) for i in range(len(first))]
        check_names(f"{path}: line 1", self.columns)

    @contextmanager
    def _lines(self) -> Iterator[Any]:
        """A csv.reader; what goes wrong in reading becomes a DataError."""
        reader: Any = None
        try:
            with opened(self.name) as raw:
                reader = csv.reader(
                    io.TextIOWrapper(raw, "utf-8-sig", newline=""), delimiter=self._delimiter, strict=True
                )
                yield reader
        except (csv.Error, UnicodeDecodeError) as error:
            line = f", line {reader.line_num}" if reader else ""
            raise DataError(f"{self.name}{line}: not CSV in UTF-8: {error}") from None

    def blocks(self, columns: Sequence[str], *, numbers: bool) -> Iterator[NDArray[Any]]:
        """See `Table`; numbers are float64."""
        number = {name: i for i, name in enumerate(self.columns)}
        chosen = [number[name] for name in columns]
        with self._lines() as reader:
            if self._header:
                next(reader)
            filled = (row for row in reader if row)  # without empty lines
            while True:
                rows, lines = [], []
                for row in islice(filled, max(1, BLOCK_CELLS // len(self.columns))):
                    if len(row) != len(self.columns):
                        raise DataError(
                            f"{self.name}, line {reader.line_num}: expected {len(self.columns)} values, "
                            f"got {len(row)}: " + shown(self._delimiter.join(row))
                        )
                    rows.append(row)
                    lines.append(reader.line_num)
                if not rows:
                    return
                cells = [[row[i] for i in chosen] for row in rows]
                yield self._numbers(cells, rows, lines, columns) if numbers else np.array(cells, object)

    def place(self, row: int) -> str:
        """The line where a row ends, and what is in it; found by reading it again."""
        with self._lines() as reader:
            rows = (cells for cells in reader if cells)
            cells = next(islice(rows, row + self._header, None))
            return f"{self.name}, line {reader.line_num} ({shown(self._delimiter.join(cells))})"

    def _numbers(
        self, cells: list[list[str]], rows: list[list[str]], lines: list[int], columns: Sequence[str]
    ) -> NDArray[np.float64]:
        try:
            values, text = np.array(cells, np.float64), "".join(chain.from_iterable(cells))
            if np.isfinite(values).all() and text.isascii() and "_" not in text:
                return values
        except ValueError:
            pass
        for texts, row, line in zip(cells, rows, lines, strict=True):
            for name, text in zip(columns, texts, strict=True):
                if not is_number(text):
                    what = f"{shown(text)}, expected a number" if text.strip() else "empty"
                    raise DataError(
                        f"{self.name}, line {line}: column {name!r} is {what}; the row is: "
                        + shown(self._delimiter.join(row))
                    )
        raise AssertionError("a value was neither good nor bad")
