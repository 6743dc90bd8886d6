"""Shift and spread of each column of a data set, measured over all ranks in float64.

    scaled value = (value - shift) / spread

standardize: shift = mean, spread = standard deviation (the population's, divided by N, as scikit-learn's);
minmax: shift = minimum, spread = maximum - minimum, so that values go from 0 to 1.  A constant column gets spread 1,
and so does one that is constant up to rounding: it would be scaled by 1e13, and another value in other data would be
1e13.

What rounding is follows from the type of the data.  Of float64 it is a range of at most ROUNDED steps between one
number and the next: 5 ± 3e-13 is constant, 1 ± 1e-12 is not.  (scikit-learn's bound, N steps for the spread, grows with
N, since its sums are rounded; here they are not.)  Integers are not rounded, nor are whole numbers in float64.  In
float32 and float16 a step may be all that is left of what was measured, 300.25 beside 300.5, so there only equal values
are constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.batches import pieces, shard
from distbp.mathematics.exact_sum import ExactSum, exponent
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.stop import Pulse

BLOCK_BYTES = 2 * 2**20  # of float64 that are worked on at a time
ROUNDED = 1024
WHOLE = 2.0**54  # about up to here float64 counts whole numbers one by one
BLOCK_ROWS = 1024  # at most: inside a block sums are rounded, those of the blocks are not


class Rows(Protocol):
    """An array (N, columns), or rows that are read from files when they are asked for."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, columns)"""

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """These rows."""


@dataclass(frozen=True)
class Scaling:
    """shift and spread, float64, shape (columns,).

    `rounded`: columns that were found to be constant up to rounding; a checkpoint does not keep it.
    """

    shift: NDArray[np.float64]
    spread: NDArray[np.float64]
    rounded: tuple[int, ...] = ()

    @classmethod
    def none(cls, columns: int) -> Scaling:
        """Leaves values as they are."""
        return cls(np.zeros(columns), np.ones(columns))

    @cached_property
    def is_none(self) -> bool:
        """Whether values stay as they are."""
        return not self.shift.any() and bool((self.spread == 1.0).all())

    def undo(self, scaled: NDArray[Any]) -> NDArray[np.float64]:
        """The values before scaling; samples are rows, shape (m, columns)."""
        return np.asarray(scaled * self.spread + self.shift)


class Extremes:
    """The lowest and highest value of each column, of blocks of rows."""

    def __init__(self, columns: int) -> None:
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)

    def add(self, block: NDArray[Any]) -> None:
        np.minimum(self.low, block.min(axis=0), out=self.low)
        np.maximum(self.high, block.max(axis=0), out=self.high)

    def agree(self, comm: Communicator) -> Extremes:
        """Those of all ranks, on all ranks."""
        comm.allreduce(self.low, "min")
        comm.allreduce(self.high, "max")
        self.low += 0.0  # no -0, which MIN and MAX do not tell from 0
        self.high += 0.0
        return self


def _blocks(array: Rows) -> list[slice]:
    """All rows, in blocks that depend on the shape alone."""
    longest = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (8 * array.shape[1])))
    return [slice(*rows) for rows in pieces(0, array.shape[0], longest)]


def extremes_of(comm: Communicator, array: Rows, pulse: Pulse = lambda phase: None) -> Extremes:
    """Those of all rows, which the ranks share.  Raises DataError, agreed, for rows that cannot be read."""
    extremes, blocks = Extremes(array.shape[1]), _blocks(array)

    def add() -> None:
        for rows in blocks[slice(*shard(len(blocks), comm.rank, comm.size))]:
            pulse("measuring the data")
            extremes.add(array[rows])

    agree(comm, add)
    return extremes.agree(comm)


@np.errstate(over="ignore", invalid="ignore")  # the result is checked where it is used
def measure(
    comm: Communicator,
    array: Rows,
    method: str,
    extremes: Extremes | None = None,
    pulse: Pulse = lambda phase: None,
) -> Scaling:
    """The scaling of the columns of `array`, shape (N, columns), which is the same on every rank.

    Each rank works on its shard of the blocks of rows; the sums of the blocks are added without rounding (see
    `distbp.mathematics.exact_sum`), so that the bits do not depend on the number of ranks.  `extremes`: those of
    all rows, if they are known.

    With u = x - middle, where the middle is that between the extremes: mean = middle + E[u], variance = E[u²] - E[u]².
    (With u = x all digits of a column such as 1e8 ± 1 would be lost.  Here E[u]² is at most N/4 times the variance.)
    u is taken in a unit of its own for each column, a power of 2, so that squares of 1e-200 are numbers; that changes
    no other bit.
    """
    columns, N = array.shape[1], array.shape[0]
    if method == "none":
        return Scaling.none(columns)
    blocks = _blocks(array)
    mine = blocks[slice(*shard(len(blocks), comm.rank, comm.size))]
    extremes = extremes or extremes_of(comm, array, pulse)
    low, high = extremes.low, extremes.high
    constant = is_constant(low, high, array.dtype)
    rounded = tuple(np.flatnonzero(constant & (low != high)).tolist())
    if method == "minmax":
        return Scaling(low, np.where(constant, 1.0, high - low), rounded)

    middle = low / 2.0 + high / 2.0
    widest = np.array([exponent(width) for width in high - low])  # |u| < 2^widest
    bits = np.full(columns, (blocks[0].stop - 1).bit_length())  # rows of a block
    first, second = ExactSum(bits, len(blocks)), ExactSum(bits, len(blocks))

    def add_all() -> None:
        for rows in mine:
            pulse("measuring the data")
            u = np.ldexp(array[rows] - middle, -widest)
            squares = np.square(u)
            first.add(_sum_of_rows(u))
            second.add(_sum_of_rows(squares))

    agree(comm, add_all)  # rows may have to be read, which can fail
    comm.allreduce(first.sums)
    comm.allreduce(second.sums)
    offset = first.value() / N
    deviation = np.ldexp(np.sqrt(np.maximum(second.value() / N - np.square(offset), 0.0)), widest)
    mean = np.where(low == high, low, np.clip(middle + np.ldexp(offset, widest), low, high))
    return Scaling(mean, np.where(constant | (deviation == 0.0), 1.0, deviation), rounded)


def _sum_of_rows(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ over the rows, which are overwritten: the second half is added to the first, until one row is left.

    NumPy's own sum has an order that depends on how the rows lie in memory, and that NumPy may change.
    """
    while (rows := len(u)) > 1:
        kept = (rows + 1) // 2
        u[: rows - kept] += u[kept:]
        u = u[:kept]
    return np.asarray(u[0])


@np.errstate(over="ignore")
def is_constant(low: NDArray[np.float64], high: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Whether columns of data of this type, with these extremes, are constant, or constant up to rounding."""
    if dtype.kind != "f" or dtype.itemsize < 8:
        return np.asarray(low == high)
    step = np.finfo(dtype).eps * np.maximum(np.abs(low), np.abs(high))
    whole = (low == np.rint(low)) & (high == np.rint(high)) & (np.abs(high) <= WHOLE) & (np.abs(low) <= WHOLE)
    return np.asarray((low == high) | ((high - low <= ROUNDED * step) & ~whole))
