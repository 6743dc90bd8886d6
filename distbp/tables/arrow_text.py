"""PyArrow's reader of CSV, where it is installed, for blocks of text about which there is no doubt.

It says nothing of its own: where a block may be read in two ways, or has something wrong in it, it gives None, and
`distbp.tables.text_rows` decides and words the message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.tables.arrow_buffers import nulls, numbers
from distbp.tables.table import Values
from distbp.tables.text_numbers import TextNumbers
from distbp.tables.text_options import TextOptions
from distbp.tables.text_quotes import LINE_END, QUOTE, end_of_rows
from distbp.tables.text_rows import BLANK, Dialect

_BLANK_LINE = re.compile(rb"^[ \t]+$", re.MULTILINE)
MOST_REFUSALS = 3  # of blocks, one after the other: then the rest of the file is not tried


class ArrowText:
    """Reads blocks of whole rows.  `words`: the columns that are taken for text at first, by their numbers."""

    def __init__(self, width: int, dialect: Dialect, options: TextOptions, words: frozenset[int]) -> None:
        self._dialect, self._options, self._words = dialect, options, set(words)
        self._names = [str(i) for i in range(width)]
        self._numbers = TextNumbers(options)
        self._refused = 0
        self._csv = _pyarrow_csv() if not options.thousands else None

    def values(self, data: bytes, chosen: Sequence[int], as_text: frozenset[int]) -> list[Values] | None:
        """The values of these columns; None: not read.  `as_text`: columns that are wanted as they are written."""
        if self._csv is None or self._refused >= MOST_REFUSALS or not chosen:
            return None
        found = self._values(data, chosen, as_text)
        self._refused = 0 if found else self._refused + 1
        return found

    def learn(self, chosen: Sequence[int], values: Sequence[Values]) -> None:
        """Which columns were text in a block that was read elsewhere."""
        for column, value in zip(chosen, values, strict=True):
            (self._words.add if value.is_text else self._words.discard)(column)

    def _values(self, data: bytes, chosen: Sequence[int], as_text: frozenset[int]) -> list[Values] | None:
        if self._dialect.may_have_comments(data) or any(mark in data for mark in self._dialect.special):
            return None
        if self._dialect.delimiter == " ":
            if end_of_rows(data + b"\n", b" \t") != len(data) + 1:
                return None
            data = single_blanks(data)
        if len(self._names) == 1 and _BLANK_LINE.search(data):
            return None  # a line of blanks would be a cell
        import pyarrow

        taken = list(dict.fromkeys(chosen))
        try:
            table = self._read(pyarrow, data, taken, as_text)
        except pyarrow.ArrowException:
            return None
        found: dict[int, Values] = {}
        for i, parts in zip(taken, table.columns, strict=True):
            column = parts.chunk(0) if parts.num_chunks == 1 else parts.combine_chunks()
            value = _floats(column) if pyarrow.types.is_float64(column.type) else self._strings(column, i in as_text)
            if value is None:
                return None
            found[i] = value
        others = [i for i in taken if i not in as_text]
        self.learn(others, [found[i] for i in others])
        return [found[i] for i in chosen]

    def _read(self, pyarrow: Any, data: bytes, chosen: Sequence[int], as_text: frozenset[int]) -> Any:
        csv: Any = self._csv
        text = {i for i in chosen if i in as_text or i in self._words}
        words = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        return csv.read_csv(
            pyarrow.BufferReader(data),
            csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=self._names),
            csv.ParseOptions(delimiter=self._dialect.delimiter, newlines_in_values=b'"' in data),
            csv.ConvertOptions(
                column_types={str(i): words if i in text else pyarrow.float64() for i in chosen},
                include_columns=[str(i) for i in chosen],
                null_values=list(self._options.missing_words),
                strings_can_be_null=False,
                decimal_point=self._options.decimal,
            ),
        )

    def _strings(self, column: Any, as_text: bool) -> Values:
        """Of a column of strings, by what stands in it: each of them is looked at once."""
        words = [word.strip(BLANK) for word in column.dictionary.to_pylist()]
        places = numbers(column.indices, np.int32)
        values = self._numbers.values(words, as_text=as_text)
        missing = None if values.missing is None else values.missing[places]
        return Values(values.array[places], missing)


def _floats(column: Any) -> Values | None:
    """Of a column of numbers; None where one is not finite: Python's words for it and Arrow's are not the same."""
    gaps = nulls(column)
    found: NDArray[np.float64] = numbers(column, np.float64)
    if gaps is not None:
        found = np.where(gaps, 0.0, found)
    if not np.isfinite(found).all():
        return None
    if gaps is None:
        return Values(found[:, None], None)
    return Values(np.where(gaps, np.nan, found)[:, None], gaps[:, None])


def single_blanks(data: bytes) -> bytes:
    """With one blank where there are several blanks or tabs outside of quotes, and none at both ends of a line."""
    if not data:
        return data
    letters = np.frombuffer(data, np.uint8)
    blank = (letters == ord(" ")) | (letters == ord("\t"))
    if b'"' in data:
        blank &= np.cumsum(letters == QUOTE) % 2 == 0
    end = letters == LINE_END
    follows = np.empty_like(blank)  # a blank, or a line end, stands before
    follows[0], follows[1:] = True, blank[:-1] | end[:-1]
    kept = ~(blank & follows)
    letters = np.where(blank, np.uint8(ord(" ")), letters)[kept]
    last = np.empty_like(letters, np.bool_)
    last[-1:], last[:-1] = True, letters[1:] == LINE_END
    single: bytes = letters[~(blank[kept] & last)].tobytes()
    return single


def _pyarrow_csv() -> Any:
    """The module; None where it is not installed."""
    try:
        import pyarrow.csv
    except ImportError:
        return None
    return pyarrow.csv
