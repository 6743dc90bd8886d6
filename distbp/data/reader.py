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

from distbp.data.data_file import beginning, damage_reported, follow, missing_source, open_file, stamp
from distbp.data.layout import Column, Layout, Part, few
from distbp.data.locate import plain_place
from distbp.data.selection import select
from distbp.data.stored import Stored, open_stored
from distbp.data.string_rows import has_references, read_rows
from distbp.errors import DataError

T = TypeVar("T")

OPEN_FILES = 16
SMALL_BYTES = 4 * 2**20  # of a file; to open it by HDF5 would take longer than to read it
BLOCK_BYTES = 16 * 2**20  # read at a time, where what is read is not what is kept


class Reader:
    """Reads rows of a split again and again; a few files stay open until `close`.

    Raises DataError for a file that cannot be read, or is not the one that was there when the layout was found.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._open: dict[str, h5py.File] = {}
        self._descriptors: dict[str, int] = {}  # of small files whose rows lie plainly: HDF5 is not needed for them
        self._stored: dict[str, dict[str, Stored]] = {}  # of open files

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._open:
            self._close_one()
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def read(self, of: str, start: int, stop: int, out: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> None:
        """Fills `out`, shape (stop - start, width), with rows of "x" or "y".

        `missing`, of the same shape, becomes True where the file says that there is no value; without it a missing
        value is a DataError.
        """
        room, places = self._room(of, out), missing if missing is None else np.zeros_like(missing)
        at = self.layout.part_at(start)
        while at < len(self.layout.parts) and self.layout.parts[at].first < stop:
            part = self.layout.parts[at]
            first, last = max(start, part.first), min(stop, part.first + part.rows)
            here = slice(first - start, last - start)
            with damage_reported(f"{self.layout.place(first, of)} to {last - 1 - part.first}"):
                runs = [(first - part.first, last - part.first)]
                self._read(part, of, runs, room[here], None if places is None else places[here])
            at += 1
        self._put_in_order(of, room, out)
        if missing is not None and places is not None:
            self._put_in_order(of, places, missing)

    def read_rows(self, of: str, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fills `out`, shape (len(rows), width), with these rows of "x" or "y", in rising order.

        They must lie plainly in their files, see `Layout.is_plain`.
        """
        room = self._room(of, out)
        for part in self.layout.parts:
            first, last = np.searchsorted(rows, [part.first, part.first + part.rows])
            if first < last:
                own = rows[first:last] - part.first
                begins = own[np.diff(own, prepend=-2) != 1]
                ends = own[np.diff(own, append=2**62) != 1] + 1
                with damage_reported(part.file):
                    runs = list(zip(begins.tolist(), ends.tolist(), strict=True))
                    self._read(part, of, runs, room[first:last], None)
        self._put_in_order(of, room, out)

    def _room(self, of: str, out: NDArray[Any]) -> NDArray[Any]:
        """Where the columns are read to, in the order in which they are stored."""
        return np.empty_like(out) if of in self.layout.order else out

    def _put_in_order(self, of: str, room: NDArray[Any], out: NDArray[Any]) -> None:
        if room is not out:
            out[:] = room[:, self.layout.order[of]] if of in self.layout.order else room

    def _read(
        self, part: Part, of: str, runs: list[tuple[int, int]], out: NDArray[Any], missing: NDArray[np.bool_] | None
    ) -> None:
        """Runs of rows of a file, one after another; fields of one table that stand side by side are read at once."""
        columns: Sequence[Column] = getattr(part, of)
        left = 0
        for _, group in groupby(columns, _kind):
            side_by_side = list(group)
            is_table = side_by_side[0].field and side_by_side[0].is_direct
            for together in [side_by_side] if is_table else [[column] for column in side_by_side]:
                width = sum(column.width for column in together)
                names = few([column.name for column in together])
                with damage_reported(f"{part.file}: {names}, row {runs[0][0]} to {runs[-1][1] - 1}"):
                    self._read_together(part, together, runs, out[:, left : left + width], missing, left)
                left += width

    def _read_together(
        self,
        part: Part,
        together: list[Column],
        runs: list[tuple[int, int]],
        place: NDArray[Any],
        missing: NDArray[np.bool_] | None,
        left: int,
    ) -> None:
        """One column, or fields of one table, to their place; they begin at column `left` of `missing`."""
        held = together[0].held
        if together[0].constant is not None:
            place[:] = np.array(together[0].constant, place.dtype)
        elif held is not None:
            np.concatenate([held[start:stop] for start, stop in runs], out=place)
        elif together[0].offset is not None:
            _read_plain(self._descriptor(part), together, runs, place)
        elif together[0].is_direct:
            ((start, stop),) = runs
            _read(self._file(part), together, start, stop, place)
        else:
            ((start, stop),) = runs
            found = self._read_stored(self._file(part), together[0], start, stop, place)
            if found is not None and missing is None:
                raise _is_missing(together[0], start + int(found.any(axis=1).argmax()))
            if found is not None and missing is not None:
                missing[:, left : left + place.shape[1]] = found

    def _read_stored(
        self, file: h5py.File, column: Column, start: int, stop: int, out: NDArray[Any]
    ) -> NDArray[np.bool_] | None:
        """Rows of a column that is decoded, or a part of an array; returns where values are missing, if any are."""
        known = self._stored.setdefault(column.file, {})
        key = f"{column.dataset}\0{column.field}"
        if key not in known:
            item = follow(file, column.file, column.dataset, trust_links=True)
            known[key] = open_stored(file, column.file, item, column.field)
        stored = known[key]
        selection = column.selection or select(column.name, None, stored.shape, stored.dimensions)
        found: NDArray[np.bool_] | None = None
        block = max(1, BLOCK_BYTES // max(1, 8 * column.width))
        if column.chunk:
            block = -(-block // column.chunk) * column.chunk
        for low in range(start - start % block, stop, block):
            first, last = max(low, start), min(low + block, stop)
            values, missing = selection.read(stored, first, last)
            out[first - start : last - start] = values.reshape(last - first, -1)
            if missing is not None and missing.any():
                found = np.zeros(out.shape, np.bool_) if found is None else found
                found[first - start : last - start] = missing.reshape(last - first, -1)
        return found

    def _descriptor(self, part: Part) -> int:
        """Of a file whose rows lie plainly."""
        if part.bytes > SMALL_BYTES:
            return int(self._file(part).id.get_vfd_handle())
        self._check_stamp(part)
        if part.file not in self._descriptors:
            if len(self._descriptors) >= OPEN_FILES:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            try:
                descriptor = os.open(part.file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                _still(open_file, part.file).close()  # which says what is wrong
                raise
            self._descriptors[part.file] = descriptor
            if beginning(descriptor) != part.begin:
                raise _changed(part.file)
        return self._descriptors[part.file]

    def _check_stamp(self, part: Part) -> None:
        size, changed = _still(stamp, part.file)
        if size != part.bytes or changed != self.layout.changed.setdefault(part.file, changed):
            raise _changed(part.file)

    def _file(self, part: Part) -> h5py.File:
        self._check_stamp(part)
        if part.file not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._close_one()
            self._open[part.file] = file = _still(open_file, part.file)
            with damage_reported(part.file):
                if not all(_is_there(file, column) for column in part.columns):
                    raise _changed(part.file)
        return self._open[part.file]

    def _close_one(self) -> None:
        name = next(iter(self._open))
        self._stored.pop(name, None)
        self._open.pop(name).close()


def _kind(column: Column) -> tuple[str, bool, bool, bool]:
    """What columns that are read together have in common."""
    return column.dataset, column.field is None, column.offset is None, column.is_direct


def _is_missing(column: Column, row: int) -> DataError:
    return DataError(
        f"{column.file}: {column.name}, row {row}: a value is missing; distbp import --on-missing drop, or mean, "
        "makes a data set without such values"
    )


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
    if column.constant is not None:
        return True
    dataset = follow(file, column.file, column.dataset, trust_links=True)
    if not column.is_direct:
        return isinstance(dataset, h5py.Dataset | h5py.Group)
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
