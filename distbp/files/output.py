"""Whether an option may name this file for output: no option costs a file that is there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from distbp.errors import RunError, UsageError
from distbp.files.patience import SETTLED, is_passing, patiently, why_no_text
from distbp.files.write_failure import MENDED

LONGEST_NAME = 255  # bytes


def check_out(
    out: Path,
    inputs: Sequence[str | Path],
    *,
    overwrite: bool,
    option: str = "--out",
    is_own: Callable[[Path], bool] = lambda path: False,
) -> None:
    """Raises RunError or UsageError where a command cannot write the file that an option names.

    `inputs`: what it reads.  `is_own`: whether an existing file is an earlier result of the same option, which is
    replaced without `overwrite`.  What cannot be seen now is looked at again for a while.
    """
    look = partial(_check, out, inputs, overwrite=overwrite, option=option, is_own=is_own)
    try:
        patiently(look, is_tried_again=is_passing)
    except OSError as error:
        raise RunError(f"{option} {out}: cannot see what is there: {why_no_text(error)}") from None


def _check(
    out: Path, inputs: Sequence[str | Path], *, overwrite: bool, option: str, is_own: Callable[[Path], bool]
) -> None:
    check_is_name(str(out), option)
    if len(os.fsencode(out.name)) > LONGEST_NAME:
        raise RunError(f"{option}: a name of {len(out.name)} characters is too long for a file")
    there = _status(out)
    if not out.name or (there and stat.S_ISDIR(there.st_mode)):
        raise RunError(f"{option} {out}: expected the name of a file to write")
    if out.is_symlink() or (there and not stat.S_ISREG(there.st_mode)):
        raise RunError(f"{option} {out}: is a link, a device or a pipe; expected the name of a file to write")
    for read in map(Path, inputs):
        if read.resolve() == out.resolve() or read.resolve() in out.resolve().parents:
            inside = "" if read.resolve() == out.resolve() else f"is in {read}, which "
            raise RunError(f"{option} {out}: {inside}is read by this command; choose another {option}")
    if there and not overwrite and not is_own(out):
        advice = "choose another --out, or add --overwrite" if option == "--out" else f"choose another {option}"
        raise RunError(f"{out}: exists already; {advice}")
    if not out.parent.is_dir():
        raise RunError(f"{option} {out}: the directory {out.parent} does not exist")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(out.parent).f_flag & os.ST_RDONLY else errno.EACCES
        raise RunError(f"{option} {out}: {out.parent}: cannot write here: {MENDED[code]}")


def _status(path: Path) -> os.stat_result | None:
    """What is there, through links; None where nothing is.  Raises OSError where that cannot be seen."""
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in SETTLED:
            return None
        raise


def check_is_name(path: str, option: str) -> None:
    """Raises UsageError where the value of an option is another option, or stands for the standard output."""
    if path == "-":
        raise UsageError(f"{option} -: the standard output is not written to; expected the name of a file")
    if path.startswith("-"):
        raise UsageError(f"{option}: expected a name, got {path}; for a file of that name write ./{path}")
