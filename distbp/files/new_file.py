"""Files that are written under a temporary name first, or none: under their own name they are whole or absent."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from distbp.files.patience import is_passing

UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system that knows of no fsync


FAILURES = (OSError, RuntimeError, ValueError)  # of a file that is written: the system's, and h5py's


def temporary_name(path: Path) -> Path:
    """In the same directory, hidden, and of this process; not longer than names may be."""
    short = os.fsencode(path.name)[:200].decode(errors="ignore")
    return path.with_name(f".{short}.{os.getpid()}.tmp")


def remove_temporary(path: Path) -> None:
    """Removes what an earlier try to write `path` could not remove."""
    with suppress(OSError):
        if not path.is_dir():
            temporary_name(path).unlink()


class NewFile:
    """A file that gets its name `out` when it is whole; write to its `descriptor`.  Its methods raise OSError.

    Write it, then call `sync`, then `put`.  After an error of `sync` all is to be written to another NewFile; `put` may
    be called again.  Without `overwrite` a file that has this name by then stays, and FileExistsError is raised.

    Until then it has no name, where the file system knows of such files: it is gone with the process, however that
    ends.  Elsewhere it has a temporary one, which `close` removes.
    """

    def __init__(self, out: Path, *, overwrite: bool) -> None:
        self._out, self._temporary, self._overwrite = out, temporary_name(out), overwrite
        self.is_nameless = _can_be_nameless(self._temporary)
        if self.is_nameless:
            self.descriptor = os.open(out.parent, os.O_RDWR | os.O_TMPFILE, 0o666)
        else:  # O_EXCL: no link that was put there is followed
            self.descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    def sync(self) -> None:
        """Its content is on the disk after it."""
        sync(self.descriptor)

    def put(self) -> None:
        """Gives it its name, which is on the disk after it."""
        content = os.fstat(self.descriptor)
        if self.is_nameless and not (is_file(self._temporary, content) or is_file(self._out, content)):
            _name(self.descriptor, self._temporary)
        put_in_place(self._temporary, self._out, content, overwrite=self._overwrite)

    def close(self) -> None:
        """Nothing is left of a file that was not put in its place."""
        try:
            os.close(self.descriptor)
        finally:
            self._temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, out: Path, content: os.stat_result, *, overwrite: bool) -> None:
    """Renames a file whose content is on the disk; the name is on the disk after it.  Raises OSError.

    It may be called again after an error: `content`, the status of the file, shows whether it was renamed and only the
    answer was lost.
    """
    if not is_file(out, content):
        if not overwrite and os.path.lexists(out):  # it has come meanwhile
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
        os.replace(temporary, out)
    _sync(out.parent, os.O_RDONLY | os.O_DIRECTORY)


def is_file(path: Path, content: os.stat_result) -> bool:
    """Whether this is the name of that file.  Raises OSError where it cannot be seen."""
    try:
        return os.path.samestat(os.lstat(path), content)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _can_be_nameless(temporary: Path) -> bool:
    """Whether a file in this directory can be written without a name, and named afterwards: tried out."""
    try:
        descriptor = os.open(temporary.parent, os.O_RDWR | os.O_TMPFILE, 0o666)
    except (OSError, AttributeError):  # the file system, or the system, knows no such files
        return False
    try:
        _name(descriptor, temporary)
        temporary.unlink()
    except OSError as error:
        if is_passing(error):  # it may be there all the same
            temporary.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
    return True


def _name(descriptor: int, path: Path) -> None:
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)  # src_dir_fd: so that the link is followed


def write_synced(path: Path, text: str) -> None:
    """Writes a text file that is, at any moment, whole or as it was before.  Raises OSError."""
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


def sync_file(path: Path) -> None:
    """The content of a file is on the disk after it, where the file system can do that at all.  Raises OSError."""
    _sync(path, os.O_RDWR)


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
