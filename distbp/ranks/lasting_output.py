"""stdout and stderr that never raise what a full disk, a closed descriptor or a reader that has gone does to them.

A run is worth more than its log: it goes on without.  Where what is printed is the result, the command ends instead,
with one line on stderr, or without a word where its reader has gone, as `distbp inspect … | head` makes it.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from distbp.errors import DistbpError
from distbp.files.write_failure import why_not_written

STDIN, STDOUT, STDERR = 0, 1, 2
WORDS = {errno.EPIPE: "who read it has gone", errno.EBADF: "it is closed"}
READER_GONE = 128 + signal.SIGPIPE  # the exit code of a program that does not take care of it


class LastingOutput(io.RawIOBase):
    """The bytes that go to a descriptor, or that are lost; `lost` is told why, and may raise.

    A disk may have room again: what comes later is tried again.
    """

    def __init__(self, descriptor: int, lost: Callable[[OSError], None], *, is_closed: bool = False) -> None:
        self._descriptor, self._lost, self._is_over = descriptor, lost, is_closed

    def fileno(self) -> int:
        """For the size of a terminal."""
        return self._descriptor

    def isatty(self) -> bool:
        return not self._is_over and os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """All of it, or as if it were."""
        view = memoryview(data).cast("B")
        try:
            self._write(view)
        except OSError as error:
            self._is_over = error.errno in (errno.EPIPE, errno.EBADF)
            self._lost(error)
        return len(view)

    def _write(self, view: memoryview) -> None:
        if self._is_over and view:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # who started this process has made it so
                select.select([], [self._descriptor], [])


def last(is_log: bool, say: Callable[[str], None]) -> None:
    """Puts such streams in the places of sys.stdout and sys.stderr.

    `is_log`: stdout is not the result, and what is lost there is only told, to `say`, which writes to stderr.  Where it
    is the result, writing it raises DistbpError, or SystemExit where its reader has gone.
    """

    told = False

    def lost(error: OSError) -> None:
        nonlocal told
        why = f"stdout cannot be written: {WORDS.get(error.errno or 0) or why_not_written(error)}"
        if not is_log:
            raise SystemExit(READER_GONE) if error.errno == errno.EPIPE else DistbpError(why)
        if not told:
            told = True
            say(f"distbp: note: {why}; the work goes on without it")

    closed = _fill_gaps()
    sys.stdout = _text(STDOUT, sys.stdout, lost, closed)
    sys.stderr = _text(STDERR, sys.stderr, lambda error: None, closed)


def _fill_gaps() -> set[int]:
    """Which of the three descriptors are closed; they become /dev/null, lest the next file that is opened be one.

    To that file would go what libraries in C print.
    """
    closed = set()
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(descriptor)
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    return closed


def _text(descriptor: int, stream: object, lost: Callable[[OSError], None], closed: set[int]) -> io.TextIOWrapper:
    """A terminal without σ gets a ? in its place."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    raw: Any = LastingOutput(descriptor, lost, is_closed=descriptor in closed or stream is None)
    return io.TextIOWrapper(raw, encoding=encoding, errors="replace", write_through=True)
