"""Strings whose characters are stored one by one, along the last axis: netCDF's char, MATLAB's and Octave's char."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.data.plain_array import Index
from distbp.errors import DataError

BLANK = " \0"  # what fills a string up


class Characters(Protocol):
    """An array of characters: bytes, or numbers of Unicode."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    dtype: np.dtype[Any]

    def read(self, index: Index) -> NDArray[Any]:
        """Numbers of characters."""


class CharacterArray:
    """Its rows as strings, without the blanks and zeros at their ends."""

    def __init__(self, array: Any, encoding: str) -> None:
        try:
            b"".decode(encoding)
        except LookupError:
            raise DataError(f"{array.name}: its _Encoding is {encoding!r}; expected one such as utf-8") from None
        self._array, self._encoding, self.name = array, encoding, array.name
        self.length = array.shape[-1]
        self.shape: tuple[int, ...] = array.shape[:-1]
        self.chunks: tuple[int, ...] | None = array.chunks[:-1] if array.chunks else None
        self.dtype = np.dtype(object)

    def read(self, index: Index) -> NDArray[Any]:
        whole = (*index, slice(None))
        stored = self._array.read_bytes(whole) if self._array.dtype == object else self._array.read(whole)
        shape = stored.shape[:-1]
        if self._encoding == "utf-16":
            stored, encoding = stored.astype("<u2"), "utf-16-le"
        else:
            encoding = self._encoding
        rows = np.ascontiguousarray(stored).reshape(-1, self.length)
        size = self.length * rows.dtype.itemsize
        found = np.empty(len(rows), object)
        if size:
            content = rows.tobytes()
            found[:] = [
                content[begin : begin + size].decode(encoding).rstrip(BLANK) for begin in range(0, len(content), size)
            ]
        else:
            found[:] = ""
        return found.reshape(shape)
