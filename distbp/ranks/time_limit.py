"""Time limits for what may never come back: a file system or a network that does not answer."""

from __future__ import annotations

import os
import threading
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


@contextmanager
def exit_after(seconds: float, last_words: Callable[[], object]) -> Iterator[None]:
    """Ends the process with code 1, after last_words(), where what is inside takes longer: for calls into MPI."""

    def end() -> None:
        try:
            last_words()
        finally:
            os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
