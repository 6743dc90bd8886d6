"""Who listens to a training from Python: notes are kept, and a callback may end the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distbp.engine.sums import Requests
from distbp.errors import DistbpError, UsageError
from distbp.ranks.communicator import Communicator
from distbp.training.listener import Listener

STOP = "stop"
Callback = Callable[[dict[str, float]], Any]


class Notes(Listener):
    """Keeps what is told to the user, on rank 0."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class AgreedCallback(Listener):
    """Calls a callback on all ranks after each epoch; the run ends if it asks for that on any of them.

    What it raises on a rank is raised there; other ranks then raise a DistbpError that names it.
    """

    def __init__(self, comm: Communicator, on_epoch: Callback) -> None:
        self._comm, self._on_epoch = comm, on_epoch

    def epoch_ended(self, row: dict[str, float], last: Requests) -> bool:
        answer, raised = None, None
        try:
            answer = self._on_epoch(dict(row))
            if answer not in (None, STOP):
                raise UsageError(f"on_epoch: expected None or {STOP!r} from it, got {answer!r}")
        except Exception as error:
            raised = error
        told = self._comm.allgather((answer == STOP, "" if raised is None else f"{type(raised).__name__}: {raised}"))
        if raised is not None:
            raised.agreed = True  # type: ignore[attr-defined]  # whatever its class: all ranks end here
            raise raised
        for rank, (_, words) in enumerate(told):
            if words:
                failed = DistbpError(f"on_epoch raised on rank {rank}: {words}")
                failed.agreed = True
                raise failed
        return any(stops for stops, _ in told)
