"""Why a file could not be written, and how to mend it."""

from __future__ import annotations

import errno
import os
import re

MENDED = {
    errno.ENOSPC: "the disk is full; make room on it",
    errno.EDQUOT: "the quota is used up; make room in it",
    errno.EFBIG: "the file would be larger than is allowed; see ulimit -f",
    errno.EROFS: "the file system is read-only; have it mounted for writing",
    errno.EACCES: "permission denied; make the directory writable",
    errno.EPERM: "the system does not permit it; make the directory writable",
    errno.ENOENT: "the directory is not there any more; put it back",
    errno.EEXIST: "another file of that name, or with the temporary name, is there; remove it",
    errno.ELOOP: "a symbolic link is there; remove it",
    errno.EISDIR: "a directory of that name is there; remove it",
    errno.EIO: "the disk or the connection to it fails; see to it",
}


def system_code(error: Exception) -> int | None:
    """The number of the system's error; h5py has it in its words at best."""
    code: int | None = getattr(error, "errno", None)
    if code is None:
        found = re.search(r"errno = (\d+)", str(error))
        code = int(found[1]) if found else None
    return code


def why_not_written(error: Exception) -> str:
    """The reason, and what to do."""
    code = system_code(error)
    if code is None:
        return " ".join(str(error).split())
    return MENDED.get(code, os.strerror(code))
