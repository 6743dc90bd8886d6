"""Who brings samples to where a step finds them: batches of an epoch, as rows of `training.x` and `training.y`.

`InMemory`: the whole split is there.  `ReadAhead`: it stays in its files, and two windows of the epoch are in memory,
of each of which a rank holds its own samples only; a thread reads the next window while steps are computed with the one
before.  How it is read, whole blocks or single rows, is a matter of `block_loader` and `row_loader`.  The order of the
samples is that of `distbp.data.sample_order` with all of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from distbp.data.reader import Reader
from distbp.data.sample_order import SampleOrder
from distbp.data.split import Split
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.ranks.communicator import Communicator, agree


class Batch(NamedTuple):
    """The samples of a step, in order: `rows` says where in the training split's x and y a step finds them.

    `epoch` and `place`: the first of them is that many samples after the beginning of its epoch.  The numbers that
    they have in the data set follow from these: see `Loader.numbers`.
    """

    rows: NDArray[np.int64]
    epoch: int
    place: int


Shares = Callable[[int], list[tuple[int, int]]]  # n -> the part of a batch of n samples that each rank works on
Plan = TypeVar("Plan")


class Loader:
    """Batches of an epoch, in order."""

    def __init__(self, order: SampleOrder, n: int) -> None:
        self._order, self._n = order, n
        self._places: dict[tuple[int, int], NDArray[np.int64]] = {}  # of the last two windows

    ahead = 1  # how many batches may be asked for before the first of them has been used

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """From the batch `first` of an epoch on.

        What is there of this rank's share of a batch is valid until `ahead` more are asked for.
        """
        starts, n = self._starts(epoch), self._n
        window, begin, behind = np.empty(0, np.int64), 0, 0  # places of the window
        for start in range(first * n, starts[-1], n):
            if start >= behind:
                index = bisect_right(starts, start) - 1
                window, begin, behind = self._window(epoch, index), starts[index], starts[index + 1]
            rows, end = window[start - begin : start - begin + n], start + n
            if end > behind:  # no window is shorter than a batch, but the last one
                following = range(index + 1, len(starts) - 1)
                rest = [self._window(epoch, i)[: end - starts[i]] for i in following if starts[i] < end]
                rows = np.concatenate([rows, *rest])
            yield Batch(rows, epoch, start)

    def close(self) -> None:
        """Ends what works in the background."""

    def numbers(self, batch: Batch) -> NDArray[np.int64]:
        """The rows of the data set that the samples of a batch are, wherever they lie in memory."""
        return self.rows(batch.epoch, batch.place, batch.place + len(batch.rows))

    def rows(self, epoch: int, first: int, last: int) -> NDArray[np.int64]:
        """The rows of the data set at the places first … last - 1 of an epoch."""
        starts, found, place = self._order.starts(epoch), [], first
        while place < last:
            index = bisect_right(starts, place) - 1
            some = self._rows_of(epoch, index)[place - starts[index] : last - starts[index]]
            found.append(some)
            place += len(some)
        return np.concatenate(found)

    def _rows_of(self, epoch: int, index: int) -> NDArray[np.int64]:
        """The rows of the data set in a window, by their place in it."""
        return self._order.window(epoch, index).rows()

    def _starts(self, epoch: int) -> list[int]:
        """Place in the epoch where each window begins, and N; no window is shorter than a batch, but the last one."""
        return self._order.starts(epoch)

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

    ahead = 2**31

    def _rows_of(self, epoch: int, index: int) -> NDArray[np.int64]:
        return self._window(epoch, index)

    def _load(self, epoch: int, index: int) -> NDArray[np.int64]:
        return self._order.window(epoch, index).rows()


def order_bytes(samples: int) -> int:
    """Memory for the order of the samples of a window, where all are at hand: one before it, and what it is made of."""
    return 4 * samples * np.dtype(np.int64).itemsize


@dataclass(frozen=True)
class Streamed:
    """A split that stays in its files, whose samples come in this order, in batches of n, to ranks with these shares.

    `arena`: where the memory for windows is taken.
    """

    comm: Communicator
    order: SampleOrder
    n: int
    data: Split
    shares: Shares
    last_epoch: int
    arena: Arena = ALIGNED


class ReadAhead(Loader, Generic[Plan]):
    """Two windows are at hand, of each rank's own samples: `room` rows of x and y for each."""

    def __init__(self, streamed: Streamed, room: int) -> None:
        super().__init__(streamed.order, streamed.n)
        data, arena = streamed.data, streamed.arena
        x = arena.take((2 * room, data.layout.width("x")), data.layout.dtype("x"))
        y = arena.take((2 * room, *data.y_shape), data.y_dtype)
        self.training = replace(data, x=x, y=y)
        self._x, self._y = x, y
        self._comm, self._shares = streamed.comm, streamed.shares
        self._room, self._last_epoch = room, streamed.last_epoch
        self._base = 0  # the first row for the window that is read next
        self._reader, self._stop = Reader(data.layout), False
        self._thread = ThreadPoolExecutor(1, "reader")
        self._next: tuple[int, int] = (-1, 0)  # epoch and index of the window that is read next
        self._reading: Future[Plan] | None = None

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """See `Loader`.  When a batch is done, so is the window before its last sample: there the next one is read."""
        for batch in super().batches(epoch, first):
            yield batch
            if self._reading is None and self._next[0] < self._last_epoch:
                self._reading = self._thread.submit(self._read, *self._next, self._base)

    def close(self) -> None:
        """The thread ends soon."""
        self._stop = True
        self._thread.shutdown(cancel_futures=True)
        self._reader.close()

    def _load(self, epoch: int, index: int) -> NDArray[np.int64]:
        if self._reading is None or self._next != (epoch, index):
            if self._reading is not None:
                self._reading.exception()  # another window than was expected: wait for the thread
            self._reading = self._thread.submit(self._read, epoch, index, self._base)
        places = self._arrive(agree(self._comm, self._reading.result), self._base) + self._base
        windows = len(self._starts(epoch)) - 1
        self._next, self._reading = ((epoch, index + 1) if index + 1 < windows else (epoch + 1, 0)), None
        self._base = self._room - self._base
        return places

    def _read(self, epoch: int, index: int, base: int) -> Plan:
        """Reads a window, in the thread; its own samples may be put to rows from `base` on."""
        raise NotImplementedError

    def _arrive(self, plan: Plan, base: int) -> NDArray[np.int64]:
        """Everything is read by all ranks: where the samples of the window are, counted from `base`."""
        raise NotImplementedError

    def _read_y(self, rows: slice, out: NDArray[np.generic]) -> None:
        """Classes are in memory; targets are read."""
        if self.training.classes is not None:
            out[:] = self.training.classes[rows]
        else:
            self._reader.read("y", rows.start, rows.stop, out)
