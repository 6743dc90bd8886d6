"""The rows of metrics.csv in memory: one table, whose rows are hashed and checked once, however often it is saved.

So the work for a checkpoint does not grow with the number of epochs: what is left is to copy the table to the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST_ROWS = 64


def record(columns: Sequence[str]) -> np.dtype[Any]:
    """The dtype of a row: a float64 for each column."""
    return np.dtype([(name, "<f8") for name in columns])


class History(Mapping[str, NDArray[np.float64]]):
    """For each column the values of all epochs, as an array that cannot be written to.

    `checked` is the number of rows that are known to be good (see `distbp.training.invariants`).
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        """`rows`: a one-dimensional array whose dtype is a `record`; it is taken over and must not change any more."""
        self._table, self.count, self.checked = rows, len(rows), 0
        self._sha, self._hashed = hashlib.sha256(), 0

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[float]]) -> History:
        """From a sequence of values for each column; all are equally long."""
        count = len(next(iter(columns.values()), ()))
        rows = np.empty(count, record(list(columns)))
        for name, values in columns.items():
            rows[name] = values
        return cls(rows)

    @property
    def rows(self) -> NDArray[Any]:
        """All rows, as one array (epochs,) of records that cannot be written to."""
        rows = self._table[: self.count]
        rows.flags.writeable = False
        return rows

    def append(self, row: Mapping[str, float]) -> None:
        """Adds the row of an epoch, with a value for each column."""
        if self.count == len(self._table):
            larger = np.empty(max(FIRST_ROWS, 2 * self.count), self._table.dtype)
            larger[: self.count] = self._table
            self._table = larger
        self._table[self.count] = tuple(row[name] for name in self)
        self.count += 1

    def snapshot(self) -> History:
        """The history as it is now, which later rows do not change; the rows are not copied."""
        copy = History(self._table[: self.count])  # one that is added to gets a table of its own
        copy.checked = self.checked
        copy._sha, copy._hashed = self._sha.copy(), self._hashed
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        """To send it to another rank."""
        return _received, (self.rows.copy(), self.checked)

    def sha256(self) -> bytes:
        """The SHA-256 of the bytes of all rows."""
        if self._hashed < self.count:
            self._sha.update(self._table[self._hashed : self.count].view(np.uint8).data)
            self._hashed = self.count
        return self._sha.digest()

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        if column not in self._table.dtype.fields:  # type: ignore[operator]
            raise KeyError(column)
        return self.rows[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.dtype.names or ())

    def __len__(self) -> int:
        """The number of columns."""
        return len(self._table.dtype.names or ())

    def __eq__(self, other: object) -> bool:
        """Whether the columns and all values are the same; a value that is none equals another one."""
        if not isinstance(other, History):
            return NotImplemented
        return list(self) == list(other) and all(
            np.array_equal(values, other[name], equal_nan=True) for name, values in self.items()
        )

    __hash__ = None  # type: ignore[assignment]


def _received(rows: NDArray[Any], checked: int) -> History:
    history = History(rows)
    history.checked = checked
    return history
