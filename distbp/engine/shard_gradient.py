"""Σ_i ∂L_i/∂w over a rank's shard of a batch, worked off in pieces of bounded size."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.engine.feed import Feed
from distbp.engine.laps import Lap
from distbp.engine.reduction import Reduction
from distbp.engine.sums import Requests, Sums
from distbp.engine.work import Work
from distbp.mathematics.backprop import Piece, backward, forward, piece_samples
from distbp.mathematics.batches import pieces
from distbp.mathematics.network import Network, Parameters


class ShardGradient:
    """Backpropagation over a rank's shard of a batch, in pieces of bounded size.

    Leaves Σ_i ∂L_i/∂w over the shard in the gradient of `reduction`, which is told when the sums and when a layer's
    gradient are there.
    """

    def __init__(self, work: Work, parameters: Parameters, reduction: Reduction, lap: Lap) -> None:
        self._problem, self._reduction, self._lap = work.problem, reduction, lap
        self._parameters, self._gradient = parameters, reduction.gradient
        network, dtype = work.network, work.config.dtype
        m, is_whole = room_of(network, work.n, work.comm.size, dtype)
        self._room = Piece(network, m, dtype, work.arena.of("activations"))
        self._pieces = {self._room.m: self._room}
        samples = work.arena.of("samples of a batch as they are stored")
        self._training, self._feed = work.training, Feed(work.problem, work.training, m, dtype, samples)
        self._more = None if is_whole else Parameters.zeros(network, dtype, work.arena.of("sums of gradients"))

    def __call__(self, rows: NDArray[np.int64], requests: Requests, n: int) -> None:
        """`rows` are the samples of the shard, of a batch of n; none leave a gradient of 0.

        `requests`: those of this rank.
        """
        network, count, m = self._problem.network, len(rows), self._room.m
        part = Sums([0.0] * len(self._problem.sums))
        for first, last in pieces(0, count, m):
            piece = self._piece(last - first)
            self._feed.fill(piece, self._training.x, self._training.y, rows[first:last])
            self._lap("data")
            forward(network, self._parameters, piece)
            part.add(self._problem.piece_sums(piece), last - first)
            self._lap("forward")
            if last == count:
                self._reduction.begin(part, requests, n)
            if count <= m:
                backward(network, self._parameters, piece, self._gradient, self._reduction.ready)
            else:
                self._backward_of_one(piece, first == 0, last == count)
        if count == 0:
            self._gradient.vector.fill(0.0)
            self._reduction.begin(part, requests, n)
            self._reduction.all_ready()

    def _backward_of_one(self, piece: Piece, is_first: bool, is_last: bool) -> None:
        """Of several pieces: its gradient is added to that of those before it."""
        more, gradient = self._more, self._gradient
        assert more

        def ready(l: int) -> None:
            if not is_first:
                gradient.W[l] += more.W[l]
                gradient.b[l] += more.b[l]
            if is_last:
                self._reduction.ready(l)

        backward(self._problem.network, self._parameters, piece, gradient if is_first else more, ready)
        if not is_last:
            self._lap("backward")

    def close(self) -> None:
        """Nothing works in the background."""

    def _piece(self, m: int) -> Piece:
        if m not in self._pieces:
            self._pieces[m] = self._room.part(0, m)
        return self._pieces[m]


def room_of(network: Network, n: int, size: int, dtype: DTypeLike) -> tuple[int, bool]:
    """Samples of a piece, and whether it holds the largest shard of a batch of n on `size` ranks.

    Pieces of a shard are about equal: what is exchanged meanwhile (`Reduction`) has the backward pass of the last one.
    """
    largest = max(1, -(-n // size))
    count = -(-largest // piece_samples(network, dtype))
    return -(-largest // count), count == 1
