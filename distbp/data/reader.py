"""Reads rows of a split, as its layout says, from its files to where they are wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import prod
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.data_file import damage_reported, follow, missing_source, open_file, stamp
from distbp.data.layout import Column, Layout, Part, plain_place
from distbp.data.string_rows import has_references, read_rows
from distbp.errors import DataError

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
            if first < last:
                with damage_reported(f"{self.layout.place(first, of)} to {last - 1 - part.first}"):
                    runs = [(first - part.first, last - part.first)]
                    self._read(part, getattr(part, of), runs, out[first - start : last - start])

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
                with damage_reported(part.file):
                    runs = list(zip(begins.tolist(), ends.tolist(), strict=True))
                    self._read(part, getattr(part, of), runs, out[first:last])

    def _read(self, part: Part, columns: Sequence[Column], runs: list[tuple[int, int]], out: NDArray[Any]) -> None:
        """Runs of rows of a file, one after another; fields of one table that stand side by side are read at once."""
        file, left = self._file(part), 0
        for _, group in groupby(columns, lambda column: (column.dataset, column.field is None, column.offset is None)):
            side_by_side = list(group)
            for together in [side_by_side] if side_by_side[0].field else [[column] for column in side_by_side]:
                width = sum(column.width for column in together)
                place = out[:, left : left + width]
                if together[0].offset is None:
                    ((start, stop),) = runs
                    _read(file, together, start, stop, place)
                else:
                    _read_plain(file.id.get_vfd_handle(), together, runs, place)
                left += width

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
    dataset = follow(file, column.file, column.dataset, trust_links=True)
    if not isinstance(dataset, h5py.Dataset):
        return False
    if missing_source(column.file, dataset):
        return False
    place = plain_place(dataset, column.field) if column.offset is not None else (None, 0)
    return len(dataset) == column.rows and place == (column.offset, column.stride)


def _read(file: h5py.File, columns: list[Column], start: int, stop: int, out: NDArray[Any]) -> None:
    """One data set; or fields of one table."""
    column, dataset = columns[0], file[columns[0].dataset]
    rows: Any = dataset
    refers = has_references(dataset)
    if column.field is not None:
        rows = dataset.fields(list(dict.fromkeys(one.field for one in columns)))
    elif column.is_text:
        rows = dataset.asstr("utf-8")  # of fixed length it is often marked as ASCII, which is a part of it
    elif out.flags.c_contiguous and np.dtype(column.dtype).kind != "b" and not dataset.dtype.shape:
        dataset.read_direct(out.reshape(stop - start, *column.shape), np.s_[start:stop])
        return
    block = max(1, BLOCK_BYTES // max(1, dataset.dtype.itemsize * prod(dataset.shape[1:])))
    if column.chunk:
        block = -(-block // column.chunk) * column.chunk
    for first in range(start - start % block, stop, block):
        low, high = max(first, start), min(first + block, stop)
        values: NDArray[Any] = np.empty(0) if refers else np.asarray(rows[low:high])
        left = 0
        for one in columns:
            if refers:
                own: NDArray[Any] = read_rows(dataset, one.field, f"{one.file}: {one.name}", low, high)
            elif one.field is None:
                own = values
            else:
                own = values[str(one.field)]
                if one.is_text:
                    own = np.array([v.decode() if isinstance(v, bytes) else v for v in own.ravel()], object)
            out[low - start : high - start, left : left + one.width] = own.reshape(high - low, one.width)
            left += one.width


def _read_plain(descriptor: int, columns: list[Column], runs: list[tuple[int, int]], out: NDArray[Any]) -> None:
    """One data set; or fields of one table, with what lies between them."""
    column = columns[0]
    assert column.offset is not None
    base, stride = min(one.offset or 0 for one in columns), column.stride
    length = max((one.offset or 0) - base + one.width * np.dtype(one.dtype).itemsize for one in columns)
    if out.flags.c_contiguous and out.dtype == np.dtype(column.dtype) and length == stride and len(columns) == 1:
        _read_runs(descriptor, column, base, length, runs, out.reshape(-1).view(np.uint8))
        return
    most, done = max(1, BLOCK_BYTES // stride), 0
    raw = np.empty(min(most, len(out)) * stride, np.uint8)
    for some in _cut(runs, most):
        count, left = sum(last - first for first, last in some), 0
        _read_runs(descriptor, column, base, length, some, raw)
        for one in columns:
            dtype = np.dtype(one.dtype)
            place = raw[(one.offset or 0) - base :]
            size = one.width * dtype.itemsize
            values = np.lib.stride_tricks.as_strided(place, (count, size), (stride, 1))
            numbers = np.ascontiguousarray(values).view(dtype).reshape(count, one.width)
            out[done : done + count, left : left + one.width] = numbers
            left += one.width
        done += count


def _cut(runs: list[tuple[int, int]], most: int) -> Iterator[list[tuple[int, int]]]:
    """The runs, in groups of at most so many rows."""
    group: list[tuple[int, int]] = []
    room = most
    for first, last in runs:
        while first < last:
            taken = min(last - first, room)
            group.append((first, first + taken))
            first, room = first + taken, room - taken
            if room == 0:
                yield group
                group, room = [], most
    if group:
        yield group


def _read_runs(
    descriptor: int, column: Column, base: int, length: int, runs: list[tuple[int, int]], out: NDArray[np.uint8]
) -> None:
    """Bytes of rows; of each row `length` of them matter."""
    view, begin, stride = out.data, 0, column.stride
    for first, last in runs:
        end = begin + (last - first - 1) * stride + length
        place, at = view[begin:end], base + first * stride
        while place:
            done = os.preadv(descriptor, [place], at)
            if not done:
                raise DataError(f"{column.file}: {column.name} ends before row {last - 1}; the file is truncated")
            place, at = place[done:], at + done
        begin += (last - first) * stride
