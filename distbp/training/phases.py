"""Where the time of the steps goes: seconds of each phase, on this rank; and, if asked for, a trace of each step.

A phase ends where the next one is named, so that all time between two steps is somebody's.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import RunError, UsageError
from distbp.files.new_file import write_synced
from distbp.files.output import check_out
from distbp.files.patience import is_passing, patiently
from distbp.files.write_patience import failure, written_patiently
from distbp.ranks.communicator import Communicator, on_first

PHASES = ("data", "forward", "backward", "reduction", "update", "validation", "checkpoint")
OVER_RANKS: dict[str, Any] = {"": np.mean, "_min": np.min, "_max": np.max}
MICROSECOND = 1e-6
COLUMNS = [f"{phase}_seconds{of}" for of in OVER_RANKS for phase in PHASES]
SHOWN, UNEQUAL = 0.5, 5.0  # percent
BEGIN = '{"otherData": {"producer": "distbp"}'  # of a trace


class Phases:
    """The clock of one rank.  `lap` is called some times a step, and takes about 0.1 µs."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._at = perf_counter()
        self._events: list[tuple[str, float, float]] | None = None

    def start(self) -> None:
        """The first phase begins now."""
        self._at = perf_counter()

    def lap(self, phase: str) -> None:
        """What was done since the last lap was this phase."""
        now = perf_counter()
        self._seconds[phase] += now - self._at
        if self._events is not None:
            self._events.append((phase, self._at, now))
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


def check_trace(comm: Communicator, path: str, inputs: Sequence[str] = ()) -> None:
    """Raises RunError or UsageError, agreed, where a trace cannot be written; before there is anything to write.

    A trace that distbp has written is replaced; no other file is.  `inputs`: files that the run reads.
    """

    on_first(comm, lambda: _check(path, inputs) if path else None)


def _check(path: str, inputs: Sequence[str] = ()) -> None:
    if not path.lower().endswith(".json"):
        raise UsageError(f"--trace {path}: expected a name that ends in .json (see --trace-steps for which steps)")
    check_out(Path(path), inputs, overwrite=False, option="--trace", is_own=_is_trace)


def _is_trace(path: Path) -> bool:
    """Whether distbp has written it."""

    def begins() -> bool:
        with open(path, "rb") as file:
            return file.read(len(BEGIN)) == BEGIN.encode()

    with suppress(OSError):
        return patiently(begins, is_tried_again=is_passing)
    return False


class Trace:
    """Writes the phases of the steps `first` … `last` of all ranks to a file, in the format of Chrome's traces.

    It opens in Perfetto (ui.perfetto.dev) and chrome://tracing: a process for each node, a thread for each rank.
    """

    def __init__(
        self,
        comm: Communicator,
        phases: Phases,
        path: str,
        steps: tuple[int, int],
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`steps`: `first` and `last`.  `note` tells the user, on rank 0, what is no error."""
        self._comm, self._phases, self._path, self._note = comm, phases, path, note
        first, last = steps
        self._first, self._last = first, last
        self._zero: float | None = None

    def before(self, step: int) -> None:
        """To be called before each step, on all ranks."""
        if step == self._first:
            # The ranks leave this together; those of a node have one clock.
            comm = self._comm
            comm.allgather(None)
            self._zero = comm.allgather(perf_counter())[min(comm.node_ranks())]
            self._phases.record()

    def after(self, step: int) -> None:
        """To be called after each step, on all ranks."""
        if step == self._last:
            self.close()

    def close(self) -> None:
        """Writes the file, on rank 0, unless that is done, or nothing was recorded.  Raises RunError, agreed."""
        if self._zero is None:
            return
        zero, self._zero = self._zero, None
        comm = self._comm
        events = [(phase, start - zero, end - start) for phase, start, end in self._phases.recorded()]
        everything = comm.gather((min(comm.node_ranks()), socket.gethostname(), events))
        on_first(comm, lambda: _write(self._path, everything or [], self._note))


def _write(
    path: str, everything: Sequence[tuple[int, str, list[tuple[str, float, float]]]], note: Callable[[str], None]
) -> None:
    found: list[dict[str, Any]] = []
    for rank, (node, host, events) in enumerate(everything):
        place = {"pid": node, "tid": rank}
        found.append({"name": "process_name", "ph": "M", **place, "args": {"name": host}})
        found.append({"name": "thread_name", "ph": "M", **place, "args": {"name": f"rank {rank}"}})
        for phase, start, seconds in events:
            times = {"ts": round(start / MICROSECOND, 3), "dur": round(seconds / MICROSECOND, 3)}
            found.append({"name": phase, "ph": "X", **place, **times})
    _check(path)  # a file may have come there meanwhile
    whole = json.dumps({"otherData": {"producer": "distbp"}, "displayTimeUnit": "ms", "traceEvents": found})
    try:
        written_patiently(Path(path), lambda: write_synced(Path(path), whole), note)
    except OSError as error:
        raise RunError(f"{path}: cannot write the trace: {failure(error)}") from None
