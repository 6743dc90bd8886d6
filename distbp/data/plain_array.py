"""A data set, or a field of a table, as HDF5 gives it: numbers and strings, with nothing decoded.

Only what is asked for is read, with types of our own: a field can be read beside fields that NumPy has no type for, and
strings never go through HDF5's own way to its heaps (see `distbp.data.string_rows`).
"""

from __future__ import annotations

from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.string_rows import has_references, read_rows
from distbp.errors import DataError

Index = tuple[int | slice, ...]


class NoNumbers(DataError):
    """A data set, or a field, of a type that is neither numbers nor strings."""


BLOCK_BYTES = 16 * 2**20  # of rows that are read only to be thinned out


class PlainArray:
    """What HDF5 has under a name; `field`: one of a table.

    name: "file.h5: train/x", for messages.
    shape: with the axes of a field that is an array itself at the end.
    dtype: in this machine's byte order; object for strings; of an enum its integers.
    is_text: whether it is strings.
    kind: the type in the file.
    Raises DataError for a type that is neither numbers nor strings.
    """

    def __init__(self, path: str, dataset: h5py.Dataset, field: str | None = None) -> None:
        self.dataset, self.field = dataset, field
        inside = dataset.name.lstrip("/") if dataset.name else ""
        self.name = f"{path}: {inside}" if field is None else f"{path}: {inside}.{field}"
        whole = dataset.id.get_type()
        self.kind = kind = whole if field is None else _member(whole, field, self.name)
        self.stored = _numpy_type(kind, self.name)
        if dataset.shape is None:
            raise DataError(f"{self.name} has no values at all; leave it out")
        self.shape: tuple[int, ...] = (*dataset.shape, *self.stored.shape)
        self.stored_axes, self.stored = self.stored.shape, self.stored.base
        self.chunks: tuple[int, ...] | None = None
        if dataset.chunks:
            self.chunks = (*dataset.chunks, *self.shape[dataset.ndim :])
        self._references = has_references(dataset)
        self.is_text = h5py.check_string_dtype(self.stored) is not None
        self.dtype: np.dtype[Any] = np.dtype(object) if self.is_text else _plain_type(self.stored).newbyteorder("=")

    @property
    def is_enum(self) -> bool:
        """Whether its numbers have names; h5py has made truth values of some that do."""
        return isinstance(self._base(), h5py.h5t.TypeEnumID) and self.stored.kind != "b"

    def members(self) -> dict[str, int]:
        """Of an enum: the number of each name."""
        found = h5py.check_enum_dtype(self.stored) or {}
        return {str(name): int(number) for name, number in found.items()}

    def nothing(self) -> int | None:
        """The number whose bits are all set, where the type of an enum has fewer bits than its numbers have.

        It is what HDF5 puts where a value is none of the members.
        """
        number = self._base().get_super()
        if number.get_precision() >= 8 * number.get_size():
            return None
        return -1 if self.dtype.kind == "i" else int(np.iinfo(self.dtype).max)

    def read(self, index: Index) -> NDArray[Any]:
        """The values at an index, an entry for each axis; see `Stored.read`."""
        own = normalized(index, self.shape)
        if all(count for _, count, _ in own):
            values = self._rows(own) if self._references else self._stored(own)
            values = _text(values) if self.is_text and values.dtype != object else values
        else:
            values = np.empty([count for _, count, _ in own])
        return without_axes(values.astype(self.dtype, copy=False), index)

    def read_bytes(self, index: Index) -> NDArray[np.bytes_]:
        """The same of strings of fixed length, as they are stored."""
        own = normalized(index, self.shape)
        there = all(count for _, count, _ in own)
        values = self._stored(own) if there else np.empty([count for _, count, _ in own], self.stored)
        return without_axes(values, index)

    def _stored(self, own: list[tuple[int, int, int]]) -> NDArray[Any]:
        """Numbers and strings that are in the rows themselves, all axes kept."""
        if self.field is None and self._is_converted and not self.is_text and not self.stored_axes:
            return np.asarray(self.dataset[tuple(slice(a, a + n * s, s) for a, n, s in own)])
        rank = self.dataset.ndim
        space, counts = self.dataset.id.get_space(), tuple(count for _, count, _ in own[:rank])
        if counts != space.shape:
            starts, steps = (tuple(one[i] for one in own[:rank]) for i in (0, 2))
            space.select_hyperslab(starts, counts, steps)
        if self.stored.kind == "O":
            return self._linked_strings(own)
        inner, in_memory = self.stored_axes, self._in_memory()
        values: NDArray[Any] = np.empty((*counts, *inner), in_memory)
        memory = h5py.h5s.create_simple(counts) if counts else h5py.h5s.create(h5py.h5s.SCALAR)
        self.dataset.id.read(memory, space, values, self._read_as(in_memory, inner))
        return values[(*(slice(None),) * rank, *(slice(a, a + n * s, s) for a, n, s in own[rank:]))]

    @property
    def _is_converted(self) -> bool:
        """Whether HDF5 may convert values.  What enums and bit fields do not know it would change."""
        return isinstance(self._base(), h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID | h5py.h5t.TypeStringID)

    def _base(self) -> Any:
        """The type of an element."""
        return self.kind.get_super() if isinstance(self.kind, h5py.h5t.TypeArrayID) else self.kind

    def _in_memory(self) -> np.dtype[Any]:
        """What a value is read as."""
        if self.is_text:
            return self.stored
        return self.dtype if self._is_converted else _plain_type(self.stored)

    def _read_as(self, in_memory: np.dtype[Any], inner: tuple[int, ...]) -> Any:
        """The same as a type of HDF5."""
        one = self.kind
        if self._is_converted:
            one = h5py.h5t.py_create(np.dtype((in_memory, inner)) if inner else in_memory, logical=True)
        if self.field is None:
            return one
        table = h5py.h5t.create(h5py.h5t.COMPOUND, one.get_size())
        table.insert(self.field.encode(), 0, one)
        return table

    def _linked_strings(self, own: list[tuple[int, int, int]]) -> NDArray[Any]:
        """Strings of any length in other files, behind links that are trusted."""
        rows = self.dataset if self.field is None else self.dataset.fields(self.field)
        return _text(np.asarray(rows[tuple(slice(a, a + n * s, s) for a, n, s in own)], object))

    def _rows(self, own: list[tuple[int, int, int]]) -> NDArray[Any]:
        """Rows of a data set with references: whole ones, of which those that are wanted stay."""
        start, count, step = own[0] if own else (0, 1, 1)
        rest = tuple(slice(a, a + n * s, s) for a, n, s in own[1:])
        inner = self.shape[1:]
        some = max(1, BLOCK_BYTES // max(1, prod(inner) * self.kind.get_size()) // step)
        parts = []
        for first in range(0, count, some):
            low, last = start + first * step, start + (min(first + some, count) - 1) * step
            rows = read_rows(self.dataset, self.field, self.name, low, last + 1)
            parts.append(rows.reshape(-1, *inner)[(slice(None, None, step), *rest)])
        return np.concatenate(parts).reshape([count for _, count, _ in own])


def normalized(index: Index, shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Start, count and step along each axis."""
    if len(index) != len(shape):
        raise ValueError(f"{len(index)} indices for {len(shape)} axes")
    found = []
    for one, length in zip(index, shape, strict=True):
        if isinstance(one, slice):
            steps = range(*one.indices(length))
            found.append((steps.start, len(steps), steps.step))
        elif -length <= one < length:
            found.append((one % length, 1, 1))
        else:
            raise IndexError(f"index {one} of an axis of length {length}")
    return found


def without_axes(values: NDArray[Any], index: Index) -> NDArray[Any]:
    """Without those of length 1 along which there was a number, not a slice."""
    return values.reshape([count for count, one in zip(values.shape, index, strict=True) if isinstance(one, slice)])


def _text(values: NDArray[Any]) -> NDArray[Any]:
    """Bytes in UTF-8 as str."""
    flat = [value.decode() if isinstance(value, bytes) else value for value in values.ravel().tolist()]
    found = np.empty(len(flat), object)
    found[:] = flat
    return found.reshape(values.shape)


def _plain_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Without what h5py has added to it."""
    return np.dtype(dtype.str)


def _member(kind: Any, field: str, name: str) -> Any:
    """The type of a field."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        for i in range(kind.get_nmembers()):
            if kind.get_member_name(i).decode() == field:
                return kind.get_member_type(i)
    raise DataError(f"{name}: there is no such field")


MENDS = {
    h5py.h5t.TIME: "of type H5T_TIME, which NumPy does not have; store it as seconds, in float64",
    h5py.h5t.OPAQUE: "opaque bytes; store them as numbers or strings",
    h5py.h5t.REFERENCE: "made of references to other objects; name one of those",
    h5py.h5t.VLEN: "made of lists of any length; store rows of one length",
}


def _numpy_type(kind: Any, name: str) -> np.dtype[Any]:
    """As h5py has it, with the shape of an array.  Raises DataError for what is neither numbers nor strings."""
    base = kind.get_super() if isinstance(kind, h5py.h5t.TypeArrayID) else kind
    if base.get_class() in MENDS:
        raise NoNumbers(f"{name} is {MENDS[base.get_class()]}")
    try:
        dtype: np.dtype[Any] = kind.dtype
    except TypeError as error:
        raise NoNumbers(f"{name} is of a type that NumPy does not have ({error}); store it as a number") from None
    one = dtype.base
    if one.names:
        fields = ", ".join(f"{name}.{field}" for field in one.names)
        raise NoNumbers(f"{name} is a table; name a field of it: {fields}")
    if one.kind == "c":
        raise NoNumbers(f"{name} is complex ({one}); store the real and the imaginary part as two columns")
    if one.kind == "f" and one.itemsize > 8:
        raise NoNumbers(f"{name} is of type {one} (long double), which other machines do not have; store it as float64")
    if one.kind not in "biuf" and h5py.check_string_dtype(one) is None:
        raise NoNumbers(f"{name} is of type {one}; expected integers, real numbers or strings")
    return dtype
