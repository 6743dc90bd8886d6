"""A file that could not be written is written anew for a while, where what the system said may pass.

Always from the beginning: after an fsync that failed, the system takes pages for written that are not, so that the next
fsync of the same file says nothing.  A file that all ranks work on is written anew by
`distbp.ranks.written_together`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from distbp.files.new_file import FAILURES, put_in_place, remove_temporary, sync_file, temporary_name
from distbp.files.patience import Tries, is_passing, patiently, tried_again
from distbp.files.write_failure import why_not_written


def written_patiently(
    path: Path, action: Callable[[], None], note: Callable[[str], None], *, is_anew: bool = True
) -> None:
    """Calls action(), which writes `path`; after an error that may pass again, as `patience.schedule` says.

    Each call of action() begins anew, and leaves nothing twice; with `is_anew` False it goes on with the temporary
    file, whose content is on the disk.  `note` gets one line if the action did not succeed at once.  Raises the last
    error of FAILURES.
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


def written_whole(path: Path, write: Callable[[Path], None], note: Callable[[str], None], *, overwrite: bool) -> None:
    """Calls write(temporary), which writes the whole content to a new file, and gives that the name `path`.

    Both are tried again as in `written_patiently`.  Without `overwrite` a file that has this name by then stays, and
    FileExistsError is raised.  Nothing is left of a file that could not be written.
    """
    temporary = temporary_name(path)

    def content() -> None:
        write(temporary)
        sync_file(temporary)

    try:
        written_patiently(path, content, note)
        status = patiently(lambda: os.stat(temporary), is_tried_again=is_passing)
        put = partial(put_in_place, temporary, path, status, overwrite=overwrite)
        written_patiently(path, put, note, is_anew=False)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def failure(error: Exception) -> str:
    """Why a file could not be written at last, what to do, and for how long it was tried."""
    again = f"; {tried_again()}" if is_passing(error) else ""
    return f"{why_not_written(error)}{again}"
