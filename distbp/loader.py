"""Who brings samples to where a step finds them: batches of an epoch, as rows of `training.x` and `training.y`.

`InMemory`: the whole split is there.  `Streamed`: it stays in its files, and two windows of the epoch are in memory, of
each of which a rank holds its own samples only.  A window is read block by block, each block by one rank, in a thread
that works while the steps before are computed; then each sample is sent to the rank that needs it (MPI_Alltoall).  So
every block is read once an epoch over all ranks, and the order of samples is that of `distbp.sample_order`, whoever
reads, and whether or not all fits in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from distbp.communicator import Communicator, agree
from distbp.data import Split
from distbp.reader import Reader
from distbp.sample_order import SampleOrder

Shares = Callable[[int], list[tuple[int, int]]]  # n -> the part of a batch of n samples that each rank works on


class Loader:
    """Batches of an epoch, in order."""

    def __init__(self, order: SampleOrder, n: int) -> None:
        self._order, self._n = order, n
        self._places: dict[tuple[int, int], NDArray[np.int64]] = {}  # of the last two windows

    def batches(self, epoch: int, first: int) -> Iterator[NDArray[np.int64]]:
        """Rows of the training split's x and y, from the batch `first` on.

        What is there of this rank's share of a batch is valid until the next batch is asked for.
        """
        starts, index = self._order.starts(epoch), 0
        for start in range(first * self._n, starts[-1], self._n):
            end = min(start + self._n, starts[-1])
            parts = []
            while starts[index + 1] <= start:
                index += 1
            for i in range(index, len(starts) - 1):
                if starts[i] >= end:
                    break
                places = self._window(epoch, i)
                parts.append(places[max(start - starts[i], 0) : end - starts[i]])
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Ends what works in the background."""

    def _window(self, epoch: int, index: int) -> NDArray[np.int64]:
        """Where the samples of a window are, by their place in it."""
        if (epoch, index) not in self._places:
            for old in list(self._places)[:-1]:
                del self._places[old]
            self._places[epoch, index] = self._load(epoch, index)
        return self._places[epoch, index]

    def _load(self, epoch: int, index: int) -> NDArray[np.int64]:
        raise NotImplementedError


class InMemory(Loader):
    """All rows are at hand on every rank."""

    def _load(self, epoch: int, index: int) -> NDArray[np.int64]:
        return self._order.window(epoch, index).rows()


