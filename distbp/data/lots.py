"""Lots: the random orders of samples and of blocks of samples that a run draws, by the version of its numerics."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.data.older_lots import GeneratorLots
from distbp.mathematics.counter_numbers import BLOCKS, SAMPLES, CounterNumbers
from distbp.mathematics.numerics import NUMERICS


class Lots(Protocol):
    """The lots of one seed."""

    def samples(self, count: int, epoch: int, window: int | None) -> NDArray[np.int64]:
        """The order of the samples 0 … count-1 of a window of an epoch; None: the only one."""

    def blocks(self, groups: int, K: int, epoch: int) -> NDArray[np.int64]:
        """`groups` orders of 0 … K-1, one a row: the windows that the blocks of each group go to."""


class CounterLots:
    """From a counter: the same with every version of NumPy."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def samples(self, count: int, epoch: int, window: int | None) -> NDArray[np.int64]:
        """See `Lots`."""
        (order,) = CounterNumbers(self._seed, SAMPLES, epoch, window or 0).permutations(1, count)
        return np.asarray(order)

    def blocks(self, groups: int, K: int, epoch: int) -> NDArray[np.int64]:
        """See `Lots`."""
        return CounterNumbers(self._seed, BLOCKS, epoch).permutations(groups, K)


def lots(seed: int, numerics: int = NUMERICS) -> Lots:
    """The lots of a run that was begun with this version of the numerics."""
    return CounterLots(seed) if numerics else GeneratorLots(seed)
