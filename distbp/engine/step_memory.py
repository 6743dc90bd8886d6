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

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.engine.sums import Requests
from distbp.mathematics.activations import Array
from distbp.mathematics.batches import shard
from distbp.mathematics.clipping import BLOCK, Length, length_of, scaled_squares, squares
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator, NodeArray

PAGE = 4096  # bytes
TAIL = 3 + len(Requests._fields)  # numbers behind each gradient: see `distbp.engine.reduction`
BUCKET_BYTES = 2**20  # of smaller ones, starting the exchange takes too much of the time


@dataclass(frozen=True)
class Bucket:
    """A part of the gradient: that of layer `l`, and of those above it which no bucket before has."""

    l: int
    slices: list[slice]  # of w, by the rank of the node
    mine: slice


class StepMemory:
    """The memory of one rank's node.  All ranks make theirs together; everything is 0 at first.

    `names`: of the optimizer's vectors; `sums`: how many gradients, or sums of parts of a gradient, a rank has.
    `exact`: whether the length of the gradient must be, or need only be a bound, up to rounding.
    `overlap`: the gradient is cut into several buckets where it can be exchanged while it is computed.
    """

    def __init__(
        self,
        comm: Communicator,
        network: Network,
        dtype: DTypeLike,
        names: Sequence[str],
        sums: int = 1,
        *,
        exact: bool = False,
        overlap: bool = False,
    ) -> None:
        self._exact = exact
        count, here = network.parameter_count, comm.node_ranks()
        is_shared = can_share(comm, network, dtype, len(names), sums)
        size = step_memory_bytes(network, dtype, len(names), (len(here) if is_shared else 1) * sums)
        place = np.dtype(np.uint8)
        shared = comm.node_array((size,), place) if is_shared else NodeArray(np.empty(size, place), 0, 1)
        self.ranks = here if shared.parts == len(here) else [comm.rank]  # that share it
        self.part, self.fence = shared.part, shared.fence

        memory = _Sections(shared.array)
        self.w: Array = memory.take(count, dtype)
        self.vectors: dict[str, Array] = {name: memory.take(count, dtype) for name in names}
        self.sums = [[memory.take(count + TAIL, dtype) for _ in range(sums)] for _ in self.ranks]  # by rank of the node
        blocks = -(-count // BLOCK)
        self.squares: NDArray[np.float64] = memory.take(blocks, np.float64)  # Σ g² of each block
        self.scaled: NDArray[np.float64] = memory.take(blocks, np.float64)  # where that is not finite: scaled_squares

        self.nodes = all_nodes(comm, self.ranks)
        self.owners = min(map(len, self.nodes))  # ranks of a node that have slices
        self.peers = comm.split(min(self.part, self.owners))  # on one node: this rank alone
        least = least_of_bucket(network, dtype, len(self.nodes), overlap=overlap)
        self.buckets = [self._bucket(l, *limits) for l, *limits in bucket_limits(network, least)]
        self._clear()

    def _bucket(self, l: int, start: int, stop: int) -> Bucket:
        slices = slices_of(start, stop, self.owners)
        return Bucket(l, slices, slices[self.part] if self.part < self.owners else slice(stop, stop))

    def _clear(self) -> None:
        """By those who will write there, so that the pages are near them."""
        for vector in (self.w, *self.vectors.values()):
            for bucket in self.buckets:
                vector[bucket.mine] = 0.0
        for own in self.sums[self.part]:
            own.fill(0.0)
        if self.part == 0:
            self.squares.fill(0.0)
            self.scaled.fill(0.0)
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
            squares(g, out, exact=True)
            if g.dtype == np.float64 and not isfinite(float(np.add.reduce(out))):
                scaled_squares(g, self.scaled[part])
        elif isfinite(square := float(g @ g)):
            out[0] = square
        else:  # maybe too large to be squared
            of_blocks = np.empty_like(out)
            squares(g, of_blocks, exact=True)
            out[0] = np.add.reduce(of_blocks)
            if not isfinite(out[0]):
                scaled_squares(g, of_blocks)
                self.scaled[first] = np.add.reduce(of_blocks)


class _Sections:
    """Arrays one after another in a piece of memory, each from a page on."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self._memory = memory
        self._at = -memory.ctypes.data % 64

    def take(self, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """The next `count` numbers."""
        size = count * np.dtype(dtype).itemsize
        array = self._memory[self._at : self._at + size].view(dtype)
        self._at += _pages(size)
        return array


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


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


def step_memory_bytes(network: Network, dtype: DTypeLike, vectors: int, sums: int) -> int:
    """Memory of a node, for so many vectors of an optimizer, and so many sums of all its ranks."""
    count, item = network.parameter_count, np.dtype(dtype).itemsize
    parts = (1 + vectors) * _pages(count * item) + sums * _pages((count + TAIL) * item)
    return parts + 2 * _pages(-(-count // BLOCK) * 8) + PAGE


def all_nodes(comm: Communicator, ranks: list[int]) -> list[list[int]]:
    """The ranks of each node; `ranks`: those that share memory with this one.  All ranks call this."""
    return sorted({others[0]: others for others in comm.allgather(ranks)}.values())


def can_share(comm: Communicator, network: Network, dtype: DTypeLike, vectors: int, sums: int) -> bool:
    """Whether the ranks of a node can hold it together, with so many sums of each; all ranks call this."""
    return comm.node_copies(step_memory_bytes(network, dtype, vectors, len(comm.node_ranks()) * sums)) == 1
