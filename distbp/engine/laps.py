"""Who is told what the time of a step is spent on."""

from __future__ import annotations

from typing import Protocol


class Lap(Protocol):
    """`lap(phase)`: the time since the last lap was spent on this phase; `lap(phase, seconds)`: so much of it was."""

    def __call__(self, phase: str, seconds: float | None = None, /) -> None: ...


def no_lap(phase: str, seconds: float | None = None, /) -> None:
    """Nobody wants to know."""
