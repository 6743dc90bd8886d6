"""The order of the samples of an epoch: a function of (lots, epoch, how the files are laid out, window) alone.

Up to `window` samples are shuffled as a whole.  A larger split is cut into blocks of neighbouring rows, whole chunks of
its files, and the blocks are dealt out to windows; the samples of each window are shuffled.  So a window can be read
block by block.  Of each K neighbouring blocks, each of the K windows gets one, by lot: so that every window has its
part of everything that comes one after another in the files, such as classes in turn, or the time of a simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from distbp.data.lots import Lots


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
    """The windows of every epoch, `window` samples or more in each.  `blocks` (first, last) are all rows, in order."""

    def __init__(self, blocks: Sequence[tuple[int, int]], window: int, lots: Lots) -> None:
        self._blocks, self._lots, self.N = list(blocks), lots, blocks[-1][1]
        lengths = np.array([last - first for first, last in blocks])
        self.largest_block = int(lengths.max())
        self.count = max(1, self.N // window)  # K
        while self.count > 1 and _sizes(lengths, self.count)[0] < window:
            self.count -= 1 + self.count // 64
        self.longest = _sizes(lengths, self.count)[1]  # samples that a window may have
        self._dealt: dict[int, list[list[tuple[int, int]]]] = {}

    def starts(self, epoch: int) -> list[int]:
        """Place in the epoch where each window begins, and N."""
        lengths = [sum(last - first for first, last in blocks) for blocks in self._deal(epoch)]
        return [0, *accumulate(lengths)]

    def window(self, epoch: int, index: int) -> Window:
        """One window of an epoch; no other needs to be known for it."""
        blocks = self._deal(epoch)[index]
        samples = sum(last - first for first, last in blocks)
        return Window(blocks, self._lots.samples(samples, epoch, index if self.count > 1 else None))

    def _deal(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The blocks of each window, in the order of the files."""
        if self.count == 1:
            return [self._blocks]
        windows = self._dealt.get(epoch)  # another thread may replace them at any time
        if windows is None:
            K = self.count
            windows = [[] for _ in range(K)]
            for group, lots in enumerate(self._lots.blocks(-(-len(self._blocks) // K), K, epoch).tolist()):
                neighbours = self._blocks[group * K : (group + 1) * K]
                for block, index in zip(neighbours, lots, strict=False):
                    windows[index].append(block)
            self._dealt = {**{e: dealt for e, dealt in self._dealt.items() if e == epoch - 1}, epoch: windows}
        return windows


def _sizes(lengths: NDArray[np.int64], K: int) -> tuple[int, int]:
    """How few, and how many, samples a window may have; lots decide."""
    whole = len(lengths) // K * K
    groups, rest = lengths[:whole].reshape(-1, K), lengths[whole:]
    return int(groups.min(axis=1).sum()), int(groups.max(axis=1).sum() + rest.max(initial=0))
