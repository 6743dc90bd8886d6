"""∂L_T/∂w with the same bits on any number of ranks (`--reproducible`).

A step, for a batch of n samples in grains of G (see `distbp.mathematics.grains`):

1. Each rank: z, a, d and the gradient of its grains, as in the text; their bits do not depend on who works on them.
2. Each rank adds them up along a tree that belongs to the batch (see `distbp.mathematics.grain_tree`), as far as it
   has the grains.
3. Each rank is sent the sums of all ranks for its slice of w, adds them up to the root of the tree, and divides by n:
   ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w.  Then the slices are sent to all.

All matrix products have shapes that follow from the network and G, and all other work is element by element, in an
order that follows from n and G: no bit depends on which rank does what.  MPI's own Allreduce adds in an order that
depends on the ranks, the size of the message and the library.

(3) moves what an Allreduce moves where the grains of each rank make one node of the tree, as those of 2^k grains on 2^j
ranks do.  A rank with several nodes keeps and sends a vector of the size of w for each: up to 2 log₂ of its grains.

Where a product is written to, and with what stride, must not change its bits.  BLAS computes it in registers, from
copies of d and a, and only then stores it.

The sums of the grains (see `distbp.engine.sums`) and the requests travel in one small Allreduce(MAX), each in a place
of its own.

Everything after this is element by element on numbers that all ranks share (momentum, Adam, weight decay), with
+ - × ÷ √ only, which IEEE 754 rounds in one way on every CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.engine.feed import Feed
from distbp.engine.laps import Lap
from distbp.engine.step_memory import StepMemory
from distbp.engine.sums import Requests, Stepped, Sums
from distbp.engine.work import Work
from distbp.mathematics.activations import Array
from distbp.mathematics.backprop import Piece, errors, forward, sample_bytes
from distbp.mathematics.batches import shard
from distbp.mathematics.exact_sum import total
from distbp.mathematics.grain_tree import Node, add_up, grains_of, largest_nodes, merged, place, root, shares
from distbp.mathematics.grains import Grains, foresee_trials, grain_count, same_bits, stride
from distbp.mathematics.network import Network, Parameters
from distbp.ranks.communicator import Communicator

ROOM_BYTES = 256 * 2**20  # memory for the activations of grains that are worked on together
TILE = (256, 1024)  # rows, columns of ∂L/∂W that are added up over the grains while they are in the L2 cache
CHUNK = 2**19  # numbers of the gradient that are exchanged at a time, which is faster than all at once


class ReproducibleGradient:
    """∂L_B/∂w over the whole batch; in `g`, this rank's slice of it, all in one bucket."""

    def __init__(self, work: Work, memory: StepMemory, parameters: Parameters, lap: Lap) -> None:
        self._comm, self._problem, self._lap = work.comm, work.problem, lap
        network, dtype = work.network, work.config.dtype
        self._network, self._parameters = network, parameters
        self._grain = min(int(work.config.grain), work.n)

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
        above = _places_above(work.sizes, self._grain, self._level, self._comm.rank, self._comm.size)
        self._above = [Parameters.zeros(network, dtype, sums) for _ in range(above)]
        self._exchange = _Exchange(memory)
        self.g = [self._exchange.g]

    def __call__(self, batch: NDArray[np.int64], requests: Requests) -> Stepped:
        """Leaves ∂L_B/∂w in `g`."""
        n, comm = len(batch), self._comm
        count = grain_count(n, self._grain)
        owned = [largest_nodes(*share, count) for share in shares(count, comm.size)]
        message = _Message(count, len(self._problem.sums), requests)
        for i, node in enumerate(owned[comm.rank]):
            self._node(i, node, count, batch, message)
        self._exchange.mean(owned, count, n)
        total = message.agree(comm, n)
        self._lap("reduction")
        return total

    def close(self) -> None:
        """Nothing works in the background."""

    def _node(self, i: int, node: Node, count: int, batch: NDArray[np.int64], message: _Message) -> Array:
        """S(node) of this rank's i-th node."""
        first = grains_of(node, count).start >> self._level

        def known(node: Node) -> Array | None:
            if node[0] > self._level:
                return None
            grains = grains_of(node, count)
            held = self._errors(grains, batch, message)
            at = place(grains.start >> self._level, first)
            out = self._above[at - 1] if at else self._sums[i]
            self._add_products(node, count, held.grains, out)
            self._lap("backward")
            return out.vector

        return add_up(node, count, known)

    @cached_property
    def _tiles(self) -> list[_Tile]:
        return list(_tiles(self._network.sizes))

    def _errors(self, grains: range, batch: NDArray[np.int64], message: _Message) -> Grains:
        """z, a, d of some grains of the batch; their sums go into the message."""
        network, G = self._network, self._grain
        cuts = [(i * G, min((i + 1) * G, len(batch))) for i in grains]
        held = self._grains([end - start for start, end in cuts])
        for (start, end), part in zip(cuts, held.grains, strict=True):
            self._feed.fill(part, self._training.x, self._training.y, batch[start:end])
        self._lap("data")
        forward(network, self._parameters, held)
        for i, part in zip(grains, held.grains, strict=True):
            message.sums[i] = self._problem.piece_sums(part)
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


