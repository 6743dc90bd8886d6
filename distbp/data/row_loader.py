"""Single rows read from where they are in a file, each by the rank that needs it: for a shuffle of all samples.

This needs neither a window of blocks in memory nor an exchange, but rows that lie uncompressed in their files; and it
is slow where the files are not in the page cache, for a disk reads whole blocks.  Here a window is some batches long.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.data.loader import ReadAhead, Shares, Streamed


class RowLoader(ReadAhead[NDArray[np.int64]]):
    """See above; `batches_ahead`: batches of a window."""

    def __init__(self, streamed: Streamed, batches_ahead: int) -> None:
        n = streamed.n
        super().__init__(streamed, batches_ahead * most_samples(streamed.order.N, n, streamed.shares))
        self._length = batches_ahead * n
        self._epoch, self._rows = -1, np.empty(0, np.int64)

    def _starts(self, epoch: int) -> list[int]:
        return [*range(0, self._order.N, self._length), self._order.N]

    def _read(self, epoch: int, index: int, base: int) -> NDArray[np.int64]:
        """Reads this rank's samples of the batches, in the order of the files."""
        start = index * self._length
        rows = self._epoch_rows(epoch)[start : start + self._length]
        own = np.concatenate(
            [
                first + np.arange(*self._shares(min(self._n, len(rows) - first))[self._comm.rank])
                for first in range(0, len(rows), self._n)
            ]
        )  # places in the window
        own = own[np.argsort(rows[own])]
        sorted_rows, at = rows[own], 0
        while at < len(own) and not self._stop:
            some = sorted_rows[at : at + 1024]
            here = slice(base + at, base + at + len(some))
            self._reader.read_rows("x", some, self._x[here])
            if self.training.classes is not None:
                self._y[here] = self.training.classes[some]
            else:
                self._reader.read_rows("y", some, self._y[here])
            at += len(some)
        places = np.zeros(len(rows), np.int64)
        places[own] = np.arange(len(own))
        return places

    def _arrive(self, plan: NDArray[np.int64], base: int) -> NDArray[np.int64]:
        return plan

    def _epoch_rows(self, epoch: int) -> NDArray[np.int64]:
        """The rows of the split by their place in the epoch: as in memory."""
        if epoch != self._epoch:
            self._rows = np.empty(0, np.int64)
            windows = range(len(self._order.starts(epoch)) - 1)
            self._rows = np.concatenate([self._order.window(epoch, index).rows() for index in windows])
            self._epoch = epoch
        return self._rows


def most_samples(N: int, n: int, shares: Shares) -> int:
    """Samples of a batch of n, or of the last one, that one rank works on, at most."""
    return max(end - start for count in {n, N % n or n} for start, end in shares(count))
