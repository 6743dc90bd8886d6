"""Sums over all samples of a data set that do not depend on the order, nor on how many ranks share the work.

Floating-point addition is not associative: (1 + 1e16) - 1e16 = 0, but 1 + (1e16 - 1e16) = 1.  Whole numbers below 2^53
are different, float64 holds each of them and adds them without an error.  So every number that is to be summed is
first brought to a common scale, as a multiple of one power of two, and rounded to a whole number there:

    r = rint(x 2^c),   Σ x ≈ 2^-c Σ r

**Why the sum is exact.**  `count` numbers with |x 2^c| < 2^b, b = `whole_bits(count)` = 52 - ⌈log₂ count⌉, become whole
numbers of at most 2^b (rounding cannot pass a whole number).  A sum of any of them, in any order, is a whole number of
at most count · 2^b ≤ 2^52 < 2^53.  Such numbers are float64 numbers, so no addition on the way rounds: not within a
rank, not in MPI_Allreduce, whatever tree it uses.  Additions without rounding are associative and commutative.

**What it costs in accuracy.**  Rounding moves each number by at most half a unit, ½ 2^-c, which is more than its own
rounding; so what rounding took away is kept in a second word, as a multiple of 2^-(c + low_bits) that sums exactly for
the same reason: |x 2^c - r| ≤ ½ is exact in float64, count · ½ 2^low_bits ≤ 2^51.  Numbers below about 2^-90 of the
largest become zero; so denormal numbers are no special case.

(For the gradient of each step this takes too many passes over memory; there the order itself is kept, see
`distbp.mathematics.grain_tree`.)

Pre-rounding to a common grid: Demmel & Nguyen, "Fast reproducible floating-point summation", ARITH 2013 (ReproBLAS).
Fixed-point numbers for sums that do not depend on the order: Hallberg & Adcroft, "An order-invariant real-to-integer
conversion sum", Parallel Computing 40, 2014.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import frexp, fsum, inf

import numpy as np
from numpy.typing import NDArray

EXACT_BITS = 52  # of the 53 that float64 has
SMALLEST_EXPONENT = -1074  # the smallest number is 2^-1074


def whole_bits(count: int) -> int:
    """b, so that `count` whole numbers of at most 2^b add up to at most 2^52."""
    return EXACT_BITS - (max(1, count) - 1).bit_length()


def exponent(bound: float) -> int:
    """e with bound < 2^e; the bound is finite and >= 0."""
    return frexp(bound)[1] if bound else SMALLEST_EXPONENT


def exponents(bounds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The same of each; for what is not finite, anything."""
    powers = np.frexp(np.where(np.isfinite(bounds), bounds, 1.0))[1].astype(np.int64)
    powers[bounds == 0] = SMALLEST_EXPONENT
    return powers


def total(values: Iterable[float]) -> float:
    """Σ of numbers that are all at hand, rounded once; not finite where one of them, or the sum, is not."""
    try:
        return fsum(values)
    except (OverflowError, ValueError):  # beyond the largest number, or inf - inf
        return inf


class ExactSum:
    """Σ of `count` float64 vectors x with |x| < 2^exponents, element by element.

    `sums` is to be summed over the ranks (any order) between the last `add` and `value`.  Where an infinity or NaN was
    added, or the sum is beyond the largest number, the value is what float64 makes of it, without a warning.
    """

    def __init__(self, exponents: NDArray[np.int64], count: int) -> None:
        self.sums = np.zeros((2, *exponents.shape))  # whole numbers, and the rest in units of 2^-low_bits
        self._low_bits = whole_bits(count)
        self._c = self._low_bits - exponents

    def add(self, x: NDArray[np.float64]) -> None:
        scaled = np.ldexp(x, self._c)
        whole = np.rint(scaled)
        with np.errstate(invalid="ignore"):  # inf - inf
            rest = scaled - whole
            self.sums[0] += whole
        rest[~np.isfinite(whole)] = 0.0
        self.sums[1] += np.rint(np.ldexp(rest, self._low_bits))

    def value(self) -> NDArray[np.float64]:
        high, low = self.sums
        with np.errstate(over="ignore"):
            return np.asarray(np.ldexp(high + np.ldexp(low, -self._low_bits), -self._c))
