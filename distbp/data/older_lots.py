"""The lots of runs that were begun with version 0 of the numerics: NumPy's Generator drew them.

Such a run goes on in the order in which it began, so that each sample of an epoch comes once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHUFFLE = 1


class GeneratorLots:
    """See `distbp.data.lots.Lots`."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def samples(self, count: int, epoch: int, window: int | None) -> NDArray[np.int64]:
        """See `Lots`."""
        place = [] if window is None else [window + 1]
        return np.random.default_rng([self._seed, SHUFFLE, epoch, *place]).permutation(count)

    def blocks(self, groups: int, K: int, epoch: int) -> NDArray[np.int64]:
        """See `Lots`."""
        rng = np.random.default_rng([self._seed, SHUFFLE, epoch])
        return np.array([rng.permutation(K) for _ in range(groups)])
