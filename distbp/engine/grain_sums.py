"""The sums of a rank's grains, in NumPy: the counterpart, in the reproducible mode, of `shard_gradient`.

All matrix products have shapes that follow from the network and G, and all other work is element by element, in an
order that follows from n and G: no bit depends on which rank does what.

Where a product is written to, and with what stride, must not change its bits.  BLAS computes it in registers, from
copies of d and a, and only then stores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.engine.feed import Feed
from distbp.engine.laps import Lap
from distbp.engine.step_memory import StepMemory
from distbp.engine.work import Work
from distbp.mathematics.activations import Array
from distbp.mathematics.backprop import Piece, errors, forward, sample_bytes
from distbp.mathematics.batches import shard
from distbp.mathematics.grain_tree import Node, add_up, grains_of, largest_nodes, place, shares
from distbp.mathematics.grains import Grains, foresee_trials, grain_count, same_bits, stride
from distbp.mathematics.network import Network, Parameters

ROOM_BYTES = 256 * 2**20  # memory for the activations of grains that are worked on together
TILE = (256, 1024)  # rows, columns of ∂L/∂W that are added up over the grains while they are in the L2 cache


class GrainSums:
    """Leaves S(node) of this rank's i-th node in its i-th vector of the step's memory: see `reproducible.NodeSums`."""

    def __init__(self, work: Work, memory: StepMemory, parameters: Parameters, lap: Lap) -> None:
        self._problem, self._lap = work.problem, lap
        network, dtype = work.network, work.config.dtype
        self._network, self._parameters = network, parameters
        self._grain = work.grain

        room = _room(network, work.n, self._grain, work.comm.size, dtype)
        self._level = room.level
        arena, samples = work.arena, work.arena.of("samples of a batch as they are stored")
        self._room = Piece(network, room.samples, dtype, arena.of("activations"))
        self._training, self._feed = work.training, Feed(work.problem, work.training, self._grain, dtype, samples)
        same_bits.cache_clear()  # of a run before, maybe with other BLAS threads
        foresee_trials(network, self._room, self._grain, arena)
        self._held: dict[tuple[int, int], Grains] = {}

        count, sums = network.parameter_count, arena.of("sums of gradients")
        largest = _largest_tile(network.sizes)
        self._spare = [sums.take(largest, dtype) for _ in range(self._level)]
        # For a sum of grains: those that the ranks share, and those on the way to one.
        self._sums = [Parameters(network, vector[:count]) for vector in memory.sums[memory.part]]
        above = _places_above(work.sizes, self._grain, self._level, work.comm.rank, work.comm.size)
        self._above = [Parameters.zeros(network, dtype, sums) for _ in range(above)]

    def __call__(self, i: int, node: Node, count: int, batch: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        """See `NodeSums`."""
        first = grains_of(node, count).start >> self._level

        def known(node: Node) -> Array | None:
            if node[0] > self._level:
                return None
            grains = grains_of(node, count)
            held = self._errors(grains, batch, sums)
            at = place(grains.start >> self._level, first)
            out = self._above[at - 1] if at else self._sums[i]
            self._add_products(node, count, held.grains, out)
            self._lap("backward")
            return out.vector

        add_up(node, count, known)

    def close(self) -> None:
        """Nothing works in the background."""

    @cached_property
    def _tiles(self) -> list[_Tile]:
        return list(_tiles(self._network.sizes))

    def _errors(self, grains: range, batch: NDArray[np.int64], sums: NDArray[np.float64]) -> Grains:
        """z, a, d of some grains of the batch; what they sum up goes into `sums`."""
        network, G = self._network, self._grain
        cuts = [(i * G, min((i + 1) * G, len(batch))) for i in grains]
        held = self._grains([end - start for start, end in cuts])
        for (start, end), part in zip(cuts, held.grains, strict=True):
            self._feed.fill(part, self._training.x, self._training.y, batch[start:end])
        self._lap("data")
        forward(network, self._parameters, held)
        for i, part in zip(grains, held.grains, strict=True):
            sums[i] = self._problem.piece_sums(part)
        self._lap("forward")
        errors(network, self._parameters, held)
        self._lap("backward")
        return held

    def _grains(self, lengths: list[int]) -> Grains:
        key = (len(lengths), lengths[-1])
        if key not in self._held:
            self._held[key] = Grains(self._network, self._room, self._grain, lengths)
        return self._held[key]

    def _add_products(self, node: Node, count: int, grains: list[Piece], out: Parameters) -> None:
        """Leaves ∂L/∂W^l, ∂L/∂b^l of the node's grains in `out`, tile after tile."""
        first = grains_of(node, count).start
        for tile in self._tiles:
            sums = out.b[tile.l] if tile.columns is None else out.W[tile.l][tile.rows, tile.columns]

            def known(node: Node, tile: _Tile = tile, sums: Array = sums) -> Array | None:
                level, i = node
                if level > 0:
                    return None
                part, at, l = grains[i - first], place(i, first), tile.l
                product = self._spare[at - 1][: sums.size].reshape(sums.shape) if at else sums
                if tile.columns is None:
                    np.matmul(part.d[l], part.ones, out=product)  # ∂L/∂b_j^l = d_j^l, summed over the grain
                else:
                    a, d = part.a[l - 1][tile.columns], part.d[l][tile.rows]
                    np.matmul(d, a.T, out=product)  # ∂L/∂w_jk^l = a_k^{l-1} d_j^l, summed over the grain
                return product

            add_up(node, count, known)


