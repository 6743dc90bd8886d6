"""Stopping on request: a signal asks, the ranks agree at the next step, a checkpoint is written, exit code 75."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


DOUBLE_SECONDS = 0.5  # launchers may send one Ctrl-C twice, to a process and to its group


class StopRequest:
    """Remembers that one of SIGNALS came.  A second SIGINT (Ctrl-C) raises KeyboardInterrupt: it ends at once."""

    def __init__(self) -> None:
        self._asked: int | None = None
        self._at = 0.0
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked == signal.SIGINT:
            if time.monotonic() - self._at > DOUBLE_SECONDS:
                raise KeyboardInterrupt
            return
        self._asked, self._at = number, time.monotonic()
        if number == signal.SIGINT and sys.stderr.isatty():
            sys.stderr.write("\nstopping after this step with a checkpoint; Ctrl-C again ends at once\n")

    def __call__(self) -> bool:
        """Whether this rank was asked to stop."""
        return self._asked is not None
