"""Whether the first row of a text file holds the names of its columns, and what the columns are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from distbp.errors import DataError
from distbp.tables.source_files import shown
from distbp.tables.table import TableColumn
from distbp.tables.text_numbers import TextNumbers

ROWS_TO_TELL_WORDS = 20  # in a file of words alone, fewer rows do not tell whether its first one holds names
_WHOLE = re.compile(r"[0-9]+")
_PANDAS_INDEX = re.compile(r"Unnamed: 0(_level_0)?(\.[0-9]+)?")


def names_come_first(first: Sequence[str], rows: Sequence[Sequence[str]], numbers: TextNumbers) -> bool | None:
    """Whether a row, the first of a file, has names and no values; None: it cannot be said.  `rows`: those below it.

    Numbers are no names, and numbers with words above them are values with names above them.  Stars are what Fortran
    writes for a number that its field is too narrow for.
    """
    is_number = [_stands_for_number(cell, numbers) for cell in first]
    words = [i for i, cell in enumerate(first) if not is_number[i] and cell not in numbers.words]
    if not any(is_number):
        if not words:
            return None
        if not rows or any(_stands_out(first[i], [row[i] for row in rows], numbers) for i in words):
            return True
        return _words_alone(first, rows, words)
    if not words:
        above_words = any(is_number[i] and _has_words([row[i] for row in rows], numbers) for i in range(len(first)))
        return None if above_words or _counts(first) else False
    values = [cell for cell, number in zip(first, is_number, strict=True) if number]
    if len(set(values)) < len(values) or not all(_WHOLE.fullmatch(value) for value in values):
        return False
    return False if any(first[i] in {row[i] for row in rows} for i in words) else None


def _stands_out(word: str, cells: Sequence[str], numbers: TextNumbers) -> bool:
    """Whether a word stands above numbers, at least half of all that is not missing, and not among them."""
    there = [cell for cell in cells if cell not in numbers.words]
    count = sum(_stands_for_number(cell, numbers) for cell in there)
    return count > 0 and 2 * count >= len(there) and word not in there


def _has_words(cells: Sequence[str], numbers: TextNumbers) -> bool:
    return any(cell not in numbers.words and not _stands_for_number(cell, numbers) for cell in cells)


def _stands_for_number(cell: str, numbers: TextNumbers) -> bool:
    return numbers.number(cell) is not None or set(cell) == {"*"}


def _counts(first: Sequence[str]) -> bool:
    """Whether these are 0, 1, 2, …: what pandas writes above columns that have no names."""
    counted = first[1:] if first and not first[0] else first
    return len(counted) > 1 and list(counted) == [str(i) for i in range(len(counted))]


def _words_alone(first: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int]) -> bool | None:
    """Words above words: a word that comes again is a value; one that never does, where others do, is a name."""
    below = {i: {row[i] for row in rows} for i in words}
    if any(first[i] in below[i] for i in words):
        return False
    telling = len(rows) >= ROWS_TO_TELL_WORDS and any(len(values) <= len(rows) / 4 for values in below.values())
    return True if telling and len(set(first)) == len(first) else None


def named_columns(where: str, names: Sequence[str]) -> tuple[TableColumn, ...]:
    """The columns that have these names; one without a name is called "column 4", by its place from 0.

    Raises DataError where two have the same name.
    """
    columns = []
    for i, name in enumerate(names):
        index = not name and i == 0
        columns.append(
            TableColumn(
                name or f"column {i}",
                not_data="row names or an index: it has no name"
                if index
                else "an index that pandas has written"
                if _PANDAS_INDEX.fullmatch(name)
                else "",
            )
        )
    check_different(where, [column.name for column in columns])
    return tuple(columns)


def check_different(where: str, names: Sequence[str]) -> None:
    """Raises DataError where two columns have the same name; `where` speaks."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        first = names.index(name)
        second = names.index(name, first + 1)
        raise DataError(
            f"{where}: columns {first} and {second}, counted from 0, are both called {shown(name)}; columns need "
            "different names (--no-header, if this line holds values)"
        )
