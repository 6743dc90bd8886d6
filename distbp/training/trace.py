"""--trace: the phases of some steps of all ranks, in a file for Perfetto."""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import perf_counter

from distbp.engine.sums import Steps
from distbp.errors import Stopped
from distbp.ranks.communicator import on_first
from distbp.settings.rules import trace_steps
from distbp.training.listener import MOST_STEPS, Listener
from distbp.training.run import Run
from distbp.training.trace_file import write_trace


class Trace(Listener):
    """Writes the phases of the steps `--trace-steps` of all ranks to a file, in the format of Chrome's traces.

    It opens in Perfetto (ui.perfetto.dev) and chrome://tracing: a process for each node, a thread for each rank.
    Raises RunError, agreed, where it cannot be written.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        """`note` tells the user, on rank 0, what is no error."""
        self._note = note

    def begin(self, run: Run) -> None:
        config = run.config
        self._run, self._path = run, config.trace
        self._first, self._last = trace_steps(config) if config.trace else (0, 0)
        self._zero: float | None = None

    def sleeps(self, step: int) -> int:
        if step >= self._last:
            return MOST_STEPS
        return max(1, self._first - 1 - step)  # phases are those of each step

    def before(self, step: int) -> None:
        if step == self._first:
            # The ranks leave this together; those of a node have one clock.
            comm = self._run.comm
            comm.allgather(None)
            self._zero = comm.allgather(perf_counter())[min(comm.node_ranks())]
            self._run.phases.record()

    def stepped(self, steps: Steps) -> None:
        if self._run.state.progress.step == self._last:
            self._end()

    def ended(self, seconds: float) -> None:
        self._end()

    def failed(self, error: BaseException) -> None:
        if isinstance(error, Stopped):
            self._end()

    def _end(self) -> None:
        """Writes the file, on rank 0, unless that is done, or nothing was recorded."""
        if self._zero is None:
            return
        zero, self._zero = self._zero, None
        comm = self._run.comm
        events = [(phase, start - zero, end - start) for phase, start, end in self._run.phases.recorded()]
        everything = comm.gather((min(comm.node_ranks()), socket.gethostname(), events))
        on_first(comm, lambda: write_trace(self._path, everything or [], self._note))
