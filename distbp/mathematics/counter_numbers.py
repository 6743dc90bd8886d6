"""Random numbers that are a function of where they are used: the same with every version of NumPy, on every CPU.

The integers are those of Philox4x64-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC'11).  It is a bijection of a 256-bit counter under a 128-bit key.  NumPy guarantees the integers of
`numpy.random.Philox`; it guarantees none of what `numpy.random.Generator` makes of them (NEP 19).  So everything else
is done here, with operations whose result is unique.

    key     = (seed, stream)                 two words of 64 bits, the lowest first
    counter = (1 + i, 0, window, epoch)      four of them: block i of four integers, i = 0, 1, …

Nothing is hashed.  Two different (seed, stream, epoch, window), each below 2^64, have another key or another upper half
of the counter, and the lower half does not overflow.  So no block of the one is ever a block of the other.

The streams are INITIALIZATION (the window is the layer), SAMPLES and BLOCKS (see `distbp.data.sample_order`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INITIALIZATION, SAMPLES, BLOCKS = 0, 1, 2


class CounterNumbers:
    """The numbers of one (seed, stream, epoch, window), from the first one on; each below 2^64."""

    def __init__(self, seed: int, stream: int, epoch: int = 0, window: int = 0) -> None:
        # NumPy adds 1 to the counter before it computes a block.
        self._philox = np.random.Philox(key=seed | stream << 64, counter=window << 128 | epoch << 192)

    def integers(self, count: int) -> NDArray[np.uint64]:
        """The next ones, each of 64 random bits."""
        return self._philox.random_raw(count)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """The next ones, as (k + ½) 2^-52 with 52 random bits k: between 0 and 1, and never either of them.

        They lie symmetrically about ½, and float64 holds each of them, and 1 minus each of them, exactly.
        """
        k = self.integers(count)
        k >>= np.uint64(12)
        numbers = k.astype(np.float64)
        numbers += 0.5
        numbers *= 2.0**-52
        return numbers

    def permutations(self, count: int, n: int) -> NDArray[np.int64]:
        """`count` orders of 0 … n-1, one a row; the order of one row tells nothing of the others.

        The key of i is 64 bits: random ones above, and i in the lowest b = ⌈log₂ n⌉.  No two keys are the same, so
        there is one sorted order, whatever algorithm finds it; the lowest bits of the sorted keys are the permutation.

        All orders are equally likely, as long as the 64 - b random bits of no two keys are the same.  Where two are,
        the smaller index comes first.  So of two indices the smaller one comes first with probability ½ + 2^-(65-b):
        for a million samples that is ½ + 3e-14.  The probability that all keys of n have other random bits is more than
        1 - 2^(3b-65): for a thousand samples 1 - 3e-11, for a million 0.97.
        """
        mask = np.uint64((1 << max(0, n - 1).bit_length()) - 1)
        keys = self.integers(count * n).reshape(count, n)
        keys &= ~mask
        keys |= np.arange(n, dtype=np.uint64)
        keys.sort(axis=1)
        keys &= mask
        return keys.view(np.int64)
