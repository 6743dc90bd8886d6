"""A file that all ranks work on is written anew for a while, by all of them, where what the system said may pass."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TypeVar

from distbp.errors import DistbpError
from distbp.files.patience import Tries, tried_again
from distbp.ranks.communicator import Communicator, agree, from_first

T = TypeVar("T")


def written_together(
    comm: Communicator, attempt: Callable[[], T], again: Callable[[], None], note: Callable[[str], None]
) -> T:
    """What attempt() returns, which all ranks call, and which writes a file from its beginning to its end.

    Its errors are agreed by all ranks.  After one that may pass (`DistbpError.may_pass`), all ranks call again(), and
    then attempt(), until rank 0 sees that the time of `patience.schedule` is over.  `note` gets one line, on rank 0,
    if it did not succeed at once.  Raises the last error of attempt(), or what again() raises, agreed.
    """
    tries, first = Tries(), ""
    while True:
        try:
            result = attempt()
            break
        except DistbpError as error:
            if not (error.agreed and error.may_pass):
                raise
            first = first or str(error)
            if not from_first(comm, tries.another):
                last = copy(error)  # ranks that are threads share the error
                last.args, last.may_pass = (f"{error}; {tried_again()}",), False
                raise last from None
        agree(comm, again)
    if comm.rank == 0 and tries.count > 1:
        note(f"warning   {first}; {tries.describe()}")
    return result