@dataclass(frozen=True)
class _Tile:
    """A part of ∂L/∂W^l, or, without columns, ∂L/∂b^l."""

    l: int
    rows: slice
    columns: slice | None
    size: int


def _tiles(n: tuple[int, ...]) -> Iterator[_Tile]:
    """From layer F down, as backpropagation goes."""
    for l in range(len(n) - 1, 1, -1):
        for rows in _even(n[l], TILE[0]):
            for columns in _even(n[l - 1], TILE[1]):
                yield _Tile(l, rows, columns, (rows.stop - rows.start) * (columns.stop - columns.start))
        yield _Tile(l, slice(0, n[l]), None, n[l])


def _largest_tile(n: tuple[int, ...]) -> int:
    """Numbers in the largest of all tiles."""

    def longest(length: int, most: int) -> int:
        return -(-length // -(-length // most))

    return max(max(longest(n[l], TILE[0]) * longest(n[l - 1], TILE[1]), n[l]) for l in range(2, len(n)))


def _even(length: int, longest: int) -> list[slice]:
    """[0, length) in parts of about the same size."""
    count = -(-length // longest)
    return [slice(*shard(length, i, count)) for i in range(count)]


class _Room(NamedTuple):
    """`level` of the largest nodes whose grains are worked on together, and the samples that makes at most."""

    level: int
    samples: int


def _room(network: Network, n: int, grain: int, size: int, dtype: DTypeLike) -> _Room:
    most = max(last - first for first, last in shares(grain_count(n, grain), size))
    step = stride(grain, dtype)
    fit = max(1, ROOM_BYTES // (sample_bytes(network, dtype) * step))
    level = (most - 1).bit_length() if most <= fit else fit.bit_length() - 1
    return _Room(level, min(most, 2**level) * step)


def _places_above(sizes: Sequence[int], grain: int, level: int, rank: int, size: int) -> int:
    """How many sums are kept on the way to those of this rank's nodes (see `place`), for batches of these sizes."""
    above = 0
    for count in {grain_count(n, grain) for n in sizes}:
        for node in largest_nodes(*shares(count, size)[rank], count):
            grains = grains_of(node, count)
            first = grains.start >> level
            above = max([above, *(place(grain >> level, first) for grain in grains)])
    return above
