"""Sums that do not depend on the order: the reason why any number of ranks gives the same bits.

Floating-point addition is not associative: (1 + 1e16) - 1e16 = 0, but 1 + (1e16 - 1e16) = 1.  Whole numbers below 2^53
are different, float64 holds each of them and adds them without an error.  So every number that is to be summed is
first brought to a common scale, as a multiple of one power of two, and rounded to a whole number there:

    r = rint(x 2^c),   Σ x ≈ 2^-c Σ r

**Why the sum is exact.**  `count` numbers with |x 2^c| < 2^b, b = `whole_bits(count)` = 52 - ⌈log₂ count⌉, become whole
numbers of at most 2^b (rounding cannot pass a whole number).  A sum of any of them, in any order, is a whole number of
at most count · 2^b ≤ 2^52 < 2^53.  Such numbers are float64 numbers, so no addition on the way rounds: not within a
rank, not in MPI_Allreduce, whatever tree it uses.  Additions without rounding are associative and commutative.

**What it costs in accuracy.**  Rounding moves each number by at most half a unit, ½ 2^-c.  `count` of them lose at most
count/2 units of the 2^b (or more) that the largest one has.  Where the numbers are float64 themselves, that is more
than their own rounding; so what rounding took away is kept in a second word (`low`), as a multiple of 2^-(c + low_bits)
that sums exactly for the same reason: |x 2^c - r| ≤ ½ is exact in float64, count · ½ 2^low_bits ≤ 2^51.

Zero stays zero; a sum is -0 only where all of its terms are, and who has no terms gives -0, which changes no number
that it is added to.  Numbers below half a unit become zero (with two words: below about 2^-90 of the largest); so
denormal numbers are no special case.  Where `whole_bits` is too small to be useful, the caller refuses.

Pre-rounding to a common grid: Demmel & Nguyen, "Fast reproducible floating-point summation", ARITH 2013 (ReproBLAS).
Fixed-point numbers for sums that do not depend on the order: Hallberg & Adcroft, "An order-invariant real-to-integer
conversion sum", Parallel Computing 40, 2014.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import frexp, fsum, inf

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.activations import Array

EXACT_BITS = 52  # one less than float64 has: room for rounding inside matrix products, see `distbp.reproducible`
SMALLEST_EXPONENT = -1074  # the smallest number is 2^-1074


def whole_bits(count: int) -> int:
    """b, so that `count` whole numbers of at most 2^b add up to at most 2^52."""
    return EXACT_BITS - (max(1, count) - 1).bit_length()


def exponent(bound: float) -> int:
    """e with bound < 2^e; the bound is finite and >= 0."""
    return frexp(bound)[1] if bound else SMALLEST_EXPONENT


def words(dtype: DTypeLike) -> int:
    """How many float64 words hold the sum of numbers of this dtype: 1 for float32, 2 for float64."""
    return 1 if np.dtype(dtype) == np.float32 else 2


def add_rounded(values: Array, sums: NDArray[np.float64], low_bits: int, scratch: Array, *, first: bool) -> None:
    """Rounds `values` to whole numbers and adds them to `sums`; overwrites values and scratch.

    `sums` has the shape (words, *values.shape): whole numbers and, with two words, the rest in units of 2^-low_bits.
    `first`: sums hold nothing yet.
    """
    if len(sums) == 1:
        np.rint(values, out=values)
        _add(values, sums[0], first)
        return
    np.rint(values, out=scratch)
    _add(scratch, sums[0], first)
    values -= scratch  # exact
    values *= 2.0**low_bits
    np.rint(values, out=values)
    _add(values, sums[1], first)


def _add(values: Array, total: NDArray[np.float64], first: bool) -> None:
    if first:
        np.copyto(total, values)
    else:
        total += values


def value(sums: NDArray[np.float64], low_bits: int, factor: float, out: Array) -> None:
    """out = factor times the sum that `add_rounded` has formed, computed in float64; overwrites sums."""
    if len(sums) == 2:
        sums[1] *= 2.0**-low_bits  # exact
        sums[0] += sums[1]
    np.multiply(sums[0], factor, out=out, casting="same_kind")


def total(values: Iterable[float]) -> float:
    """Σ of numbers that are all at hand, rounded once; not finite where one of them, or the sum, is not."""
    try:
        return fsum(values)
    except (OverflowError, ValueError):  # beyond the largest number, or inf - inf
        return inf


class ExactSum:
    """Σ of `count` float64 vectors x with |x| < 2^exponents, element by element.

    `sums` is to be summed over the ranks (any order) between the last `add` and `value`.  An infinity or NaN that was
    added is in the value.
    """

    def __init__(self, exponents: NDArray[np.int64], count: int) -> None:
        self.sums = np.zeros((2, *exponents.shape))
        self._low_bits = whole_bits(count)
        self._c = self._low_bits - exponents
        self._scratch = np.empty(exponents.shape)

    def add(self, values: NDArray[np.float64]) -> None:
        """One more array."""
        add_rounded(np.ldexp(values, self._c), self.sums, self._low_bits, self._scratch, first=False)

    def value(self) -> NDArray[np.float64]:
        """The sum.  Only once: it uses up `sums`."""
        out = np.empty(self.sums.shape[1:])
        value(self.sums, self._low_bits, 1.0, out)
        return np.asarray(np.ldexp(out, -self._c))
