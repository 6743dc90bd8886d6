"""Files that are written under a temporary name first, so that under their own name they are whole or absent."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from distbp.errors import RunError
from distbp.files.write_failure import system_code

UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system that knows of no fsync


def check_out(out: Path, inputs: Sequence[str], *, overwrite: bool) -> None:
    """Raises RunError where a command cannot write its `--out`; `inputs` are what it reads."""
    if len(os.fsencode(out.name)) > 255:
        raise RunError(f"--out: a name of {len(out.name)} characters is too long for a file")
    if not out.name or out.is_dir():
        raise RunError(f"--out {out}: expected the name of a file to write")
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise RunError(f"--out {out}: is a link, a device or a pipe; expected the name of a file to write")
    if any(out.resolve() == Path(name).resolve() for name in inputs):
        raise RunError(f"{out}: is read by this command; choose another --out")
    if out.exists() and not overwrite:
        raise RunError(f"{out}: exists already; choose another --out, or add --overwrite")
    if not out.parent.is_dir():
        raise RunError(f"{out}: the directory {out.parent} does not exist")


FAILURES = (OSError, RuntimeError, ValueError)  # of a file that is written: the system's, and h5py's


def reason(error: Exception) -> str:
    """In the words of the system, where it is the one who refused: h5py adds a paragraph."""
    code = system_code(error)
    return os.strerror(code) if code else str(error)


def temporary_name(path: Path) -> Path:
    """In the same directory, hidden, and of this process; not longer than names may be."""
    return path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")


def write_synced(path: Path, text: str) -> None:
    """A text file that is, at any moment, whole or as it was before.  Raises OSError."""
    temporary = temporary_name(path)
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:  # "x": no link that was put there is followed
            file.write(text)
        replace_synced(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_synced(temporary: Path, path: Path) -> None:
    """Renames a finished file, after its content and before its name are on the disk."""
    _sync(temporary, os.O_RDWR)
    os.replace(temporary, path)
    _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def sync(descriptor: int) -> None:
    """Content or names are on the disk after it, where the file system can do that at all.  Raises OSError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
