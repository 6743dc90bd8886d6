"""Text that is written to an open file, compressed or not."""

from __future__ import annotations

import gzip
import io
import os
from typing import BinaryIO, cast

CELLS = 2**16  # that are written at a time
DIGITS = {"float32": 9, "float64": 17}  # with so many, every number is read back to the same bits
LEVEL = 6  # of the compression: that of the command gzip


class TextFile:
    """UTF-8; lines end with \\n; compressed by gzip without a name and a time: the same content has the same bytes."""

    def __init__(self, descriptor: int, *, compressed: bool) -> None:
        self._file = os.fdopen(os.dup(descriptor), "wb")
        packed = gzip.GzipFile("", "wb", LEVEL, self._file, mtime=0) if compressed else self._file
        self._text = io.TextIOWrapper(cast(BinaryIO, packed), encoding="utf-8", newline="")

    def write(self, text: str) -> None:
        """Adds it.  Raises OSError."""
        self._text.write(text)

    def close(self) -> None:
        """Writes what has not been written.  Raises OSError."""
        try:
            self._text.close()
        finally:
            self._file.close()