class Streamed(Loader):
    """Two windows are at hand, of each rank's own samples."""

    def __init__(
        self, comm: Communicator, order: SampleOrder, n: int, data: Split, shares: Shares, last_epoch: int
    ) -> None:
        super().__init__(order, n)
        self._comm, self._shares, self._last_epoch = comm, shares, last_epoch
        self._room, self._half = receiving_rows(order, n, shares), 0
        x = np.empty((2 * self._room, data.layout.width("x")), data.layout.dtype("x"))
        y = np.empty((2 * self._room, *data.y_shape), data.y_dtype)
        self.training = replace(data, x=x, y=y)
        read = reading_rows(order, comm.size)
        self._x, self._y = np.empty((read, *x.shape[1:]), x.dtype), np.empty((read, *y.shape[1:]), y.dtype)
        self._thread = ThreadPoolExecutor(1, "reader")
        self._next: tuple[tuple[int, int], Future[_Plan]] | None = None
        self._stop = False
        self._reader = Reader(data.layout)
        self._block_x, self._block_y = (np.empty((order.largest_block, *a.shape[1:]), a.dtype) for a in (x, y))

    def close(self) -> None:
        """The thread ends after the block that it reads."""
        self._stop = True
        self._thread.shutdown(cancel_futures=True)
        self._reader.close()

    def _load(self, epoch: int, index: int) -> NDArray[np.int64]:
        """Sends each sample of the window to its rank; meanwhile the thread may not read the next one yet."""
        key = (epoch, index)
        if self._next is None or self._next[0] != key:
            if self._next is not None:
                self._next[1].exception()  # another window than was expected: wait for the thread
            self._next = key, self._thread.submit(self._read, epoch, index)
        future = self._next[1]
        plan = agree(self._comm, future.result)
        base = self._half * self._room
        self._half = 1 - self._half
        for sent, received in ((self._x, self.training.x), (self._y, self.training.y)):
            assert received is not None
            width = int(np.prod(sent.shape[1:]))
            self._comm.alltoall(
                sent[: sum(plan.send)].reshape(-1),
                [count * width for count in plan.send],
                received[base : base + sum(plan.receive)].reshape(-1),
                [count * width for count in plan.receive],
            )
        self._next = None
        following = (epoch, index + 1) if index + 1 < self._order.count else (epoch + 1, 0)
        if following[0] < self._last_epoch:
            self._next = following, self._thread.submit(self._read, *following)
        return plan.places + base

    def _read(self, epoch: int, index: int) -> _Plan:
        """Reads this rank's blocks of a window, each row to where it is sent from."""
        window = self._order.window(epoch, index)
        start = self._order.starts(epoch)[index]
        plan = _Plan(window.blocks, window.order, self._owners(start, len(window.order)), self._comm)
        at = 0
        for first, last in plan.own_blocks:
            if self._stop:
                break
            where, count = plan.position[at : at + last - first], last - first
            self._reader.read("x", first, last, self._block_x[:count])
            self._x[where] = self._block_x[:count]
            if self.training.classes is not None:
                self._y[where] = self.training.classes[first:last]
            else:
                self._reader.read("y", first, last, self._block_y[:count])
                self._y[where] = self._block_y[:count]
            at += last - first
        return plan

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
    """Who reads which sample of a window, who needs it, and where it is on the way."""

    def __init__(
        self, blocks: list[tuple[int, int]], order: NDArray[np.int64], owners: NDArray[np.int64], comm: Communicator
    ) -> None:
        ends = np.cumsum([0, *(last - first for first, last in blocks)])
        cuts = np.searchsorted(ends[:-1], [len(order) * rank / comm.size for rank in range(comm.size)])
        cuts = np.append(cuts, len(blocks))  # blocks cuts[r] … cuts[r + 1] - 1 are read by rank r
        readers = np.searchsorted(ends[cuts[1:]], order, side="right")
        first, last = cuts[comm.rank : comm.rank + 2].tolist()
        self.own_blocks = blocks[first:last]

        sent = np.flatnonzero(readers == comm.rank)  # places in the window
        sent = sent[np.argsort(owners[sent], kind="stable")]
        self.send: list[int] = np.bincount(owners[sent], minlength=comm.size).tolist()
        self.position = np.empty(len(sent), np.int64)  # where a row that is read is sent from
        self.position[order[sent] - ends[first]] = np.arange(len(sent))

        received = np.flatnonzero(owners == comm.rank)
        received = received[np.argsort(readers[received], kind="stable")]
        self.receive: list[int] = np.bincount(readers[received], minlength=comm.size).tolist()
        self.places = np.zeros(len(order), np.int64)  # where a sample of this rank is received
        self.places[received] = np.arange(len(received))


def reading_rows(order: SampleOrder, size: int) -> int:
    """Rows of a window that one of `size` ranks reads, at most."""
    return min(order.longest, order.longest // size + 1 + order.largest_block)


def receiving_rows(order: SampleOrder, n: int, shares: Shares) -> int:
    """Samples of a window that one rank works on, at most; a window may begin and end inside a batch."""
    most = max(end - start for count in {n, order.N % n or n} for start, end in shares(count))
    return min(order.longest, (order.longest // n + 2) * most)


def streaming_bytes(order: SampleOrder, n: int, shares: Shares, size: int, row_bytes: int) -> int:
    """Memory that a rank needs: two windows of its own samples, what it has read of the next one, and a block."""
    rows = 2 * receiving_rows(order, n, shares) + reading_rows(order, size) + order.largest_block
    return rows * row_bytes
