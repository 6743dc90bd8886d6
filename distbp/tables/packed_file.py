"""Files that may be packed as a whole with gzip, bzip2 or xz, as their first bytes say."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from distbp.errors import DataError

OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


def is_packed(path: str) -> bool:
    """Whether a file begins as packed ones do."""
    with open(path, "rb") as file:
        return _opener(file.read(6)) is not None


@contextmanager
def open_file(path: str) -> Iterator[IO[bytes]]:
    """The file as it is.  What goes wrong, in unpacking too, becomes a DataError."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


@contextmanager
def unpacked(path: str) -> Iterator[IO[bytes]]:
    """The content of a file.  What goes wrong becomes a DataError."""
    with open_file(path) as file:
        opener = _opener(file.read(6))
        file.seek(0)
        if opener is None:
            yield file
        else:
            with opener(file, "rb") as content:
                yield content


def _opener(begin: bytes) -> Any:
    return next((opener for magic, opener in OPENERS.items() if begin.startswith(magic)), None)
