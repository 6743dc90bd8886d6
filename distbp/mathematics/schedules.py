"""The learning rate as a function of the number of updates done: nothing is remembered, so a resume needs no state."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, inf, pi

LARGEST = 1.7976931348623157e308  # float64


@dataclass(frozen=True)
class Schedule:
    """η(step), step = 0, 1, … updates done; all lengths in updates.

    warm-up    step < warmup:   η = base (step + 1) / warmup, whatever follows
    constant   η = base
    step       η = base · factor^⌊(step - warmup) / every⌋
    cosine     η falls from base to minimum along half a cosine between `warmup` and `total` (Loshchilov & Hutter 2017)
    """

    name: str
    base: float
    warmup: int
    total: int
    every: int
    factor: float
    minimum: float

    def __call__(self, step: int) -> float:
        """The learning rate of the update that follows `step` others; the largest number there is, where it is more."""
        try:
            return min(self._rate(step), LARGEST)
        except OverflowError:
            return LARGEST

    def _rate(self, step: int) -> float:
        if step < self.warmup:
            return self.base * (step + 1) / self.warmup
        if self.name == "step":
            try:
                return float(self.base * self.factor ** ((step - self.warmup) // self.every))
            except OverflowError:  # of a factor above 1
                return inf
        if self.name == "cosine":
            done = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
            return self.minimum + 0.5 * (self.base - self.minimum) * (1.0 + cos(pi * done))
        return self.base
