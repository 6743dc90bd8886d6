"""The rows of an array that can be read anywhere, with its samples along one axis or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from distbp.data.names import Index
from distbp.data.stored import Stored
from distbp.errors import DataError
from distbp.tables.row_table import STRING_BYTES, Part, RowColumn
from distbp.tables.table import TableColumn

CHUNK_BYTES = 64 * 2**20  # a chunk that is larger than a block of rows is kept, up to this size


class StoredRows:
    """What an index takes of an array, as rows: those along the sample axes, the first of them the slowest."""

    def __init__(self, name: str, stored: Stored, index: Sequence[int | slice], samples: Sequence[int]) -> None:
        self.name, self._stored, self._index, self._samples = name, stored, list(index), list(samples)
        self._lengths = [
            len(range(*what.indices(size))) if isinstance(what, slice) else 1
            for what, size in zip(index, stored.shape, strict=True)
        ]
        self.shape = tuple(
            length
            for axis, (what, length) in enumerate(zip(index, self._lengths, strict=True))
            if axis not in samples and isinstance(what, slice)
        )

    @property
    def rows(self) -> int | None:
        return prod(self._lengths[axis] for axis in self._samples)

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        if self.rows:
            yield from ([part] * len(keys) for part in self._parts(list(self._index), self._samples, rows))

    def _parts(self, index: list[int | slice], samples: Sequence[int], rows: int) -> Iterator[Part]:
        """Blocks along the first of these sample axes; row by row along it where what is behind it is too much."""
        axis, length = samples[0], self._lengths[samples[0]]
        inner = prod(self._lengths[other] for other in samples[1:])
        step = rows // inner if inner <= rows else 1
        chunks = self._stored.chunks
        if chunks and len(samples) == 1:  # whole chunks, each of which is unpacked once then
            most = CHUNK_BYTES // max(1, prod(self.shape) * self._stored.dtype.itemsize)
            step = max(step - step % chunks[axis], min(chunks[axis], most), 1)
        whole = range(*self._index[axis].indices(self._stored.shape[axis]))  # type: ignore[union-attr]
        for first in range(0, length, step):
            some = whole[first : first + step]
            index[axis] = slice(some[0], some[-1] + 1, some.step)
            if inner > rows:
                yield from self._parts(list(index), samples[1:], rows)
            else:
                yield self._read(tuple(index))

    def _read(self, index: tuple[int | slice, ...]) -> Part:
        try:
            array, missing = self._stored.read(index)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{self.name}: cannot be read: {error}") from None
        kept = [axis for axis, what in enumerate(index) if isinstance(what, slice)]
        order = [kept.index(axis) for axis in self._samples]
        order += [at for at in range(len(kept)) if at not in order]
        shape = (
            (-1, *self.shape)
            if prod(self.shape)
            else (prod(array.shape[at] for at in order[: len(self._samples)]), *self.shape)
        )
        array = array.transpose(order).reshape(shape)
        return array, None if missing is None else missing.transpose(order).reshape(shape)


def stored_column(name: str, stored: Stored, *, file: str, not_data: str = "", problem: str = "") -> RowColumn:
    """An array as a column: its samples along the first axis, or along those that the user says."""
    about = TableColumn(name, stored.units, tuple(stored.columns), not_data, tuple(stored.notes))
    if not stored.shape:
        single = "is a single value; expected a value for each row"
        about = TableColumn(name, stored.units, (), not_data or "a single value", tuple(stored.notes))
        return RowColumn(about, _Nothing(), "", (), 8, problem or single)
    everything = tuple(slice(None) for _ in stored.shape)
    rows = StoredRows(f"{file}: {name}", stored, everything, [0])

    def along(index: tuple[Index, ...], text: str) -> RowColumn:
        where = f"{file}: {text}"
        if len(index) > len(stored.shape):
            raise DataError(f"{where}: {len(index)} axes in the brackets, and {name} has {len(stored.shape)}")
        full = [*index, *(Index(slice(None)) for _ in stored.shape[len(index) :])]
        for one, size in zip(full, stored.shape, strict=True):
            if isinstance(one.what, int) and not -size <= one.what < size:
                raise DataError(f"{where}: number {one.what} of {size}; expected 0 to {size - 1}")
        whats = [
            one.what + size if isinstance(one.what, int) and one.what < 0 else one.what
            for one, size in zip(full, stored.shape, strict=True)
        ]
        found = StoredRows(where, stored, whats, [axis for axis, one in enumerate(full) if one.samples])
        new = TableColumn(text, stored.units, (), not_data, tuple(stored.notes))
        return RowColumn(new, found, "", found.shape, _size(found.shape, stored.dtype), problem)

    size = _size(rows.shape, stored.dtype)
    return RowColumn(about, rows, "", rows.shape, size, problem, stored.dimensions, None, along)


def _size(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    return prod(shape) * (STRING_BYTES if dtype.kind == "O" else dtype.itemsize)


class _Nothing:
    """No rows."""

    rows: int | None = None

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        return iter(())