def most_sums(sizes: Sequence[int], grain: int, ranks: int) -> int:
    """The nodes of the rank that has most, of batches of these sizes."""
    counts = {grain_count(n, min(grain, max(sizes))) for n in sizes}
    return max(len(largest_nodes(*share, count)) for count in counts for share in shares(count, ranks))


def _places_above(sizes: Sequence[int], grain: int, level: int, rank: int, size: int) -> int:
    """How many sums are kept on the way to those of this rank's nodes (see `place`), for batches of these sizes."""
    above = 0
    for count in {grain_count(n, grain) for n in sizes}:
        for node in largest_nodes(*shares(count, size)[rank], count):
            grains = grains_of(node, count)
            first = grains.start >> level
            above = max([above, *(place(grain >> level, first) for grain in grains)])
    return above


class _Exchange:
    """Sums of grains on their way to ∂L_B/∂w: each rank of a node adds up its slice of w from the sums of all."""

    def __init__(self, memory: StepMemory) -> None:
        self._memory = memory
        (self._bucket,) = memory.buckets
        self.g = memory.sums[memory.part][0][self._bucket.mine]
        self._nodes = memory.nodes_of_peers

    def mean(self, owned: list[list[Node]], count: int, n: int) -> None:
        """1/n of the sum of all grains, in `g`.  `owned`: the nodes of each rank, whose sums are in the memory."""
        memory, peers, first = self._memory, self._memory.peers, self._bucket.mine.start
        memory.fence()
        for start in range(0, len(self.g), CHUNK):
            g = self.g[start : start + CHUNK]
            part = slice(first + start, first + start + len(g))
            known = {
                node: sums[i][part]
                for rank, sums in zip(memory.ranks, memory.sums, strict=True)
                for i, node in enumerate(owned[rank])
            }
            if peers.size > 1:
                self._mean_of_peers(owned, known, count, n, g)
            else:
                np.divide(add_up(root(count), count, known.get), n, out=g)  # ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w
        if len(self.g):
            memory.measure(self.g, first)
        memory.fence()

    def _mean_of_peers(self, owned: list[list[Node]], known: dict[Node, Array], count: int, n: int, g: Array) -> None:
        """Each of the peers adds up a slice of this slice, for all of them."""
        peers = self._memory.peers
        of_peers = [merged({node for rank in ranks for node in owned[rank]}, count) for ranks in self._nodes]
        sums = [add_up(node, count, known.get) for node in of_peers[peers.rank]]
        slices = [slice(*shard(len(g), rank, peers.size)) for rank in range(peers.size)]
        lengths = [one.stop - one.start for one in slices]
        mine = slices[peers.rank]
        here = self._distribute(of_peers, sums, lengths)
        np.divide(add_up(root(count), count, here.get), n, out=g[mine])
        peers.allgather_parts(g, lengths)

    def _distribute(self, owned: list[list[Node]], sums: list[Array], lengths: list[int]) -> dict[Node, Array]:
        """This rank's slice of S(node), for all nodes of all peers."""
        known: dict[Node, Array] = {}
        peers = self._memory.peers
        own = lengths[peers.rank]
        for i in range(max(map(len, owned))):
            senders = [nodes[i : i + 1] for nodes in owned]
            nodes = [node for nodes in senders for node in nodes]
            received = np.empty(own * len(nodes), self.g.dtype)
            peers.alltoall(
                sums[i] if i < len(sums) else self.g[:0],
                [length * (i < len(sums)) for length in lengths],
                received,
                [own * len(nodes) for nodes in senders],
            )
            known.update(zip(nodes, received.reshape(len(nodes), own), strict=True))
        return known


class _Message:
    """What the ranks tell each other: one Allreduce(MAX), -inf where a rank has nothing to say.

    `sums`: those of the grains, each in its place.
    """

    def __init__(self, grains: int, sums: int, requests: Requests) -> None:
        self._values = np.full(len(requests) + sums * grains, -inf)
        self._requests = self._values[: len(requests)]
        self._requests[:] = requests
        self.sums = self._values[len(requests) :].reshape(grains, sums)

    def agree(self, comm: Communicator, n: int) -> Stepped:
        """The sums of a batch of n samples, with what all ranks have told."""
        self._values[np.isnan(self._values)] = inf  # MAX and NaN do not go together
        comm.allreduce(self._values, "max")
        of_grains = self.sums.T.tolist()
        assert -inf not in of_grains[0], "samples were lost"
        whole = Sums([total(values) for values in of_grains], n)
        # All ranks know the sums of all: they are the part of the first.
        part = whole if comm.rank == 0 else Sums([0.0] * len(of_grains))
        return Stepped(part, n, whole.flaw, Requests(*map(int, self._requests.tolist())))
