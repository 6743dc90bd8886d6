"""Times several things in turns, so that what else a machine does meets all of them alike.

Of the times of the rounds, the lower quartile is taken: other work on a machine only ever makes them longer.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from time import perf_counter, thread_time

import numpy as np

from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.stop import Pulse
from distbp.training.phases import PHASES, Phases

ROUNDS, FEWEST = 9, 3
MOST = 10**6  # repetitions in a round

Timer = Callable[[int], dict[str, float]]  # does a thing so many times; seconds of one, in parts, the same on all ranks


class Rounds:
    """All ranks of `comm` time the same things, in the same order, for about so many seconds in all."""

    def __init__(self, comm: Communicator, seconds: float, pulse: Pulse, advance: Callable[[], None]) -> None:
        self._comm, self._seconds, self._pulse, self._advance = comm, seconds, pulse, advance
        self._timers: dict[str, Timer] = {}
        self._found: dict[str, list[dict[str, float]]] = {}

    def add(self, name: str, timer: Timer) -> None:
        self._timers[name], self._found[name] = timer, []

    def run(self) -> None:
        """Each thing once for a warm-up, then in every round as often as its part of the time allows.

        Raises Stopped, agreed, where a stop is asked for.
        """
        started, part = perf_counter(), self._seconds / len(self._timers) / (ROUNDS + 2)
        counts = {name: self._calibrate(name, part) for name in self._timers}
        for done in range(ROUNDS):
            if done >= FEWEST and self._comm.broadcast(perf_counter() - started > self._seconds):
                break
            for name, timer in self._timers.items():
                self._come_on(name)
                self._found[name].append(timer(counts[name]))

    def _come_on(self, name: str) -> None:
        self._advance()
        agree(self._comm, lambda: self._pulse(f"measuring {name}"))

    def _calibrate(self, name: str, part: float) -> int:
        """How often a thing is done in a round."""
        self._come_on(name)
        timer, count = self._timers[name], 1
        timer(1)  # what is made at the first time
        while True:
            begun = perf_counter()
            self._found[name] = [timer(count)]
            took = self._comm.broadcast(perf_counter() - begun)
            if took > part / 4 or count >= MOST:
                return min(MOST, max(1, ceil(count * part / took)))
            count *= 2

    def seconds(self, name: str, *parts: str) -> float:
        """Of one thing, of these parts of it or of all; also while it runs, then from fewer rounds."""
        found = self._found[name][1:] or self._found[name]
        return float(np.quantile([sum(one[part] for part in parts or one) for one in found], 0.25))


def by_clock(comm: Communicator, action: Callable[[], object], pause: Callable[[], float] = lambda: 0.0) -> Timer:
    """An action as a whole, of the slowest rank; `pause`: seconds for which each rank is busy otherwise before it."""

    def timer(count: int) -> dict[str, float]:
        waiting = pause()
        comm.allgather(None)
        started, paused = perf_counter(), 0.0
        for _ in range(count):
            if waiting:
                begun = perf_counter()
                while perf_counter() - begun < waiting:
                    pass
                paused += perf_counter() - begun
            action()
        seconds = (perf_counter() - started - paused) / count
        return {"": max(comm.allgather(seconds))}

    return timer


def by_cores(comm: Communicator, action: Callable[[], object]) -> Timer:
    """Seconds for which an action keeps a core busy, on the rank where it does so longest."""

    def timer(count: int) -> dict[str, float]:
        comm.allgather(None)
        started = thread_time()
        for _ in range(count):
            action()
        return {"": max(comm.allgather((thread_time() - started) / count))}

    return timer


def by_phases(comm: Communicator, phases: Phases, action: Callable[[], object]) -> Timer:
    """The phases of an action; of the reduction what it takes the rank that comes to it last, of others the slowest."""

    def timer(count: int) -> dict[str, float]:
        comm.allgather(None)
        phases.take(comm)
        phases.start()
        for _ in range(count):
            action()
        taken = phases.take(comm)
        ends = {phase: "_min" if phase == "reduction" else "_max" for phase in PHASES}
        return {phase: taken[f"{phase}_seconds{of}"] / count for phase, of in ends.items()}

    return timer
