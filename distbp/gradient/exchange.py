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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.activations import Array
from distbp.mathematics.batches import pieces, shard
from distbp.mathematics.rounding import HEAD, Rounding
from distbp.ranks.communicator import Communicator

CHUNK = 2**20  # numbers that are exchanged at a time


class Exchange:
    """Sums `array`, of the same length on all peers, over them, in place."""

    def __init__(self, peers: Communicator, array: Array) -> None:
        self._peers = peers
        self._chunks = [
            (array[first:last], *_parts(last - first, peers)) for first, last in pieces(0, len(array), CHUNK)
        ]
        most = max((lengths[peers.rank] for _, _, lengths in self._chunks), default=0)
        self._received = np.empty((peers.size, most), array.dtype)

    def __call__(self) -> None:
        """All peers call this."""
        peers = self._peers
        for chunk, parts, lengths in self._chunks:
            mine, own = parts[peers.rank], lengths[peers.rank]
            received = self._received.reshape(-1)[: own * peers.size]
            peers.alltoall(chunk, lengths, received, [own] * peers.size)
            total = chunk[mine]
            total[:] = received[:own]
            for peer in range(1, peers.size):
                total += received[peer * own : (peer + 1) * own]
            peers.allgather_parts(chunk, lengths)


class RoundedExchange:
    """Likewise, sending 16 bits for each number."""

    def __init__(self, peers: Communicator, array: Array, rounding: Rounding) -> None:
        self._peers, self._rounding = peers, rounding
        self._left = np.zeros_like(array)  # by rounding, in the steps before
        self._chunks = [
            (array[first:last], self._left[first:last], *_parts(last - first, peers))
            for first, last in pieces(0, len(array), CHUNK)
        ]
        size, longest = peers.size, min(len(array), CHUNK)
        self._sent = np.empty(longest + size * HEAD, np.uint16)
        self._received = np.empty(size * (-(-longest // size) + HEAD), np.uint16)

    def __call__(self) -> None:
        """All peers call this."""
        peers, rank = self._peers, self._peers.rank
        for chunk, left, parts, lengths in self._chunks:
            chunk += left
            messages = [length + HEAD for length in lengths]
            to_others = [length * (peer != rank) for peer, length in enumerate(messages)]
            from_others = [messages[rank] * (peer != rank) for peer in range(peers.size)]
            for peer, message in enumerate(_cut(self._sent, to_others)):
                if peer != rank:
                    self._round(chunk[parts[peer]], left[parts[peer]], message)
            received = self._received[: sum(from_others)]
            peers.alltoall(self._sent[: sum(to_others)], to_others, received, from_others)

            total = chunk[parts[rank]]
            for peer, message in enumerate(_cut(received, from_others)):
                if peer != rank:
                    self._rounding.decode(message, total, add=True)
            sums = _cut(self._sent, messages)
            self._round(total, left[parts[rank]], sums[rank])
            peers.allgather_parts(self._sent[: sum(messages)], messages)
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


def exchange_bytes(length: int, peers: int, item: int, *, rounded: bool) -> int:
    """Memory of an exchange of so many numbers of `item` bytes."""
    longest = min(length, CHUNK)
    part = -(-longest // peers)
    if not rounded:
        return peers * part * item
    return length * item + 2 * (longest + peers * HEAD + (peers * (part + HEAD)))


def _parts(length: int, peers: Communicator) -> tuple[list[slice], list[int]]:
    """Which part each of the peers adds up, and their lengths."""
    parts = [slice(*shard(length, peer, peers.size)) for peer in range(peers.size)]
    return parts, [part.stop - part.start for part in parts]


def _cut(array: NDArray[Any], lengths: list[int]) -> list[NDArray[Any]]:
    ends = np.cumsum(lengths).tolist()
    return [array[end - length : end] for end, length in zip(ends, lengths, strict=True)]
