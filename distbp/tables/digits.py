"""Whether numbers that come as text keep their digits in float32, which is what they are stored as.

Decimals do: they are rounded to 24 bits, which is finer than what most are measured to.  Not so

    - whole numbers that become others: time stamps, identifiers above 2²⁴ = 16,777,216;
    - columns whose values lie so close together, for their size, that their differences are lost: all values of a
      column within 4096 steps of float32 (days of Julian date), or values of a sample that become equal;
    - columns of numbers below 1e-30, which float32 rounds coarsely or to zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.tables.distinct import EXACT

FEWEST_STEPS = 4096
SAMPLE = 1024
SMALLEST = 1e-30


class Digits:
    """Looks at a column of float64, block by block; `lost` says what float32 would do to it."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.is_whole = True
        self.too_long: float | None = None  # a whole number that float64 may have rounded already
        self._changed = ""
        self._rounded = False
        self._equal = ""

    def add(self, values: NDArray[np.float64]) -> None:
        """Values that are there and finite, shape (n,)."""
        if not len(values):
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        with np.errstate(over="ignore"):
            single = values.astype(np.float32).astype(np.float64)
        changed, whole = single != values, values == np.floor(values)
        self.is_whole = self.is_whole and bool(whole.all())
        if self.too_long is None and max(abs(self.low), abs(self.high)) >= EXACT:
            long = whole & (np.abs(values) >= EXACT)
            self.too_long = float(values[long][0]) if long.any() else None
        if not changed.any():
            return
        self._rounded = True
        lost = changed & whole & (np.abs(values) <= EXACT)
        if not self._changed and lost.any():
            value, stored = values[lost][0], single[lost][0]
            self._changed = f"{value:.0f} would become {stored:.0f}"
        if not self._equal:
            self._equal = _become_equal(values[:SAMPLE])

    def lost(self) -> str:
        """What would be lost in float32, in words; "" if nothing is that matters."""
        if self._changed or self._equal:
            return self._changed or self._equal
        largest = max(abs(self.low), abs(self.high))
        if not self._rounded or self.low == self.high:
            return ""
        if largest < SMALLEST:
            return f"no value is larger than {largest:.3g}"
        with np.errstate(over="ignore"):
            steps = (self.high - self.low) / float(np.spacing(np.float32(largest)))
        return f"{self.low!r} to {self.high!r} are {steps:.0f} steps of float32" if steps < FEWEST_STEPS else ""


def _become_equal(values: NDArray[Any]) -> str:
    """Two values that float32 makes one, where it does that to more than one in twenty of some."""
    found = np.unique(values)
    with np.errstate(over="ignore"):
        single = found.astype(np.float32)
    same = np.flatnonzero(single[1:] == single[:-1])
    if 20 * len(same) <= len(found):
        return ""
    return f"{float(found[same[0]])!r} and {float(found[same[0] + 1])!r} would become one number"
