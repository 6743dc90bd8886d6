"""Who listens to a training from Python: notes are kept, and shown only if the caller wants to see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distbp.errors import DistbpError, UsageError
from distbp.ranks.communicator import Communicator
from distbp.training.report import ConsoleReporter
from distbp.training.run import Run

STOP = "stop"
Callback = Callable[[dict[str, float]], Any]


class Listener:
    """The reporter of rank 0.  `is_shown`: as `distbp train` does, on the standard output."""

    def __init__(self, *, is_shown: bool) -> None:
        self.notes: list[str] = []
        self._console = ConsoleReporter() if is_shown else None

    def note(self, text: str) -> None:
        """Keeps it."""
        self.notes.append(text)
        if self._console:
            self._console.note(text)

    def start(self, run: Run) -> None:
        """Shows the summary."""
        if self._console:
            self._console.start(run)

    def step(self, samples: int) -> None:
        """Moves the bar."""
        if self._console:
            self._console.step(samples)

    def epoch(self, row: dict[str, float]) -> None:
        """Shows its line."""
        if self._console:
            self._console.epoch(row)

    def finish(self, run: Run, seconds: float) -> None:
        """Shows the last lines."""
        if self._console:
            self._console.finish(run, seconds)

    def close(self) -> None:
        """Removes the bar."""
        if self._console:
            self._console.close()


def agreed_callback(comm: Communicator, on_epoch: Callback) -> Callable[[dict[str, float]], bool]:
    """Calls a callback on all ranks; True if it asks for a stop on any of them.

    What it raises on a rank is raised there; other ranks then raise a DistbpError that names it.
    """

    def is_last(row: dict[str, float]) -> bool:
        answer, raised = None, None
        try:
            answer = on_epoch(dict(row))
            if answer not in (None, STOP):
                raise UsageError(f"on_epoch: expected None or {STOP!r} from it, got {answer!r}")
        except Exception as error:
            raised = error
        told = comm.allgather((answer == STOP, "" if raised is None else f"{type(raised).__name__}: {raised}"))
        if raised is not None:
            raised.agreed = True  # type: ignore[attr-defined]  # whatever its class: all ranks end here
            raise raised
        for rank, (_, words) in enumerate(told):
            if words:
                failed = DistbpError(f"on_epoch raised on rank {rank}: {words}")
                failed.agreed = True
                raise failed
        return any(stops for stops, _ in told)

    return is_last
