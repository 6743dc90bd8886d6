"""Functions made of + - × ÷ in an order that is written down: their bits are the same on every machine.

IEEE 754 says how + - × ÷ √ are rounded.  It does not say it of cos, log or powers, and their last bits change with the
CPU, the C library and the version of NumPy.  What enters the numbers of a run is computed with these functions.
Python and NumPy round after each operation.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial, pi

from distbp.mathematics import deferred_numpy as np
from distbp.mathematics.activations import Array

LN2_HIGH = 6.93147180369123816490e-01  # the first 32 bits of ln 2: e times it is exact
LN2_LOW = 1.90821492927058770002e-10  # the rest
ROOT_HALF = 0.7071067811865476  # √½
SIZE = 1024  # of a table of powers

# The Taylor series of cos t and of sin t / t in t², the highest power first.
COSINE = tuple((1, -1)[k % 2] / factorial(2 * k) for k in range(9, -1, -1))
SINE = tuple((1, -1)[k % 2] / factorial(2 * k + 1) for k in range(9, -1, -1))


def cos_pi(x: float) -> float:
    """cos πx for 0 ≤ x ≤ 1; off by at most 1.5e-16.

    It is brought to |t| ≤ π/4 by the symmetries of the cosine.  The differences are exact.
    """
    if x > 0.75:
        return -cos_pi(1.0 - x)
    t = pi * (0.5 - x if x > 0.25 else x)
    square, total = t * t, 0.0
    for coefficient in SINE if x > 0.25 else COSINE:
        total = total * square + coefficient
    return total * t if x > 0.25 else total


def log(x: Array) -> Array:
    """ln x of each x > 0, float64 and not denormal; off by at most 2 ulp where x is not within 2^-20 of 1.

    With x = 2^e m, √½ ≤ m < √2, and s = (m - 1) / (m + 1):  ln x = e ln 2 + 2 (s + s³/3 + s⁵/5 + …).
    """
    m, e = np.frexp(x)
    is_small = m < ROOT_HALF
    m = np.where(is_small, m + m, m)
    e = e - is_small.astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    series = np.full_like(s, 1.0 / 23.0)
    for k in range(21, 1, -2):
        series *= square
        series += 1.0 / k
    series *= square
    series *= s + s
    series += s + s
    return np.asarray(e * LN2_HIGH + (series + e * LN2_LOW))


def power(x: float, k: int) -> float:
    """x^k for k = 0, 1, …: the product of one number for each digit of k in base 1024, the highest first.

    Each of them is a product of one factor after another, which is kept in a table.  So a power has the same bits,
    whether others were asked for before or not.  Every factor is rounded: the error is about k 2^-53 x^k at most.
    Beyond the largest number it is inf.
    """
    return _power(x, 0, k)


def powers(x: float, first: int, count: int) -> list[float]:
    """x^first, x^(first+1), …: `count` of them, each as `power` gives it."""
    found: list[float] = []
    table, k, end = _table(x, 0), first, first + count
    while k < end:
        low = table[k % SIZE : k % SIZE + end - k]
        high = _power(x, 1, k // SIZE) if k >= SIZE else 1.0
        found += [high * one for one in low]
        k += len(low)
    return found


def _power(x: float, level: int, k: int) -> float:
    """x^(k 1024^level)"""
    low = _table(x, level)[k % SIZE]
    return low if k < SIZE else _power(x, level + 1, k // SIZE) * low


@lru_cache(maxsize=64)
def _table(x: float, level: int) -> tuple[float, ...]:
    """x^(j 1024^level), j = 0 … 1023"""
    if level:
        below = _table(x, level - 1)
        x = below[-1] * below[1]
    products = [1.0]
    while len(products) < SIZE:
        products.append(products[-1] * x)
    return tuple(products)
