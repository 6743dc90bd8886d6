"""Time limits for what may never come back: a file system or a network that does not answer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, action: Callable[[], T]) -> T:
    """What action() returns or raises; TimeoutError where it takes longer, and then it is left alone in its thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return results[0]


class _Limits:
    """Watches calls that must not take too long, with one thread that lasts as long as the process.

    A thread for each call would be simpler, but MPICH keeps 300 bytes of each thread that has ended.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends: dict[object, tuple[float, Callable[[], object]]] = {}  # when, and what is done then
        self._thread: threading.Thread | None = None

    def add(self, call: object, seconds: float, end: Callable[[], object]) -> None:
        """Calls `end` in so many seconds, unless `remove` is called before."""
        with self._changed:
            self._ends[call] = time.monotonic() + seconds, end
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="time limits", daemon=True)
                self._thread.start()

    def remove(self, call: object) -> None:
        with self._changed:
            self._ends.pop(call, None)

    def _watch(self) -> None:
        while True:
            self._next()()

    def _next(self) -> Callable[[], object]:
        """Waits until a call has taken too long, and returns what is to be done."""
        with self._changed:
            while True:
                call = min(self._ends, key=lambda one: self._ends[one][0], default=None)
                left = None if call is None else self._ends[call][0] - time.monotonic()
                if left is not None and left <= 0:
                    return self._ends.pop(call)[1]
                self._changed.wait(left)


_limits = [_Limits()]
os.register_at_fork(after_in_child=lambda: _limits.__setitem__(0, _Limits()))  # a child has no threads


@contextmanager
def exit_after(seconds: float, last_words: Callable[[], object]) -> Iterator[None]:
    """Ends the process with code 1, after last_words(), where what is inside takes longer: for calls into MPI."""

    def end() -> None:
        try:
            last_words()
        finally:
            os._exit(1)

    call, limits = object(), _limits[0]
    limits.add(call, seconds, end)
    try:
        yield
    finally:
        limits.remove(call)
