"""Stopping on request: a signal asks, the ranks agree at the next step, what is worth it is kept, exit code 75."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from distbp.errors import Stopped

SIGNALS = ("INT", "TERM", "USR1", "USR2")
ON_REQUEST = "on request"
DOUBLE_SECONDS = 0.5  # launchers may send one Ctrl-C twice, to a process and to its group

Pulse = Callable[[str], None]  # called with what is being done, again and again in long work; may raise Stopped


class StopRequest:
    """Remembers that one of the signals came.  A second SIGINT (Ctrl-C) raises KeyboardInterrupt: it ends at once.

    Python's handlers run in the main thread, between two of its instructions, so not while it waits in MPI or reads a
    file.  `wakeup`, a pipe, has a byte for each signal at once, for a thread that watches (`distbp.ranks.watchdog`).
    """

    def __init__(self, signals: Sequence[str] = SIGNALS, answer: str = "stopping") -> None:
        """`answer`: what is told to a user at a terminal."""
        self._asked: int | None = None
        self._answer = answer
        self._at = 0.0
        self.wakeup, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._signals = [signal.Signals[f"SIG{name}"] for name in signals]
        self.listen()

    def listen(self) -> None:
        """Takes the signals; once more after MPI has started, for UCX takes SIGHUP to write more of its log.

        One that came while MPI started, when another pipe had them, is told to `wakeup` again.
        """
        for number in self._signals:
            signal.signal(number, self._ask)
        if self._asked is not None:
            self.wake(self._asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked == signal.SIGINT:
            if time.monotonic() - self._at > DOUBLE_SECONDS:
                raise KeyboardInterrupt
            return
        self._asked, self._at = number, time.monotonic()
        if number == signal.SIGINT and sys.stderr.isatty():
            sys.stderr.write(f"\n{self._answer}; Ctrl-C again ends at once\n")

    def wake(self, number: int = 0) -> None:
        """The byte of a signal, or of none, for who waits at `wakeup`."""
        with suppress(BlockingIOError):  # full: then there is something to wake up for
            os.write(self._write, bytes([number]))

    def __call__(self) -> str:
        """Why this rank is to stop; "" where nobody asked for it."""
        return ON_REQUEST if self._asked is not None else ""


def stopping_pulse(beat: Pulse, stop_requested: Callable[[], str], before: str = "") -> Pulse:
    """Tells `beat` what is being done, and raises Stopped where a stop is asked for `before` something is kept."""
    so_far = f", before {before}" if before else ""

    def pulse(phase: str) -> None:
        beat(phase)
        if why := stop_requested():
            raise Stopped(f"stopped {why} while {phase}{so_far}; run the same command again")

    return pulse
