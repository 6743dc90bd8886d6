"""A new file for HDF5 to write to, which keeps the first error for later.

HDF5 cannot close a file in order once the disk has refused a write: h5py prints a traceback for each object of it.  So
HDF5 is told that all went well, and who closes the file is told what had gone wrong.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


class ForgivingFile(io.RawIOBase):
    """For reading and writing: a file that must not be there before, or the descriptor of an open one, a copy of it.

    `check` and `close` raise the OSError that was kept.  One that nobody has closed ends in silence: who left it has
    an error of their own, and Python 3.13 prints what a finalizer raises.
    """

    _descriptor = -1  # where the file could not be opened
    _error: OSError | None = None

    def __init__(self, file: Path | int) -> None:
        if isinstance(file, int):
            self._descriptor = os.dup(file)
        else:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # no link is followed
        self._position = 0

    def readable(self) -> bool:
        """HDF5 reads what it has written."""
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Where the next read or write begins."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}
        self._position = offset + (start[whence] if whence in start else os.fstat(self._descriptor).st_size)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer; with zeros where there is nothing, which only happens after an error."""
        view = memoryview(buffer).cast("B")
        content = b""
        try:
            content = os.pread(self._descriptor, len(view), self._position)
        except OSError as error:
            self._keep(error)
        view[:] = content.ljust(len(view), b"\0")
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """All of it, or as if it were."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and not self._error:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
        except OSError as error:
            self._keep(error)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        try:
            os.truncate(self._descriptor, size)
        except OSError as error:
            self._keep(error)
        return size

    def close(self) -> None:
        """Raises OSError, if anything went wrong since the beginning."""
        if self.closed:
            return
        super().close()
        try:
            if self._descriptor >= 0:
                os.close(self._descriptor)
        except OSError as error:  # NFS may tell of a full disk only now
            self._keep(error)
        self.check()

    def __del__(self) -> None:
        with suppress(OSError):
            self.close()

    def check(self) -> None:
        """Raises OSError, if anything went wrong so far."""
        if self._error:
            raise self._error

    def _keep(self, error: OSError) -> None:
        self._error = self._error or error
