"""Where the time of the steps goes: seconds of each phase, on this rank; and, if asked for, a trace of each step.

A phase ends where the next one is named, so that all time between two steps is somebody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.ranks.communicator import Communicator

PHASES = ("data", "forward", "backward", "reduction", "update", "validation", "checkpoint")
OVER_RANKS: dict[str, Any] = {"": np.mean, "_min": np.min, "_max": np.max}
COLUMNS = [f"{phase}_seconds{of}" for of in OVER_RANKS for phase in PHASES]
SHOWN, UNEQUAL = 0.5, 5.0  # percent


class Phases:
    """The clock of one rank.  `lap` is called some times a step, and takes about 0.1 µs."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._at = perf_counter()
        self._events: list[tuple[str, float, float]] | None = None

    def start(self) -> None:
        """The first phase begins now."""
        self._at = perf_counter()

    def lap(self, phase: str, seconds: float | None = None, /) -> None:
        """What was done since the last lap was this phase; or, with `seconds`, so much of it was."""
        now = perf_counter() if seconds is None else self._at + seconds
        self._seconds[phase] += now - self._at
        events = self._events
        if events is not None:
            begun = events.pop()[1] if events and events[-1][0] == phase else self._at  # it goes on
            events.append((phase, begun, now))
        self._at = now

    def take(self, comm: Communicator) -> dict[str, float]:
        """The columns of metrics.csv: mean, lowest and highest over the ranks, since the last time."""
        everywhere = np.array(comm.allgather(list(self._seconds.values())))
        self._seconds = dict.fromkeys(PHASES, 0.0)
        values = [value for over in OVER_RANKS.values() for value in over(everywhere, axis=0).tolist()]
        return dict(zip(COLUMNS, values, strict=True))

    def record(self) -> None:
        """From here on, for a trace."""
        self._events = []
        self._at = perf_counter()

    def recorded(self) -> list[tuple[str, float, float]]:
        """Phase, start and end, in seconds of this node's clock; nothing is recorded any more."""
        events, self._events = self._events or [], None
        return events


def shares_of(history: Mapping[str, NDArray[np.float64]]) -> str:
    """forward 41 %, backward 38 %, reduction 12 (3 – 21) %, …: of all time; in brackets, where ranks are not alike."""
    sums = {column: float(np.nansum(history.get(column, ()))) for column in columns()}
    whole = sum(sums[f"{phase}_seconds"] for phase in PHASES)
    shown = []
    for phase in PHASES if whole else ():
        mean, least, most = (100 * sums[f"{phase}_seconds{of}"] / whole for of in OVER_RANKS)
        spread = f" ({least:.0f} – {most:.0f})" if most - least >= UNEQUAL else ""
        if most >= SHOWN:
            shown.append(f"{phase} {mean:.0f}{spread} %")
    return ", ".join(shown)


def columns() -> list[str]:
    """Those of metrics.csv."""
    return list(COLUMNS)
