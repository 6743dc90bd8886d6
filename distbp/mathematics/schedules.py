"""The learning rate as a function of the number of updates done: nothing is remembered, so a resume needs no state.

The bits of η are the same on every machine: see `distbp.mathematics.fixed_functions`.

Each schedule has one entry in `SCHEDULES`; importing this module does not load NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distbp.mathematics.fixed_functions import cos_pi, power

LARGEST = 1.7976931348623157e308  # float64


@dataclass(frozen=True)
class Schedule:
    """η(step), step = 0, 1, … updates done; all lengths in updates.

    In the warm-up, step < warmup, η = base (step + 1) / warmup, whatever follows.
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
        if step < self.warmup:
            return min(self.base * (step + 1) / self.warmup, LARGEST)
        return min(SCHEDULES[self.name].rate(self, step - self.warmup), LARGEST)


@dataclass(frozen=True)
class Shape:
    """A schedule under the name that a user gives: η after the warm-up, and the options that it alone takes.

    `ends`: True if η depends on the number of epochs of the run.
    """

    name: str
    rate: Callable[[Schedule, int], float]
    options: tuple[str, ...] = ()
    help: str = ""  # what else --help says
    ends: bool = False


def constant(schedule: Schedule, step: int) -> float:
    """η = base"""
    return schedule.base


def step(schedule: Schedule, step: int) -> float:
    """η = base · factor^⌊step / every⌋"""
    return schedule.base * power(schedule.factor, step // schedule.every)


def cosine(schedule: Schedule, step: int) -> float:
    """η falls from base to minimum along half a cosine until `total` (Loshchilov & Hutter 2017)."""
    done = min(1.0, step / max(1, schedule.total - schedule.warmup))
    return schedule.minimum + 0.5 * (schedule.base - schedule.minimum) * (1.0 + cos_pi(done))


SCHEDULES = {
    shape.name: shape
    for shape in (
        Shape("constant", constant),
        Shape("step", step, ("step_epochs", "step_factor")),
        Shape("cosine", cosine, ("minimum_learning_rate",), help="ends at --epochs", ends=True),
    )
}
