"""Columns that follow the row number, v = a + b·row: an index that was saved with the data, a time axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_ROWS = 8
TOLERANCE = 0.01  # of a step: values may have been rounded when they were written


class RowNumbers:
    """Looks, block by block, which numbers of a row follow the row number; of each table on its own."""

    def __init__(self) -> None:
        self._alive: NDArray[np.intp] | None = None
        self._origin: NDArray[np.float64] = np.empty(0)
        self._before: NDArray[np.float64] = np.empty(0)  # the last row so far, which the next block goes on from
        self._rows = self._compared = 0
        self._counting: NDArray[np.bool_] = np.empty(0, bool)  # of those alive: step 1, from 0 or 1

    def begin_table(self) -> None:
        """The rows that follow are those of another table."""
        self._rows = 0

    def add(self, array: NDArray[Any]) -> None:
        """Rows, shape (rows, width); NaN where a value is missing."""
        with np.errstate(invalid="ignore", over="ignore"):  # of infinite values, which are refused later
            self._add(array)

    def _add(self, array: NDArray[Any]) -> None:
        if self._alive is None:
            self._alive, self._counting = np.arange(array.shape[1]), np.ones(array.shape[1], bool)
        if not len(self._alive):
            return
        if self._rows == 0:
            self._few(array)
            self._origin = array[0, self._alive].astype(np.float64)
            self._before = self._origin
        if len(self._alive):
            self._compare(array[:, self._alive].astype(np.float64), self._eps(array.dtype))
        self._rows += len(array)

    def _few(self, array: NDArray[Any]) -> None:
        """Most columns are ruled out by their first rows, without a copy of all others."""
        assert self._alive is not None
        if len(array) >= 3:
            some = array[:3, self._alive].astype(np.float64)
            step, following = some[1] - some[0], some[2] - some[1]
            close = np.abs(following - step) <= 0.1 * np.abs(step) + self._eps(array.dtype) * np.abs(some).max(axis=0)
            self._alive, self._counting = self._alive[close & (step != 0)], self._counting[close & (step != 0)]

    def _compare(self, values: NDArray[np.float64], eps: float) -> None:
        assert self._alive is not None
        last = self._rows + len(values) - 1
        if last < 1:
            return
        step = (values[-1] - self._origin) / last
        first = max(self._rows - 1, 0)
        if self._rows:
            values = np.concatenate([self._before[None], values])
        wanted = self._origin + step * np.arange(first, last + 1)[:, None]
        good = (np.abs(values - wanted) <= TOLERANCE * np.abs(step) + eps * np.abs(values)).all(axis=0) & (step != 0)
        counting = self._counting & (step == 1) & np.isin(self._origin, (0, 1))
        self._alive, self._origin, self._counting = self._alive[good], self._origin[good], counting[good]
        self._before = values[-1][good]
        self._compared += last + 1 - self._rows if last > 1 else 0

    def _eps(self, dtype: np.dtype[Any]) -> float:
        return 4 * float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0

    def found(self) -> dict[int, str]:
        """Which numbers of a row follow the row number, and how, in words."""
        if self._alive is None or self._compared < FEWEST_ROWS:
            return {}
        words = ("follows the row number", "counts the rows")
        return {i: words[counts] for i, counts in zip(self._alive.tolist(), self._counting.tolist(), strict=True)}
