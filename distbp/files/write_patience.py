"""A file that could not be written is written anew for a while, where what the system said may pass.

Always from the beginning: after an fsync that failed, the system takes pages for written that are not, so that the next
fsync of the same file says nothing.  A file that all ranks work on is written anew by
`distbp.ranks.written_together`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distbp.files.new_file import FAILURES, remove_temporary
from distbp.files.patience import Tries, is_passing, tried_again
from distbp.files.write_failure import why_not_written


def written_patiently(
    path: Path, action: Callable[[], None], note: Callable[[str], None], *, is_anew: bool = True
) -> None:
    """Calls action(), which writes `path`; after an error that may pass again, as `patience.schedule` says.

    Each call of action() begins anew, and leaves nothing twice; with `is_anew` False it goes on with the temporary
    file, whose content is on the disk.  `note` gets one line if the action did not succeed at
    once.  Raises the last error of FAILURES.
    """
    tries, first = Tries(), ""
    while True:
        try:
            action()
            break
        except FAILURES as error:
            first = first or why_not_written(error)
            if not is_passing(error) or not tries.another():
                raise
        if is_anew:
            remove_temporary(path)
    if tries.count > 1:
        note(f"warning   {path}: could not be written at first: {first}; {tries.describe()}")


def failure(error: Exception) -> str:
    """Why a file could not be written at last, what to do, and for how long it was tried."""
    again = f"; {tried_again()}" if is_passing(error) else ""
    return f"{why_not_written(error)}{again}"
