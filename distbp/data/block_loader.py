"""Windows of an epoch read block by block, each block by one rank, each sample sent to the rank that needs it.

A rank's own samples go straight to their place, the others with one MPI_Alltoall.  So every block, which is whole
chunks of a file, is read once an epoch over all ranks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.data.loader import ReadAhead, Shares, Streamed
from distbp.data.sample_order import SampleOrder
from distbp.ranks.communicator import Communicator


class BlockLoader(ReadAhead["_Plan"]):
    """See above."""

    def __init__(self, streamed: Streamed) -> None:
        order, arena = streamed.order, streamed.arena
        super().__init__(streamed, receiving_rows(order, streamed.n, streamed.shares))
        sent, block = sending_rows(order, streamed.comm.size), order.largest_block
        self._sent_x, self._sent_y = (arena.take((sent, *a.shape[1:]), a.dtype) for a in (self._x, self._y))
        self._block_x, self._block_y = (arena.take((block, *a.shape[1:]), a.dtype) for a in (self._x, self._y))

    def _read(self, epoch: int, index: int, base: int) -> _Plan:
        """Reads this rank's blocks of the window."""
        window = self._order.window(epoch, index)
        start = self._order.starts(epoch)[index]
        plan = _Plan(window.blocks, window.order, self._owners(start, len(window.order)), self._comm)
        at = 0
        for first, last in plan.own_blocks:
            if self._stop:
                break
            count = last - first
            self._reader.read("x", first, last, self._block_x[:count])
            self._read_y(slice(first, last), self._block_y[:count])
            keep, send = plan.keep[at : at + count], plan.position[at : at + count]
            own, others = (slice(None), None) if self._comm.size == 1 else (keep >= 0, keep < 0)
            for block, kept, sent in (
                (self._block_x, self._x, self._sent_x),
                (self._block_y, self._y, self._sent_y),
            ):
                kept[keep[own] + base] = block[:count][own]
                if others is not None:
                    sent[send[others]] = block[:count][others]
            at += count
        return plan

    def _arrive(self, plan: _Plan, base: int) -> NDArray[np.int64]:
        """Sends each sample of the window to its rank; meanwhile the thread may not read the next one."""
        if self._comm.size > 1:
            for sent, received in ((self._sent_x, self._x), (self._sent_y, self._y)):
                width, first = int(np.prod(sent.shape[1:])), base + plan.kept
                self._comm.alltoall(
                    sent[: sum(plan.send)].reshape(-1),
                    [count * width for count in plan.send],
                    received[first : first + sum(plan.receive)].reshape(-1),
                    [count * width for count in plan.receive],
                )
        return plan.places

    def _owners(self, start: int, count: int) -> NDArray[np.int64]:
        """The rank that works on each of `count` samples of the epoch, from the place `start` on."""
        n, N = self._n, self._order.N
        owners = np.empty(count, np.int64)
        at = 0
        while at < count:
            batch = (start + at) // n * n  # where the batch begins
            shares = self._shares(min(n, N - batch))
            edges = np.array([end for _, end in shares])
            length = min(batch + n, N, start + count) - (start + at)
            offsets = np.arange(start + at - batch, start + at - batch + length)
            owners[at : at + length] = np.searchsorted(edges, offsets, side="right")
            at += length
        return owners


class _Plan:
    """Who reads which sample of a window, who needs it, and where it is on the way.

    A rank finds the samples that it reads for itself first, then those of the other ranks, by rank.
    """

    def __init__(
        self, blocks: list[tuple[int, int]], order: NDArray[np.int64], owners: NDArray[np.int64], comm: Communicator
    ) -> None:
        ends = np.cumsum([0, *(last - first for first, last in blocks)])
        cuts = np.searchsorted(ends[:-1], [len(order) * rank / comm.size for rank in range(comm.size)])
        cuts = np.append(cuts, len(blocks))  # blocks cuts[r] … cuts[r + 1] - 1 are read by rank r
        readers = np.searchsorted(ends[cuts[1:]], order, side="right")
        first, last = cuts[comm.rank : comm.rank + 2].tolist()
        self.own_blocks = blocks[first:last]
        read = int(ends[last] - ends[first])

        reads, needs = readers == comm.rank, owners == comm.rank
        kept = np.flatnonzero(reads & needs)  # places in the window
        self.kept = len(kept)
        self.keep = np.full(read, -1, np.int64)  # where a row that is read is kept
        self.keep[order[kept] - ends[first]] = np.arange(len(kept))

        sent = np.flatnonzero(reads & ~needs)
        sent = sent[np.argsort(owners[sent], kind="stable")]
        self.send: list[int] = np.bincount(owners[sent], minlength=comm.size).tolist()
        self.position = np.full(read, -1, np.int64)  # where a row that is read is sent from
        self.position[order[sent] - ends[first]] = np.arange(len(sent))

        received = np.flatnonzero(~reads & needs)
        received = received[np.argsort(readers[received], kind="stable")]
        self.receive: list[int] = np.bincount(readers[received], minlength=comm.size).tolist()
        self.places = np.zeros(len(order), np.int64)  # where a sample of this rank is found
        self.places[kept] = np.arange(len(kept))
        self.places[received] = len(kept) + np.arange(len(received))


def sending_rows(order: SampleOrder, size: int) -> int:
    """Rows of a window that one of `size` ranks reads for others, at most."""
    return 0 if size == 1 else min(order.longest, order.longest // size + 1 + order.largest_block)


def receiving_rows(order: SampleOrder, n: int, shares: Shares) -> int:
    """Samples of a window that one rank works on, at most; a window may begin and end inside a batch."""
    most = max(end - start for count in {n, order.N % n or n} for start, end in shares(count))
    return min(order.longest, (order.longest // n + 2) * most)


def plan_bytes(order: SampleOrder) -> int:
    """Memory for who reads which sample of a window and who needs it, of two windows and of one that is planned."""
    return 8 * order.longest * np.dtype(np.int64).itemsize
