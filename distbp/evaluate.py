"""Loss and metric of a split: each rank its contiguous share, summed over the ranks, divided by the samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distbp.backprop import Piece, forward, loss_sum, piece_samples
from distbp.batches import pieces, shard
from distbp.communicator import Communicator
from distbp.data import Split
from distbp.feed import Feed
from distbp.network import Parameters
from distbp.problem import Problem


@dataclass(frozen=True)
class Scores:
    """L_T and the metric over `samples` samples."""

    loss: float
    metric: float
    samples: int


class Evaluation:
    """A split made ready to be evaluated again and again, as validation does."""

    def __init__(self, comm: Communicator, problem: Problem, data: Split, dtype: str) -> None:
        self._comm, self._problem = comm, problem
        self._samples = len(data)
        self._shard = shard(len(data), comm.rank, comm.size)
        longest = min(piece_samples(problem.network, dtype), max(1, self._shard[1] - self._shard[0]))
        self._feed = Feed(problem, data, longest, dtype)
        self._piece = Piece(problem.network, longest, dtype)

    def __call__(self, parameters: Parameters) -> Scores:
        """Σ L_i, the metric's sum and the count travel in one Allreduce in float64: exact for any number of ranks."""
        network, sums = self._problem.network, np.zeros(3)
        for first, last in pieces(*self._shard, self._piece.m):
            piece = self._piece.first(network, last - first)
            self._feed.fill(piece, np.arange(first, last))
            forward(network, parameters, piece)
            sums += loss_sum(network, piece), self._problem.metric_sum(piece), last - first
        self._comm.allreduce(sums)
        n = int(sums[2])
        assert n == self._samples, "samples were lost or repeated"
        return Scores(float(sums[0]) / n, self._problem.metric_value(float(sums[1]), n), n)
