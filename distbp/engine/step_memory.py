"""What the ranks of a node hold in common while they train: w, the optimizer's vectors, and a gradient of each rank.

It is one piece of memory that they share.  Every rank writes a gradient of its own there, adds up one slice of all of
them, and updates the same slice of w and of the optimizer's vectors: so parameters and optimizer are held once for a
node, and each of their numbers is updated once, whatever the number of ranks.  Ranks of different nodes that have the
same slice are `peers`: they exchange that slice alone.

Where memory cannot be shared, each rank is a node of its own: then the slice is the whole, and all ranks are peers.

Backpropagation makes the gradient from layer F down.  Where there are peers it is cut into `buckets`, in that order:
while a bucket is on its way, the rest of the gradient is computed.  A rank has a slice of each.

Why it is right.  A step has these fences (MPI_Win_sync, a barrier of the node, MPI_Win_sync; MPI 4.1, 12.7: what was
stored before is seen by loads after it):

1. one for each bucket, when its ranks have written it.  Before it a rank writes that part of its own gradient, and
   nobody reads it; all read w, and nobody writes w.
2. when the slices of ∂L_B/∂w are ready.  Between 1 and 2 a rank reads its slice of the bucket in all gradients, and
   writes that slice of its own gradient, which nobody else reads.  Behind 2 what all must know is read: the tally and
   the squares.
3. after the update.  Between 2 and 3 a rank writes its slices of w and of the optimizer's vectors, and nobody reads w.

So between two fences no number is written by one rank and read or written by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.engine.planned_rank import all_nodes, with_the_same
from distbp.engine.sums import Requests
from distbp.mathematics.activations import Array
from distbp.mathematics.arena import ALIGNED, PAGE, Arena, CountingArena
from distbp.mathematics.batches import shard
from distbp.mathematics.clipping import BLOCK, Length, exact_squares, length_of, scaled_squares
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator, NodeArray

TAIL = 3 + len(Requests._fields)  # numbers behind each gradient: see `distbp.engine.reduction`
FENCE_BYTES = 128
BUCKET_BYTES = 2**20  # of smaller ones, starting the exchange takes too much of the time


@dataclass(frozen=True)
class Bucket:
    """A part of the gradient: that of layer `l`, and of those above it which no bucket before has."""

    l: int
    slices: list[slice]  # of w, by the rank of the node
    mine: slice


class StepMemory:
    """The memory of one rank's node.  All ranks make theirs together; everything is 0 at first.

    `exact`: whether the length of the gradient must be, or need only be a bound, up to rounding.
    `overlap`: the gradient is cut into several buckets where it can be exchanged while it is computed.
    """

    def __init__(
        self,
        comm: Communicator,
        contents: Contents,
        *,
        exact: bool = False,
        overlap: bool = False,
        arena: Arena = ALIGNED,
        squares: Callable[[Array, NDArray[np.float64]], None] = exact_squares,
    ) -> None:
        """`squares` leaves Σ g² of each block of a gradient in its second argument."""
        self._exact, self._squares = exact, squares
        network, dtype, here = contents.network, contents.dtype, comm.node_ranks()
        is_shared = can_share(comm, contents)
        place, size = np.dtype(np.uint8), contents.bytes(len(here) if is_shared else 1)
        shared = comm.node_array((size,), place) if is_shared else NodeArray(np.empty(size, place), 0, 1)
        self.ranks = here if shared.parts == len(here) else [comm.rank]  # that share it
        self.part, self.fence, self.check = shared.part, shared.fence, shared.check

        taken = contents.take(arena.within(shared.array), len(self.ranks), self.part)
        self.w, self.vectors, self.sums = taken.w, taken.vectors, taken.sums
        self.squares, self.scaled, self.turns = taken.squares, taken.scaled, taken.turns
        self.of_grains = taken.of_grains

        self.nodes = all_nodes(comm, self.ranks)
        self.owners = min(map(len, self.nodes))  # ranks of a node that have slices
        colors = self._colors()
        self.peers = with_the_same(comm, colors)  # on one node: this rank alone
        self.nodes_of_peers = self._nodes_of(rank for rank in range(comm.size) if colors[rank] == colors[comm.rank])
        least = least_of_bucket(network, dtype, len(self.nodes), overlap=overlap)
        self.buckets = [self._bucket(l, *limits) for l, *limits in bucket_limits(network, least)]
        self._clear(arena)

    def _colors(self) -> list[int]:
        """For each rank: which slices it has, those of ranks that have none being the last."""
        colors = {rank: min(part, self.owners) for node in self.nodes for part, rank in enumerate(node)}
        return [colors[rank] for rank in sorted(colors)]

    def _nodes_of(self, ranks: Iterable[int]) -> list[list[int]]:
        """For each of these ranks: those that share memory with it."""
        return [next(node for node in self.nodes if rank in node) for rank in ranks]

    def _bucket(self, l: int, start: int, stop: int) -> Bucket:
        slices = slices_of(start, stop, self.owners)
        return Bucket(l, slices, slices[self.part] if self.part < self.owners else slice(stop, stop))

    def _clear(self, arena: Arena) -> None:
        """By those who will write there, so that the pages are near them."""
        for vector in (self.w, *self.vectors.values()):
            for bucket in self.buckets:
                arena.clear(vector[bucket.mine])
        for own in self.sums[self.part]:
            arena.clear(own)
        if self.part == 0:
            arena.clear(self.squares)
            arena.clear(self.scaled)
            arena.clear(self.turns)
        self.fence()

    @property
    def length(self) -> Length:
        """|∂L_B/∂w|, the same on any number of ranks."""
        return length_of(self.squares, self.scaled)

    def measure(self, g: Array, start: int) -> None:
        """Takes the squares of `g`, a part of this rank's slices of ∂L_B/∂w, which starts at a block of w.

        Where they need not be exact, it is their sum that is taken, not that of each block.
        """
        first = start // BLOCK
        part = slice(first, first - (-len(g) // BLOCK))
        out = self.squares[part]
        if self._exact:
            self._squares(g, out)
            if not isfinite(float(np.add.reduce(out))):
                scaled_squares(g, self.scaled[part])
        elif isfinite(square := float(g @ g)):
            out[0] = square
        else:  # maybe too large to be squared
            of_blocks = np.empty_like(out)
            self._squares(g, of_blocks)
            out[0] = np.add.reduce(of_blocks)
            if not isfinite(out[0]):
                scaled_squares(g, of_blocks)
                self.scaled[first] = np.add.reduce(of_blocks)


class Taken(NamedTuple):
    """The arrays of a node; `sums`: by rank of the node."""

    w: Array
    vectors: dict[str, Array]
    sums: list[list[Array]]
    squares: NDArray[np.float64]  # Σ g² of each block
    scaled: NDArray[np.float64]  # where that is not finite: scaled_squares
    turns: NDArray[np.uint32]  # of the fences of the compiled step
    of_grains: NDArray[np.float64]  # what the compiled step sums up besides the gradient, grain by grain


@dataclass(frozen=True)
class Contents:
    """What is held for a network: w, the optimizer's vectors, and for each rank a gradient, or sums of parts of it.

    `names`: of the vectors; `sums`: how many gradients, or sums, a rank has; `state`: what the vectors are called in a
    memory plan; `of_grains`: the grains of the largest batch, and how many numbers are summed up of each.
    """

    network: Network
    dtype: DTypeLike
    names: Sequence[str] = ()
    sums: int = 1
    state: str = "state"
    of_grains: tuple[int, int] = (0, 0)

    def take(self, arena: Arena, ranks: int, part: int) -> Taken:
        """The arrays of a node of so many ranks, for its rank `part`."""
        count, dtype = self.network.parameter_count, self.dtype
        parameters, state, squares = (
            arena.of(term, shared=True) for term in ("parameters", self.state, "squares of the gradient")
        )
        blocks = -(-count // BLOCK)
        return Taken(
            parameters.take(count, dtype),
            {name: state.take(count, dtype) for name in self.names},
            [self._sums_of_a_rank(arena, is_own=rank == part) for rank in range(ranks)],
            squares.take(blocks, np.float64),
            squares.take(blocks, np.float64),
            squares.take(FENCE_BYTES // 4, np.uint32),
            arena.of("sums of grains", shared=True).take(self.of_grains, np.float64),
        )

    def _sums_of_a_rank(self, arena: Arena, *, is_own: bool) -> list[Array]:
        terms = ["gradient", *["sums of gradients"] * (self.sums - 1)]
        count = self.network.parameter_count + TAIL
        return [arena.of(term if is_own else "").take(count, self.dtype) for term in terms]

    def bytes(self, ranks: int) -> int:
        """Of the memory of a node of so many ranks."""
        pages = CountingArena(PAGE)
        self.take(pages, ranks, 0)
        return pages.bytes + PAGE


def least_of_bucket(network: Network, dtype: DTypeLike, nodes: int, *, overlap: bool) -> int:
    """Numbers of the smallest bucket; on one node nothing is exchanged, and there is one for all."""
    return BUCKET_BYTES // np.dtype(dtype).itemsize if overlap and nodes > 1 else network.parameter_count


def bucket_limits(network: Network, least: int) -> list[tuple[int, int, int]]:
    """Of each bucket, from layer F down: its lowest layer, and where it starts and stops in w, in whole blocks.

    The buckets have at least `least` numbers, but the last one, which is made last and cannot be exchanged meanwhile.
    """
    n, start = network.sizes, network.parameter_count
    limits, stop = [], start
    for l in range(network.F, 1, -1):
        start -= n[l] * n[l - 1] + n[l]
        cut = -(-start // BLOCK) * BLOCK  # what lies below belongs to a block of layer l - 1, too
        if l == 2 or stop - cut >= least:
            limits.append((l, cut, stop))
            stop = cut
    return limits


def slices_of(start: int, stop: int, owners: int) -> list[slice]:
    """What each of the ranks of a node adds up and updates of a bucket: whole blocks."""
    blocks = -(-(stop - start) // BLOCK)
    cuts = [shard(blocks, owner, owners) for owner in range(owners)]
    return [slice(min(stop, start + first * BLOCK), min(stop, start + last * BLOCK)) for first, last in cuts]


def can_share(comm: Communicator, contents: Contents) -> bool:
    """Whether the ranks of a node can hold it together; all ranks call this."""
    return comm.node_copies(contents.bytes(len(comm.node_ranks()))) == 1
