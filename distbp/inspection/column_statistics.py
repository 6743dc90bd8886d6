"""Range, mean, spread and gaps of the columns of data that are read once, block by block; and the counts of labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.scaling import is_constant
from distbp.mathematics.finite import first_not_finite


class ColumnStatistics:
    """Of the finite values of each column: `low`, `high`, `mean`, `spread`; and how many values are not finite.

    Means and squared deviations of blocks are put together as in Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (1979).
    """

    def __init__(self, columns: int) -> None:
        self.count, self.mean, self._squares = (np.zeros(columns) for _ in range(3))
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)
        self.rows = self.bad_values = self.bad_rows = 0
        self.first_bad: int | None = None
        self._dtype: np.dtype[Any] = np.dtype(np.float64)

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, block: NDArray[Any]) -> None:
        """More rows, shape (rows, columns)."""
        self._dtype = block.dtype
        values = block.astype(np.float64)
        bad = first_not_finite(block)
        if bad is None:
            count = np.full(values.shape[1], float(len(values)))
            mean = values.mean(axis=0)
            low, high = values.min(axis=0), values.max(axis=0)
            values -= mean
        else:
            good = np.isfinite(values)
            self.first_bad = self.rows + bad if self.first_bad is None else self.first_bad
            self.bad_values += int(good.size - good.sum())
            self.bad_rows += int((~good).any(axis=1).sum())
            count = good.sum(axis=0).astype(np.float64)
            mean = np.where(good, values, 0.0).sum(axis=0) / np.maximum(count, 1.0)
            low, high = np.where(good, values, np.inf).min(axis=0), np.where(good, values, -np.inf).max(axis=0)
            values = np.where(good, values - mean, 0.0)
        squares = np.square(values, out=values).sum(axis=0)
        total, apart = np.maximum(self.count + count, 1.0), mean - self.mean
        self._squares += squares + np.square(apart) * self.count * count / total
        self.mean += apart * count / total
        self.count += count
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.rows += len(block)

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation, that of the population."""
        return np.sqrt(self._squares / np.maximum(self.count, 1.0))

    @property
    def constant(self) -> NDArray[np.int64]:
        """Columns with one value in all rows, but for rounding (see `distbp.data.scaling`)."""
        return np.flatnonzero(is_constant(self.low, self.high, self._dtype) & (self.count > 0))

    @np.errstate(over="ignore", invalid="ignore")
    def overall(self) -> tuple[float, float]:
        """Mean and spread of all values of all columns."""
        total = max(self.count.sum(), 1.0)
        mean = float((self.mean * self.count).sum() / total)
        squares = self._squares + self.count * np.square(self.mean - mean)
        return mean, float(np.sqrt(squares.sum() / total))


class LabelCounts:
    """How many samples each label has."""

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()

    def add(self, block: NDArray[Any]) -> None:
        """More labels, integers or strings."""
        if block.dtype.kind == "O":  # a look-up for each is faster than to sort strings
            self.counts.update(block.ravel().tolist())
            return
        labels, counts = np.unique(block, return_counts=True)
        self.counts.update(dict(zip(labels.tolist(), counts.tolist(), strict=True)))
