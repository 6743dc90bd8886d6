"""Sums over the peers of different nodes: each adds up one part for all of them, and they get it from there.

That moves as little as an Allreduce of large arrays can: each node sends 2 (P - 1) / P times the array, for P peers
(Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH", 2005).  The sums are taken
in the order of the peers, so their bits do not depend on the MPI library.

`RoundedExchange` sends numbers of 16 bits, with error feedback (Seide et al. 2014, "1-bit stochastic gradient descent";
Karimireddy et al. 2019, "Error feedback fixes SignSGD"): what rounding leaves of a number is added to it in the next
step, so that over the steps nothing is lost.  It is rounded twice, on the way to the peer that adds up, and on the way
back; for each number one peer rounds its part of the sum, or the sum, so one remainder for each number is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.activations import Array
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.batches import pieces, shard
from distbp.mathematics.rounding import HEAD, ROUNDINGS, Rounding
from distbp.ranks.communicator import Communicator

CHUNK = 2**20  # numbers that are exchanged at a time


class Exchange:
    """Sums `array`, of the same length on all peers, over them, in place.

    While the sums of a chunk are sent to all, the numbers of the next one are on their way, and all peers start this in
    the same order: so the network has always something to do.
    """

    def __init__(self, peers: Communicator, array: Array, arena: Arena = ALIGNED) -> None:
        self._peers, self._array = peers, array
        under_way = min(2, -(-len(array) // CHUNK))  # chunks, which take turns
        self._buffers = [self._make_buffers(arena) for _ in range(under_way)]

    @cached_property
    def _chunks(self) -> list[tuple[Array, list[slice]]]:
        """The chunks, and which part of each a peer adds up."""
        cuts = pieces(0, len(self._array), CHUNK)
        return [(self._array[first:last], _parts(last - first, self._peers)) for first, last in cuts]

    def _make_buffers(self, arena: Arena) -> Any:
        """For a chunk: its own part, from all peers."""
        size = self._peers.size * -(-min(len(self._array), CHUNK) // self._peers.size)
        return arena.take(size, self._array.dtype)

    def __call__(self) -> None:
        """All peers call this."""
        under_way: list[Iterator[None]] = []
        for i, (chunk, parts) in enumerate(self._chunks):
            under_way = _go_on([self._steps(i, chunk, parts), *under_way])  # the newest first
        while under_way:
            under_way = _go_on(under_way)

    def _steps(self, i: int, chunk: Array, parts: list[slice]) -> Iterator[None]:
        """What is sent between the yields is on its way meanwhile."""
        peers, lengths = self._peers, _lengths(parts)
        own = lengths[peers.rank]
        received = self._buffers[i % 2][: own * peers.size]
        wait = peers.begin_alltoall(chunk, lengths, received, [own] * peers.size)
        yield
        wait()
        total = chunk[parts[peers.rank]]
        total[:] = received[:own]
        for peer in range(1, peers.size):
            total += received[peer * own : (peer + 1) * own]
        wait = peers.begin_allgather_parts(chunk, lengths)
        yield
        wait()


class RoundedExchange(Exchange):
    """Likewise, sending 16 bits for each number."""

    def __init__(self, peers: Communicator, array: Array, rounding: Rounding, arena: Arena = ALIGNED) -> None:
        super().__init__(peers, array, arena)
        self._rounding = rounding
        self._left = arena.take(len(array), array.dtype)  # by rounding, in the steps before

    def _make_buffers(self, arena: Arena) -> tuple[NDArray[Any], ...]:
        """What is sent, what is received, and the sums."""
        size, longest = self._peers.size, min(len(self._array), CHUNK)
        lengths = (longest + size * HEAD, size * (-(-longest // size) + HEAD), longest + size * HEAD)
        return tuple(arena.take(length, np.uint16) for length in lengths)

    def _steps(self, i: int, chunk: Array, parts: list[slice]) -> Iterator[None]:
        peers, rank = self._peers, self._peers.rank
        left = self._left[i * CHUNK : i * CHUNK + len(chunk)]
        sent, received, summed = self._buffers[i % 2]
        messages = [length + HEAD for length in _lengths(parts)]
        to_others = [length * (peer != rank) for peer, length in enumerate(messages)]
        from_others = [messages[rank] * (peer != rank) for peer in range(peers.size)]

        chunk += left
        for peer, message in enumerate(_cut(sent, to_others)):
            if peer != rank:
                self._round(chunk[parts[peer]], left[parts[peer]], message)
        received = received[: sum(from_others)]
        wait = peers.begin_alltoall(sent[: sum(to_others)], to_others, received, from_others)
        yield
        wait()
        total, sums = chunk[parts[rank]], _cut(summed, messages)
        for peer, message in enumerate(_cut(received, from_others)):
            if peer != rank:
                self._rounding.decode(message, total, add=True)
        self._round(total, left[parts[rank]], sums[rank])
        wait = peers.begin_allgather_parts(summed[: sum(messages)], messages)
        yield
        wait()
        for part, message in zip(parts, sums, strict=True):
            self._rounding.decode(message, chunk[part])

    def _round(self, exact: Array, left: Array, message: NDArray[np.uint16]) -> None:
        """Fills the message, and what it leaves."""
        self._rounding.encode(exact, message)
        np.negative(exact, out=left)
        self._rounding.decode(message, left, add=True)
        np.negative(left, out=left)
        if not np.isfinite(left).all():
            left.fill(0.0)  # such a gradient is not used (see --on-nan), and must not spoil the next one


def exchange_of(
    peers: Communicator, array: Array, wire: str, *, in_parts: bool, arena: Arena = ALIGNED
) -> Callable[[], None]:
    """What sums `array` over the peers: as `wire` says, in parts, or by an Allreduce, which is best for short ones."""
    if wire != "full":
        return RoundedExchange(peers, array, ROUNDINGS[wire], arena)
    return Exchange(peers, array, arena) if in_parts else partial(peers.allreduce, array)


def _go_on(under_way: list[Iterator[None]]) -> list[Iterator[None]]:
    """Each to its next yield; those that have not ended."""
    return [steps for steps in under_way if next(steps, "ended") is None]


def _parts(length: int, peers: Communicator) -> list[slice]:
    """Which part each of the peers adds up."""
    return [slice(*shard(length, peer, peers.size)) for peer in range(peers.size)]


def _lengths(parts: list[slice]) -> list[int]:
    return [part.stop - part.start for part in parts]


def _cut(array: NDArray[Any], lengths: list[int]) -> list[NDArray[Any]]:
    ends = np.cumsum(lengths).tolist()
    return [array[end - length : end] for end, length in zip(ends, lengths, strict=True)]
