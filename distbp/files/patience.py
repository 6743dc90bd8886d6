"""What cannot be read now: it is tried again for a while, and not taken for damaged.

A file server that is away for a second, too many open files, a ticket that has to be renewed: the system says so by an
error, and what is in the file is as good as before.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import TypeVar

from distbp.errors import CheckpointError
from distbp.files.write_failure import system_code

T = TypeVar("T")

SECONDS = 10.0  # for how long what cannot be read is tried again
PAUSE_SECONDS = 0.5
# What the system says of names and of requests; it will say the same again.
SETTLED = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EOVERFLOW,
    errno.EFAULT,
)
WORDS = {
    errno.EACCES: "permission denied; have it made readable for you",
    errno.EPERM: "the system does not permit it; have it made readable for you",
    errno.EMFILE: "too many open files in this process; see ulimit -n",
    errno.ENFILE: "too many open files on this node",
    errno.ENOMEM: "the system has no memory left",
    errno.EIO: "input/output error; the disk or the connection to it fails",
    errno.ESTALE: "stale file handle; the file server has lost sight of it, so look at it again",
}


class UnreadError(CheckpointError):
    """A checkpoint of which nobody knows whether it is good: it could not be read, or this distbp cannot.

    So it is left as it is.  `may_pass`: it may be read another time.
    """

    may_pass = False


def is_system_error(error: Exception) -> bool:
    """Whether the system did not let a file be read, which says nothing about what is in it."""
    code = system_code(error)
    return bool(code) and code not in SETTLED


def why_not_read(error: Exception) -> str:
    """The system's reason, and what to do."""
    code = system_code(error) or 0
    return WORDS.get(code, os.strerror(code))


def patiently(action: Callable[[], T], beat: Callable[[], object] = lambda: None) -> T:
    """What action() returns; where something cannot be read now, it is called again for SECONDS.

    Between two calls `beat` is called, which may raise.  Raises the last OSError or UnreadError.
    """
    end = time.monotonic() + SECONDS
    while True:
        try:
            return action()
        except UnreadError as error:
            if not error.may_pass or time.monotonic() >= end:
                raise
        except OSError as error:
            if not is_system_error(error) or time.monotonic() >= end:
                raise
        beat()
        time.sleep(PAUSE_SECONDS)
