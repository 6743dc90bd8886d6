"""Reads rows of a split, as its layout says, from its files to where they are wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data_file import damage_reported, open_file, stamp
from distbp.errors import DataError
from distbp.layout import Column, Layout, Part

T = TypeVar("T")

OPEN_FILES = 16
BLOCK_BYTES = 16 * 2**20  # read at a time, where what is read is not what is kept


class Reader:
    """Reads rows of a split again and again; a few files stay open until `close`.

    Raises DataError for a file that cannot be read, or is not the one that was there when the layout was found.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._open: dict[str, h5py.File] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        while self._open:
            self._open.popitem()[1].close()

    def read(self, of: str, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fills `out`, shape (stop - start, width), with rows of "x" or "y"."""
        for part in self.layout.parts:
            first, last = max(start, part.first), min(stop, part.first + part.rows)
            if first >= last:
                continue
            file, left = self._file(part), 0
            with damage_reported(f"{self.layout.place(first, of)} to {last - 1 - part.first}"):
                for column in getattr(part, of):
                    columns = out[first - start : last - start, left : left + column.width]
                    _read(file, column, first - part.first, last - part.first, columns)
                    left += column.width

    def _file(self, part: Part) -> h5py.File:
        size, changed = _still(stamp, part.file)
        if size != part.bytes or changed != self.layout.changed.setdefault(part.file, changed):
            raise _changed(part.file)
        if part.file not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[part.file] = _still(open_file, part.file)
        return self._open[part.file]


def _still(look: Callable[[str], T], path: str) -> T:
    """What is found at a file that rank 0 has opened before, when the layout was found."""
    try:
        return look(path)
    except DataError as error:
        raise DataError(
            f"{error}\nrank 0 could open it when the run began; data must be there on all nodes, under one name, "
            "as long as it runs"
        ) from None


def _changed(path: str) -> DataError:
    return DataError(
        f"{path}: has changed since the run began, or is another file on another node; data must be the same on all "
        "nodes, and stay as they are while it runs"
    )


def _read(file: h5py.File, column: Column, start: int, stop: int, out: NDArray[Any]) -> None:
    dataset = file[column.dataset]
    if len(dataset) != column.rows:
        raise _changed(column.file)
    rows: Any = dataset
    if column.field is not None:
        rows = dataset.fields(column.field)
    elif column.is_text:
        rows = dataset.asstr("utf-8")  # of fixed length it is often marked as ASCII, which is a part of it
    elif out.flags.c_contiguous and np.dtype(column.dtype).kind != "b" and not dataset.dtype.shape:
        dataset.read_direct(out.reshape(stop - start, *column.shape), np.s_[start:stop])
        return
    block = max(1, BLOCK_BYTES // (column.width * max(1, dataset.dtype.itemsize)))
    if column.chunk:
        block = -(-block // column.chunk) * column.chunk
    for first in range(start - start % block, stop, block):
        low, high = max(first, start), min(first + block, stop)
        values = np.asarray(rows[low:high])
        if column.is_text and column.field is not None:
            values = np.array([v.decode() if isinstance(v, bytes) else v for v in values.ravel()], object)
        out[low - start : high - start] = values.reshape(high - low, column.width)
