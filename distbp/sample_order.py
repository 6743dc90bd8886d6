"""The order of the samples of an epoch: a function of (seed, epoch, how the files are laid out, window) alone.

Up to `window` samples are shuffled as a whole.  A larger split is cut into blocks of neighbouring rows, whole chunks of
its files; the blocks are shuffled, then dealt out to windows, and the samples of each window are shuffled.  So a window
can be read block by block, and each sample stands beside those of many blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from distbp.batches import SHUFFLE_STREAM, epoch_order


@dataclass(frozen=True)
class Window:
    """A part of an epoch: `blocks` (first, last) in the order they are read, and `order` of all their rows.

    The sample at place i of the window is row `order[i]` of the blocks, end to end.
    """

    blocks: list[tuple[int, int]]
    order: NDArray[np.int64]

    def rows(self) -> NDArray[np.int64]:
        """The rows of the split, by their place in the window."""
        rows = np.concatenate([np.arange(first, last) for first, last in self.blocks])
        return np.asarray(rows[self.order])


class SampleOrder:
    """The windows of every epoch.  `blocks` (first, last) are all rows of the split, in order."""

    def __init__(self, blocks: Sequence[tuple[int, int]], window: int, seed: int) -> None:
        self._blocks, self._window, self._seed = list(blocks), window, seed
        self.N = self._blocks[-1][1]
        self.largest_block = max(last - first for first, last in self._blocks)
        self._dealt: dict[int, list[list[tuple[int, int]]]] = {}

    @property
    def longest(self) -> int:
        """Samples that a window may have."""
        return self.N if self._window >= self.N else min(self.N, self._window + self.largest_block - 1)

    def starts(self, epoch: int) -> list[int]:
        """Place in the epoch where each window begins, and N."""
        lengths = [sum(last - first for first, last in blocks) for blocks in self._deal(epoch)]
        return [0, *accumulate(lengths)]

    def window(self, epoch: int, index: int) -> Window:
        """One window of an epoch; no other needs to be known for it."""
        blocks = self._deal(epoch)[index]
        if self._window >= self.N:
            return Window(blocks, epoch_order(self.N, self._seed, epoch))
        rng = np.random.default_rng([self._seed, SHUFFLE_STREAM, epoch, index + 1])
        return Window(blocks, rng.permutation(sum(last - first for first, last in blocks)))

    def _deal(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The blocks of each window: each has `window` samples or a few more, but the last one."""
        if self._window >= self.N:
            return [self._blocks]
        if epoch not in self._dealt:
            windows: list[list[tuple[int, int]]] = [[]]
            count = 0
            for i in epoch_order(len(self._blocks), self._seed, epoch).tolist():
                if count >= self._window:
                    windows.append([])
                    count = 0
                windows[-1].append(self._blocks[i])
                count += self._blocks[i][1] - self._blocks[i][0]
            self._dealt = {**{e: dealt for e, dealt in self._dealt.items() if e == epoch - 1}, epoch: windows}
        return self._dealt[epoch]
