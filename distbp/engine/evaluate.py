"""Loss and metrics of a split, the same bits on any number of ranks: each sample counts once, whoever works on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.engine.diagnosis import first_row_not_finite
from distbp.engine.feed import Feed
from distbp.mathematics.activations import Array
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.backprop import Piece, forward, piece_samples
from distbp.mathematics.batches import shard
from distbp.mathematics.exact_sum import total
from distbp.mathematics.network import Network, Parameters
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.stop import Pulse

SMALLEST, LARGEST, BLOCKS = 32, 256, 64
ROUND = 64  # blocks of a rank, after which the ranks agree to go on


def block_samples(N: int) -> int:
    """How many samples of a split of N are worked on together: it depends on N alone, and leaves work for 64 ranks."""
    return min(LARGEST, max(SMALLEST, -(-N // BLOCKS)))


@dataclass(frozen=True)
class Scores:
    """L_T and the metrics, by name, over `samples` samples."""

    loss: float
    metrics: dict[str, float]
    samples: int


class BlockSums(Protocol):
    """Computes the sums of `Problem.sums` over some rows of a split."""

    def __call__(self, parameters: Parameters, x: NDArray[Any], y: NDArray[Any] | None) -> Sequence[float]:
        """x and y are consecutive rows, as `Split.read` returns them."""

    def close(self) -> None:
        """Ends what works in the background."""


class NumpyBlockSums:
    """See `BlockSums`; for at most `longest` rows."""

    def __init__(self, problem: Problem, data: Split, longest: int, dtype: str, arena: Arena) -> None:
        self._problem, self._feed = problem, Feed(problem, data, longest, dtype, arena)
        self._rows = arena.take(longest, np.int64)
        self._rows[:] = np.arange(longest)
        self._piece = Piece(problem.network, longest, dtype, arena)

    def __call__(self, parameters: Parameters, x: NDArray[Any], y: NDArray[Any] | None) -> Sequence[float]:
        piece = self._piece.part(0, len(x))
        self._feed.fill(piece, x, y, self._rows[: len(x)])
        forward(self._problem.network, parameters, piece)
        return self._problem.piece_sums(piece)

    def close(self) -> None:
        """Nothing works in the background."""


class Evaluation:
    """A split made ready to be evaluated again and again, as validation does."""

    def __init__(
        self,
        comm: Communicator,
        problem: Problem,
        data: Split,
        dtype: str,
        arena: Arena = ALIGNED,
        make: Callable[[Problem, Split, int, str, Arena], BlockSums] = NumpyBlockSums,
    ) -> None:
        """`make` makes what computes the sums of blocks of rows."""
        self._comm, self._problem, self._samples, self._dtype = comm, problem, len(data), dtype
        self._longest = _longest(problem.network, len(data), dtype)
        self._blocks = _blocks(len(data), self._longest)
        self._data, self._sums_of_block = data, make(problem, data, self._longest, dtype, arena)
        self._sums_of_blocks = arena.take((len(problem.sums) + 1, self._blocks), np.float64)

    def __call__(self, parameters: Parameters, pulse: Pulse = lambda phase: None) -> Scores:
        """Every block has a place of its own in one Allreduce; they are added where all are at hand.

        A loss that is not finite is returned as it is; `why_not_finite` tells whose it is.
        """
        comm, sums = self._comm, self._sums_of_blocks
        sums.fill(0.0)
        mine, most = range(*shard(self._blocks, comm.rank, comm.size)), -(-self._blocks // comm.size)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for first in range(0, most, ROUND):  # rows may have to be read, which can fail
                agree(comm, partial(self._sums, parameters, pulse, mine, mine[first : first + ROUND], sums))
        comm.allreduce(sums)
        *whole, n = (total(values.tolist()) for values in sums)
        assert n == self._samples, "samples were lost or repeated"
        found = self._problem.scores(whole, self._samples)
        return Scores(found.pop("loss"), found, self._samples)

    def why_not_finite(self, parameters: Parameters, pulse: Pulse = lambda phase: None) -> str:
        """The first row whose loss is not finite, in words.  All ranks call this."""
        why = first_row_not_finite(self._comm, self._dtype, self._problem, parameters, self._data, pulse)
        return why or f"each row of {self._data.where('x')} is finite, their sum overflows"

    def close(self) -> None:
        """Ends what works in the background."""
        self._sums_of_block.close()

    def _sums(self, parameters: Parameters, pulse: Pulse, mine: range, some: range, sums: Array) -> None:
        """The sums and the number of samples of some of this rank's blocks, each in its place."""
        end = min(self._samples, mine.stop * self._longest)
        for block in some:
            pulse(f"evaluating {self._data.name}")
            first = block * self._longest
            last = min(first + self._longest, self._samples)
            sums[:, block] = *self._sums_of_block(parameters, *self._data.read(first, last, end)), last - first


def _blocks(N: int, longest: int) -> int:
    return -(-N // longest)


def _longest(network: Network, N: int, dtype: str) -> int:
    """Samples of a block."""
    return min(block_samples(N), piece_samples(network, dtype), N)
