"""The learning rate of each step of a run."""

from __future__ import annotations

from distbp.mathematics.schedules import Schedule
from distbp.settings.config import Config


def schedule_of(config: Config, steps: int) -> Schedule:
    """η by the number of steps done, for a run with so many steps in an epoch."""
    return Schedule(
        config.schedule,
        config.learning_rate,
        warmup=round(config.warmup_epochs * steps),
        total=config.epochs * steps,
        every=max(1, round(config.step_epochs * steps)),
        factor=config.step_factor,
        minimum=config.minimum_learning_rate,
    )
