"""Reads rows of a split, as its layout says, from its files to where they are wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data_file import damage_reported, open_file, stamp
from distbp.errors import DataError
from distbp.layout import Column, Layout, Part, plain_place

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
                    rows = first - part.first, last - part.first
                    if column.offset is None:
                        _read(file, column, *rows, columns)
                    else:
                        _read_plain(file.id.get_vfd_handle(), column, [rows], last - first, columns)
                    left += column.width

    def read_rows(self, of: str, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fills `out`, shape (len(rows), width), with these rows of "x" or "y", in rising order.

        They must lie plainly in their files, see `Layout.is_plain`.
        """
        for part in self.layout.parts:
            first, last = np.searchsorted(rows, [part.first, part.first + part.rows])
            if first < last:
                own = rows[first:last] - part.first
                begins = own[np.diff(own, prepend=-2) != 1]
                ends = own[np.diff(own, append=2**62) != 1] + 1
                file, left, runs = self._file(part), 0, list(zip(begins.tolist(), ends.tolist(), strict=True))
                with damage_reported(part.file):
                    for column in getattr(part, of):
                        columns = out[first:last, left : left + column.width]
                        _read_plain(file.id.get_vfd_handle(), column, runs, last - first, columns)
                        left += column.width

    def _file(self, part: Part) -> h5py.File:
        size, changed = _still(stamp, part.file)
        if size != part.bytes or changed != self.layout.changed.setdefault(part.file, changed):
            raise _changed(part.file)
        if part.file not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[part.file] = file = _still(open_file, part.file)
            with damage_reported(part.file):
                if not all(_is_there(file, column) for column in part.columns):
                    raise _changed(part.file)
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


def _is_there(file: h5py.File, column: Column) -> bool:
    """Whether the file is as it was found, also where another node has another one under its name."""
    dataset = file[column.dataset]
    place = plain_place(dataset, column.field) if column.offset is not None else (None, 0)
    return len(dataset) == column.rows and place == (column.offset, column.stride)


def _read(file: h5py.File, column: Column, start: int, stop: int, out: NDArray[Any]) -> None:
    dataset = file[column.dataset]
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


def _read_plain(
    descriptor: int, column: Column, runs: Iterable[tuple[int, int]], count: int, out: NDArray[Any]
) -> None:
    """Runs of neighbouring rows, `count` in all, one after another; with what lies between their fields."""
    assert column.offset is not None
    dtype, length = np.dtype(column.dtype), column.width * np.dtype(column.dtype).itemsize
    direct = out.flags.c_contiguous and out.dtype == dtype and column.stride == length
    raw = out if direct else np.empty((count, column.stride), np.uint8)
    view, begin = raw.reshape(-1).view(np.uint8).data, 0
    for first, last in runs:
        end = begin + (last - first - 1) * column.stride + length
        place, at = view[begin:end], column.offset + first * column.stride
        while place:
            done = os.preadv(descriptor, [place], at)
            if not done:
                raise DataError(f"{column.file}: {column.name} ends before row {last - 1}; the file is truncated")
            place, at = place[done:], at + done
        begin += (last - first) * column.stride
    if not direct:
        values = np.lib.stride_tricks.as_strided(raw, (count, length), (column.stride, 1))
        out[:] = np.ascontiguousarray(values).view(dtype).reshape(count, column.width)
