"""Sums a b + c that are hard to round, and how they are rounded once: by fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np


def hard(dtype: type) -> np.ndarray:
    """a, b, c with a b + c next to the middle of two numbers, among the smallest ones, or where much cancels."""
    info, rng = np.finfo(dtype), np.random.default_rng(5)
    ulp = float(info.eps)
    near = [1.0, 1 + ulp, 1 - ulp / 2, 1 + ulp * 2 ** (info.nmant // 2), 1.5, 1 - ulp * 2 ** (info.nmant // 2)]
    factors = [2.0**-k for k in (0, 1, info.nmant, info.nmant + 1, info.nmant + 2, 2 * info.nmant)]
    few = [(a * f, b, c) for a, b, f in product(near, near, factors) for c in (1.0, -1.0, 1 + ulp, -(1 + ulp))]
    least = float(info.smallest_subnormal)
    few += [(a * 2.0**-20, b * least * 2.0**19, k * least) for a, b in product(near, near) for k in (0, 1, 2, 3)]
    if dtype is np.float64:  # around the numbers that exact_fma.h leaves to the C library
        few += [
            (a * 2.0**power, b * 2.0**-power, c)
            for a, b, power in product(near, near, (-401, -400, -399, 399, 400, 401))
            for c in (1.0, -1.0, 2.0**-899, 2.0**-901, 0.0)
        ]
        few += [
            (a * 2.0**-399, b * 2.0**-399, c * 2.0**-798) for a, b, c in product(near, near, (1.0, -1.0, 2.0**-106))
        ]
    some = rng.standard_normal((300, 3)) * 2.0 ** rng.integers(-20, 20, (300, 3))
    return np.concatenate([np.array(few), some]).astype(dtype)


def rounded_once(numbers: np.ndarray) -> np.ndarray:
    """a b + c for rows (a, b, c)."""
    dtype = numbers.dtype.type
    exact = [Fraction(a) * Fraction(b) + Fraction(c) for a, b, c in numbers.tolist()]
    return np.array([rounded(one, dtype) for one in exact], dtype)


def rounded(exact: Fraction, dtype: type) -> float:
    """To the nearest number of the type, to the even one of two."""
    info = np.finfo(dtype)
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, info.minexp) - info.nmant)
    return float(round(exact / unit) * unit)  # of Python: to the even one
