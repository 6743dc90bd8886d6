"""The watchdog: a thread that ends a process which does not come on, and says what it was doing.

A rank that has died, or hangs in a file system, leaves the others waiting in a collective for ever.  So each rank says
at every step that it is alive (`beat`); where it has not for so long, this thread writes where the rank is, and ends
it; the launcher then ends the rest.  It needs Python's global lock: for the case that the main thread never lets go of
it (a file system that hangs inside HDF5), `faulthandler` does the same without, a little later.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from types import FrameType

from distbp.errors import DistbpError, Stopped
from distbp.ranks.launch import INTERRUPTED, LAST_WORDS_SECONDS, say
from distbp.ranks.stop import DOUBLE_SECONDS, StopRequest

LOOK_SECONDS = 0.25
OTHERS_SECONDS = 2.0  # for the other ranks, which are as long in the same place, to say where they are
LET_GO_SECONDS = 3.0  # for the main thread to end by itself, after a second Ctrl-C
REARM_SECONDS = 5.0  # between two times that the alarm of last resort is set anew
LONGEST_SECONDS = 1e9  # that alarm takes no more than its clock has
FAILED, AGAIN = DistbpError.exit_code, Stopped.exit_code


class Watchdog:
    """Watches the thread that makes it.

    `stall_seconds`: without a beat for so long, the process ends with code 1; 0: never.  `grace_seconds`: so long after
    a signal of `stop` it ends with code 75, whatever it is doing; 0: it takes as long as it takes.  `advice`: what the
    user is told to do then.
    """

    def __init__(
        self,
        rank: int,
        stop: StopRequest | None,
        stall_seconds: float,
        grace_seconds: float,
        advice: str = "Run the same command again",
    ) -> None:
        self._advice = advice
        self._who = f"rank {rank} ({socket.gethostname()}, process {os.getpid()})"
        self._stop, self._stall, self._grace = stop, stall_seconds, grace_seconds
        self._phase, self._at = "starting", time.monotonic()
        self._armed = -REARM_SECONDS
        self._main = threading.get_ident()
        self._done = threading.Event()
        self._asked_at = self._first_interrupt_at = self._interrupted_at = float("inf")
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def beat(self, phase: str) -> None:
        """Still alive, and doing this."""
        self._phase, self._at = phase, time.monotonic()
        if self._stall and self._at - self._armed > REARM_SECONDS:
            self._armed = self._at
            faulthandler.dump_traceback_later(min(self._stall, LONGEST_SECONDS) + 2 * REARM_SECONDS, exit=True, file=2)

    def close(self) -> None:
        self._done.set()
        if self._stall:
            faulthandler.cancel_dump_traceback_later()
        if self._stop:
            self._stop.wake()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self._listen()
            now = time.monotonic()
            if now > self._interrupted_at + LET_GO_SECONDS:
                self._end(f"distbp: interrupted; {self._who} was {self._phase}", INTERRUPTED)
            if self._grace and now > self._asked_at + self._grace:
                self._end(
                    f"distbp: {self._who} was asked to stop {now - self._asked_at:.0f} s ago and is still "
                    f"{self._phase}; it ends now (--grace). {self._advice}",
                    AGAIN,
                )
            if self._stall and now > self._at + self._stall:
                stack = "".join(traceback.format_stack(self._frame()))
                say(
                    f"distbp: error: {self._who} has not come on for {now - self._at:.0f} s while {self._phase} "
                    f"(--stall-minutes); the job ends. {self._advice}. The rank that says nothing like this, or "
                    f"another place, is the one to look at. It was here:\n{stack}"
                )
                if not self._done.wait(OTHERS_SECONDS):
                    os._exit(FAILED)

    def _listen(self) -> None:
        """Waits a little, for signals."""
        if self._stop is None:
            self._done.wait(LOOK_SECONDS)
            return
        ready, _, _ = select.select([self._stop.wakeup], [], [], LOOK_SECONDS)
        for number in filter(None, os.read(self._stop.wakeup, 64) if ready else b""):
            now = time.monotonic()
            self._asked_at = min(self._asked_at, now)
            if number == signal.SIGINT:
                self._first_interrupt_at = min(self._first_interrupt_at, now)
                if now - self._first_interrupt_at > DOUBLE_SECONDS:
                    self._interrupted_at = min(self._interrupted_at, now)

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._main)

    def _end(self, text: str, code: int) -> None:
        if not self._done.is_set():
            say(text)
            time.sleep(LAST_WORDS_SECONDS)
            os._exit(code)
