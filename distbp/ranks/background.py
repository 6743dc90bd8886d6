"""Collectives that go on while this rank computes.

MPI libraries move large messages only while somebody is inside an MPI call.  Here a thread asks again and again whether
its collective is done, and sleeps in between: so little of a core is taken from those who compute.  One after another,
in the order in which they are started, which is the same on all ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from distbp.ranks.communicator import Communicator

PAUSE = 2e-4  # seconds; on a network of 1 Gbit/s some 25 kB arrive meanwhile


class Background:
    """A thread, and `comm` for it alone: the same ranks as `peers`, whose collectives wait as described above."""

    def __init__(self, peers: Communicator) -> None:
        self.comm = peers.patiently(self._pause)
        self._thread = ThreadPoolExecutor(1, "exchange")
        self._under_way: list[Future[None]] = []
        self._is_awaited = self._is_closed = self._has_failed = False

    def start(self, action: Callable[[], None]) -> None:
        """Does it in the thread, after all that were started before; it may use `comm`.

        Not where one of those before it failed: its collectives would meet those of other ranks that belong to the
        failed one.  What NumPy does on overflow (`np.errstate`) is there as it is here.
        """
        self._under_way.append(self._thread.submit(copy_context().run, self._do, action))

    def wait(self) -> None:
        """Until everything that was started is done.  Raises what was raised there."""
        self._is_awaited = True
        try:
            for future in self._under_way:
                future.result()
        finally:
            self._under_way, self._is_awaited = [], False

    def _do(self, action: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            action()
        except BaseException:
            self._has_failed = True
            raise

    def close(self) -> None:
        """Ends the thread, whatever it is waiting for."""
        self._is_closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _pause(self) -> None:
        if self._is_closed:
            raise RuntimeError("nobody waits for this collective any more")
        time.sleep(0.0 if self._is_awaited else PAUSE)
