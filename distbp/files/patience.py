"""What cannot be read now: it is tried again for a while, and not taken for damaged.

A file server that is away for a second, too many open files, a ticket that has to be renewed: the system says so by an
error, and what is in the file is as good as before.  What cannot be written now is in `distbp.files.write_patience`.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from distbp.errors import CheckpointError
from distbp.files.write_failure import system_code

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """What failed is tried again after each `pause`, until it failed first `seconds` ago; both in seconds."""

    seconds: float = 10.0
    pause: float = 0.5
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


schedule = Schedule()  # for all that is tried again; tests put one in its place that does not wait
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
# What the system says of a disk, a server or itself, and may take back: the same call may succeed a moment later.  It
# says nothing about the file or who asks for it; room on a disk and rights are not among them, for somebody has to give
# these.
PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "EINTR", "EAGAIN", "EBUSY", "ENOMEM", "ENOBUFS", "EMFILE", "ENFILE", "ENOLCK", "ENODEV"),
        *("ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ENOTCONN", "ESHUTDOWN", "EPIPE", "EPROTO"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EREMOTEIO", "ECOMM"),
    )
    if hasattr(errno, name)  # other systems than Linux do not have them all
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

    So it is left as it is.  `may_pass` is True where it may be read another time.
    """


class Tries:
    """Counts the tries of one action, and knows for how long they have gone on."""

    def __init__(self) -> None:
        self.count, self._begun = 1, 0.0

    def another(self, beat: Callable[[], object] = lambda: None) -> bool:
        """Returns whether there is time for another try, after it has waited for it.

        Before the wait it calls `beat`, which may raise.
        """
        now = schedule.now()
        if self.count == 1:
            self._begun = now
        elif now - self._begun >= schedule.seconds:
            return False
        beat()
        schedule.sleep(schedule.pause)
        self.count += 1
        return True

    def describe(self) -> str:
        """The number of this try, and the time since the first one failed; for one that succeeded."""
        return f"try {self.count}, {schedule.now() - self._begun:.1f} s later, succeeded"


def tried_again() -> str:
    """For how long an action was tried that failed at last."""
    return f"it was tried again for {schedule.seconds:g} s"


def is_system_error(error: Exception) -> bool:
    """Whether the system did not let a file be read, which says nothing about what is in it."""
    code = system_code(error)
    return bool(code) and code not in SETTLED


def is_passing(error: Exception) -> bool:
    """Whether the system may take back what it says, so that the same may be tried again."""
    return system_code(error) in PASSING


def why_not_read(error: Exception) -> str:
    """The system's reason, and what to do."""
    code = system_code(error) or 0
    return WORDS.get(code, os.strerror(code))


def is_there(path: Path) -> bool:
    """Whether there is something of this name.  Raises OSError where that cannot be seen."""
    try:
        patiently(lambda: os.stat(path), is_tried_again=is_passing)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_patiently(path: Path, encoding: str) -> str:
    """A text, such as a configuration.  Raises OSError, at once where trying again would not help; or ValueError."""
    return patiently(lambda: path.read_text(encoding), is_tried_again=is_passing)


def why_no_text(error: OSError) -> str:
    """The reason, and for how long it was tried."""
    if is_passing(error):
        return f"{why_not_read(error)}; {tried_again()}"
    return error.strerror or str(error)


def patiently(
    action: Callable[[], T],
    beat: Callable[[], object] = lambda: None,
    *,
    is_tried_again: Callable[[OSError], bool] = is_system_error,
) -> T:
    """What action() returns; where something cannot be read now, it is called again as `schedule` says.

    Between two calls `beat` is called, which may raise.  `is_tried_again` says after which errors of the system.
    Raises the last OSError or UnreadError.
    """
    tries = Tries()
    while True:
        try:
            return action()
        except UnreadError as error:
            if not error.may_pass or not tries.another(beat):
                raise
        except OSError as error:
            if not is_tried_again(error) or not tries.another(beat):
                raise
