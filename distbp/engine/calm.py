"""A calm: for so many updates no number comes near to the largest one there is, where the gradients are below a limit.

Let the gradients be at most g, and the learning rates at most η.  `Optimizer.reach` multiplies the bounds of w and of
the optimizer's vectors by numbers ≥ 0 and adds numbers ≥ 0.  So larger bounds before an update lead to larger bounds
after it.  A later t makes the steps of Adam shorter, so the first t is enough.

- A vector x of the state does not depend on the other vectors: x' = a x + b, where w is at most W.  If a < 1, a bound
  of x that is b / (1 - a) or more is a bound after every update.
- w' - w is linear in w and convex in the learning rate, so it is largest at the ends, which are 0 and W, and 0 and η.
  The bound of w grows by this value at most in an update, and (W - w) divided by it is a number of updates.

All of this is computed from calls of `reach`, so this module knows nothing of any optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, sqrt

from distbp.mathematics.optimizers import Optimizer

LEAST_UPDATES = 256  # a shorter calm is not worth its price
MARGIN = 1.01  # more than what rounding does to the few operations here
WIDE = 1024.0


@dataclass
class Calm:
    """How many updates it still lasts, for gradients and learning rates that are not above these."""

    g: float
    learning_rate: float
    updates: int


def is_far(bounds: Mapping[str, float], most: float) -> bool:
    """Whether they are surely those of finite numbers; they may be infinite, or NaN, themselves."""
    return all(bound < most for bound in bounds.values())


def calm_from(
    optimizer: Optimizer, largest: Mapping[str, float], most: float, g: float, learning_rate: float, t: int
) -> Calm | None:
    """The calm that begins with update t; None where no long one is found.

    `largest`: bounds of w and of the state; `most`: what stays below it is far enough; `g`, `learning_rate`: of the
    update before, of which those that follow will be about the size.
    """
    for limits in _limits(largest["w"], most, g, learning_rate):
        updates = _updates(optimizer, largest, most, *limits, t)
        if updates >= LEAST_UPDATES:
            return Calm(limits[1], limits[2], updates)
    return None


def _limits(w: float, most: float, g: float, learning_rate: float) -> Iterator[tuple[float, float, float]]:
    """Of w, of the gradients and of the learning rates: those that bear most come first."""
    root = sqrt(most) / WIDE
    yield most / 4, max(root, g), WIDE * learning_rate
    for times in (WIDE, 2.0):
        yield sqrt(most) * max(1.0, sqrt(w)), WIDE * WIDE * g, times * learning_rate
    yield WIDE * w, 16 * g, 2 * learning_rate


def _updates(
    optimizer: Optimizer, largest: Mapping[str, float], most: float, w: float, g: float, learning_rate: float, t: int
) -> int:
    """For how many updates w stays below its limit, and everything far."""
    box = {**_lasting(optimizer, largest, w, g, learning_rate, t), "w": w}
    after = optimizer.reach(box, g, learning_rate, t)
    if not is_far(after, most) or any(after[name] > box[name] for name in optimizer.vectors):
        return 0
    growth = max(
        optimizer.reach({**box, "w": one}, g, rate, t)["w"] - one for one in (0.0, w) for rate in (0.0, learning_rate)
    )
    return int(min((w - largest["w"]) / (MARGIN * growth), 1e9)) if largest["w"] < w and growth > 0 else 0


def _lasting(
    optimizer: Optimizer, largest: Mapping[str, float], w: float, g: float, learning_rate: float, t: int
) -> dict[str, float]:
    """Bounds of the vectors of the state beyond which they do not grow; inf where there are none."""
    names = optimizer.vectors
    from_zero = optimizer.reach({**dict.fromkeys(names, 0.0), "w": w}, g, learning_rate, t)  # b
    again = optimizer.reach({**{name: from_zero[name] for name in names}, "w": w}, g, learning_rate, t)  # a b + b
    found = {}
    for name in names:
        b = from_zero[name]
        rest = 2.0 - again[name] / b  # 1 - a
        found[name] = max(largest[name], MARGIN * b / rest) if rest > 1e-5 else inf
    return found
