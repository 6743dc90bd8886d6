"""A file that could not be written is written anew for a while, where what the system said may pass.

Always from the beginning: after an fsync that failed, the system takes pages for written that are not, so that the next
fsync of the same file says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from distbp.files import patience
from distbp.files.new_file import FAILURES, temporary_name
from distbp.files.patience import is_passing
from distbp.files.write_failure import why_not_written


def written_patiently(path: Path, action: Callable[[], None], note: Callable[[str], None]) -> None:
    """Calls action(), which writes `path`; after an error that may pass again, until SECONDS after the first one.

    Each call of action() begins anew, and leaves nothing twice.  `note` is told, in one line, where it did not succeed
    at once.  Raises the last error of FAILURES.
    """
    begun, first, tries = 0.0, "", 1
    while True:
        try:
            action()
            break
        except FAILURES as error:
            now = time.monotonic()
            if not is_passing(error) or (tries > 1 and now - begun >= patience.SECONDS):
                raise
            if tries == 1:
                begun, first = now, why_not_written(error)
        time.sleep(patience.PAUSE_SECONDS)
        with suppress(OSError):  # what the try before could not remove
            if not path.is_dir():
                temporary_name(path).unlink()
        tries += 1
    if tries > 1:
        seconds = time.monotonic() - begun
        note(f"warning   {path}: could not be written at first: {first}; try {tries}, {seconds:.1f} s later, succeeded")


def failure(error: Exception) -> str:
    """Why a file could not be written at last, what to do, and for how long it was tried."""
    again = f"; it was tried again for {patience.SECONDS:g} s" if is_passing(error) else ""
    return f"{why_not_written(error)}{again}"
