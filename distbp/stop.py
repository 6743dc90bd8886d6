"""Stopping on request: a signal asks, the ranks agree at the next step, a checkpoint is written, exit code 75."""

from __future__ import annotations

import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Remembers that one of SIGNALS came.  A second SIGINT (Ctrl-C) raises KeyboardInterrupt: it ends at once."""

    def __init__(self) -> None:
        self._asked: int | None = None
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = number
        if number == signal.SIGINT and sys.stderr.isatty():
            sys.stderr.write("\nstopping after this step with a checkpoint; Ctrl-C again ends at once\n")

    def __call__(self) -> bool:
        """Whether this rank was asked to stop."""
        return self._asked is not None
