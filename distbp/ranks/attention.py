"""Who watches over a rank: it is told what the rank is doing, and may ask it to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distbp.ranks.stop import Pulse, stopping_pulse


@dataclass(frozen=True)
class Attention:
    """`beat` is told, again and again, what this rank is doing: a watchdog ends a job that says nothing for long.

    `why_stop` says why this rank is to stop, or "".  Without either nobody watches.
    """

    beat: Pulse = lambda phase: None
    why_stop: Callable[[], str] = lambda: ""

    def pulse(self, before: str = "") -> Pulse:
        """A beat that raises Stopped where a stop is asked for, `before` something is kept."""
        return stopping_pulse(self.beat, self.why_stop, before)
