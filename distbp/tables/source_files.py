"""What all formats that `distbp import` reads have in common: tables, files that may be gzipped, values in messages."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import IO, Any, Protocol

from numpy.typing import NDArray

from distbp.errors import DataError

LONGEST_SHOWN = 120


class Table(Protocol):
    """Rows with named columns."""

    name: str
    columns: list[str]
    is_text: bool  # numbers come as text, with no type of their own

    def blocks(self, columns: Sequence[str], *, numbers: bool) -> Iterator[NDArray[Any]]:
        """Blocks of rows, with these columns side by side.

        `numbers`: of numbers, shape (rows, width), and finite; otherwise as they are, maybe text (dtype object).
        Raises DataError that names the place and shows what is there.
        """

    def place(self, row: int) -> str:
        """'file.csv, line 18' for a row, counted from 0."""


def is_packed(path: str) -> bool:
    """Whether a file is gzipped."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The file, unpacked if it is gzipped.  What goes wrong becomes a DataError."""
    try:
        with gzip.open(path, "rb") if is_packed(path) else open(path, "rb") as file:
            yield file  # type: ignore[misc]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def check_names(where: str, columns: Sequence[str]) -> None:
    """Raises DataError where two columns have one name."""
    name, count = Counter(columns).most_common(1)[0] if columns else ("", 0)
    if count > 1:
        raise DataError(f"{where} has the column {name!r} twice; columns need different names")


def is_number(text: str) -> bool:
    """A finite number as programs write it; Python would also take 1_000 and digits of other scripts."""
    try:
        return text.isascii() and "_" not in text and isfinite(float(text))
    except ValueError:
        return False


def shown(text: str) -> str:
    """In quotes, and not too long."""
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + " …")
