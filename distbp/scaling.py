"""Shift and spread of each column of a data set, measured over all ranks in float64.

    scaled value = (value - shift) / spread

standardize: shift = mean, spread = standard deviation (the population's, divided by N, as scikit-learn's);
minmax: shift = minimum, spread = maximum - minimum, so that values go from 0 to 1.  A constant column gets spread 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.batches import pieces, shard
from distbp.communicator import Communicator
from distbp.exact_sum import ExactSum, exponent

BLOCK_BYTES = 2 * 2**20  # of float64 that are worked on at a time


class Rows(Protocol):
    """An array (N, columns), or rows that are read from files when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, columns)"""

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """These rows."""


@dataclass(frozen=True)
class Scaling:
    """shift and spread, float64, shape (columns,)."""

    shift: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def none(cls, columns: int) -> Scaling:
        """Leaves values as they are."""
        return cls(np.zeros(columns), np.ones(columns))

    @property
    def is_none(self) -> bool:
        """Whether values stay as they are."""
        return not self.shift.any() and bool((self.spread == 1.0).all())

    def undo(self, scaled: NDArray[Any]) -> NDArray[np.float64]:
        """The values before scaling; samples are rows, shape (m, columns)."""
        return np.asarray(scaled * self.spread + self.shift)


@np.errstate(over="ignore", invalid="ignore")  # the result is checked where it is used
def measure(comm: Communicator, array: Rows, method: str) -> Scaling:
    """The scaling of the columns of `array`, shape (N, columns), which is the same on every rank.

    Each rank works on its shard of the blocks of rows; the sums of the blocks are added without rounding (see
    `distbp.exact_sum`), so that the bits do not depend on the number of ranks.  The deviations are summed in a second
    pass, after the mean is known: a sum of squares minus a square of sums would lose all digits of a column such as
    1e8 ± 1.
    """
    columns = array.shape[1]
    if method == "none":
        return Scaling.none(columns)
    longest = max(1, BLOCK_BYTES // (8 * columns))  # rows; it depends on the columns alone
    blocks = [slice(*rows) for rows in pieces(0, array.shape[0], longest)]
    mine = blocks[slice(*shard(len(blocks), comm.rank, comm.size))]
    low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
    for rows in mine:
        block = array[rows]
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    comm.allreduce(low, "min")
    comm.allreduce(high, "max")
    low += 0.0  # no -0, which MIN and MAX do not tell from 0
    high += 0.0
    constant = low == high
    if method == "minmax":
        return Scaling(low, np.where(constant, 1.0, high - low))

    def total(exponents: Any, of_block: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[np.float64]:
        """Σ over all rows; |of_block(rows)| < 2^exponents."""
        exact = ExactSum(exponents + (longest - 1).bit_length(), len(blocks))
        for rows in mine:
            exact.add(of_block(array[rows].astype(np.float64)).sum(axis=0))
        comm.allreduce(exact.sums)
        return exact.value()

    largest = np.array([exponent(bound) for bound in np.maximum(np.abs(low), np.abs(high))])
    mean = np.where(constant, low, total(largest, lambda block: block) / array.shape[0])
    widest = np.array([exponent(width) for width in high - low]) + 1  # the mean, rounded, may lie just outside
    squares = total(2 * widest, lambda block: np.square(block - mean))
    deviation = np.sqrt(squares / array.shape[0])
    return Scaling(mean, np.where(constant | (deviation == 0.0), 1.0, deviation))
