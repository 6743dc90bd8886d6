"""What a reader of `distbp import` gives: a table, whose columns have names and come in blocks of rows.

A reader says what is stored and decides nothing: which columns are inputs, what happens to missing values, which text
is a number, what becomes one-hot columns is decided in one place for all formats, `distbp.tables.import_data`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    `names`: of each number of a row, where a row has several; () where the file does not name them.
    `not_data`: why the column is no input unless the user names it ("index of pandas"), or "".
    `notes`: what the reader has decided, in words for the user ("unpacked: 0.01 x stored + 280").
    `rows`: how many it has, where columns of one table may have other numbers of them; None where that is not known.
    """

    name: str
    units: str = ""
    names: tuple[str, ...] = ()
    not_data: str = ""
    notes: tuple[str, ...] = ()
    rows: int | None = None


@dataclass(frozen=True)
class Values:
    """Some rows of a column.

    `array`: shape (rows, width); numbers (bool, integers or floats, in this machine's byte order), or Python strings
    (dtype object).  `missing`: bool of the same shape, True where the source says that there is no value; None where
    none is missing.  What `array` holds at a missing place means nothing.  A float that is NaN is a value that is not
    finite, and missing too if the format has no other way to say so (Parquet's nulls and NaN are two things).
    """

    array: NDArray[Any]
    missing: NDArray[np.bool_] | None = None

    @property
    def is_text(self) -> bool:
        return self.array.dtype.kind == "O"


class Table(Protocol):
    """Rows with named columns, which can be read again and again."""

    name: str  # the file, and what of it: "a.h5: train"
    is_text: bool  # its numbers are written as text, and have no type of their own

    @property
    def columns(self) -> Sequence[TableColumn]:
        """All columns, in the order of the file."""

    def column(self, name: str) -> TableColumn:
        """The column that a user's word means, which may be more than a name of `columns`: `tensor[:, 0]`.

        Raises DataError that says what there is.
        """

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        """Blocks of rows; of each block the values of these columns, in this order.

        `text`: columns that are wanted as they are written, from tables in which numbers are text (`is_text`); of
        these tables another column comes as float64 where all that is not missing in the block is numbers, otherwise
        as strings.  Raises DataError that names the place and shows what is there.
        """

    def place(self, row: int) -> str:
        """'file.csv, line 18' for a row, counted from 0."""
