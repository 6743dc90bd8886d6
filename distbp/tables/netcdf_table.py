"""Classic netCDF files (CDF-1, CDF-2 and CDF-5) as tables: variables as columns, read where they lie.

The header is small and read here; the values of a variable lie end to end, or, along the unlimited dimension, in
records that hold all such variables in turn.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.conventions import DEFAULT_FILL, NETCDF_FILL, TIME, DecodedArray, missing_times, number_steps
from distbp.errors import DataError
from distbp.tables.given_attributes import GivenAttributes
from distbp.tables.row_table import RowColumn, RowTable
from distbp.tables.stored_rows import stored_column

TYPES = {1: ">i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8", 7: ">u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
DIMENSION, VARIABLE, ATTRIBUTE = 10, 11, 12  # the tags of lists


def netcdf_table(path: str) -> RowTable:
    """The variables of a file.  Coordinate variables are no data.  Raises DataError."""
    try:
        with open(path, "rb") as file:
            header = _Header(path, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return RowTable(path, [_column(path, placed) for placed in header.variables])


def _column(path: str, placed: Placed) -> RowColumn:
    variable = Variable(path, placed)
    attributes = GivenAttributes(variable.name, placed.attributes)
    more = missing_times(attributes, variable.dtype)
    default = NETCDF_FILL.get(variable.dtype.str[1:])
    if default is not None and "_FillValue" not in attributes.names:
        more.append((variable.dtype.type(default), DEFAULT_FILL))
    steps = [] if variable.dtype.kind == "O" else number_steps(attributes, variable.dtype, more)
    not_data = ""
    if placed.dimensions == (placed.name,):
        not_data = f"coordinate of the dimension {placed.name}"
    elif TIME.match(attributes.text("units")):
        not_data = "times"
    stored = DecodedArray(variable, steps, (), attributes, lambda: variable.dimensions)
    return stored_column(placed.name, stored, file=path, not_data=not_data)


@dataclass(frozen=True)
class Placed:
    """A variable as the header describes it.  `record`: bytes from one record to the next; 0: it lies end to end."""

    name: str
    shape: tuple[int, ...]
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]
    dtype: np.dtype[Any]
    begin: int
    record: int = 0


class Variable:
    """The values of a variable before anything is decoded; characters are strings along the last axis."""

    def __init__(self, path: str, placed: Placed) -> None:
        self._path, self._placed, self.name = path, placed, f"{path}: {placed.name}"
        self._is_text = placed.dtype.kind == "S"
        axes = len(placed.shape) - (1 if self._is_text and placed.shape else 0)
        self.shape, self.dimensions = placed.shape[:axes], placed.dimensions[:axes]
        self.dtype = np.dtype(object) if self._is_text else np.dtype(placed.dtype.str.replace(">", "="))
        self.chunks: tuple[int, ...] | None = None

    def read(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        if self._is_text:
            return _joined(self._stored((*index, slice(None))), self.name)
        return self._stored(index).astype(self.dtype)

    def _stored(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        """The values as they are in the file; a line of them at a time, as long as they lie end to end."""
        size = self._placed.dtype.itemsize
        inside = self._placed.shape[1:]
        strides = [size * prod(self._placed.shape[axis + 1 :]) for axis in range(len(self._placed.shape))]
        if self._placed.record:
            strides[0] = self._placed.record
        box = [what if isinstance(what, slice) else slice(what, what + 1) for what in index]
        box = [slice(*what.indices(n)) for what, n in zip(box, self._placed.shape, strict=True)]
        split = _first_whole(box, self._placed.shape, bool(self._placed.record))
        line = [range(what.start, what.stop) for what in box[split : split + 1]]
        count = (len(line[0]) if line else 1) * prod(self._placed.shape[split + 1 :])
        outer = [range(what.start, what.stop, what.step) for what in box[:split]]
        found = np.empty((prod(map(len, outer)), count), self._placed.dtype)
        with open(self._path, "rb", buffering=0 if count * size > 2**16 else 2**16) as file:
            for row, place in enumerate(np.ndindex(*map(len, outer))):
                at = sum(outer[axis][i] * strides[axis] for axis, i in enumerate(place))
                file.seek(self._placed.begin + at + (line[0].start * strides[split] if line else 0))
                content = file.read(count * size)
                if len(content) != count * size:
                    raise DataError(f"{self.name}: the file ends before its values do; it is cut")
                found[row] = np.frombuffer(content, self._placed.dtype)
        array = found.reshape(*map(len, outer), *map(len, line), *inside[split:])
        steps = [
            slice(None) if axis < split else slice(None, None, what.step) if axis == split else what
            for axis, what in enumerate(box)
        ]
        return array[tuple(0 if isinstance(w, int) else step for w, step in zip(index, steps, strict=True))]


def _first_whole(box: list[slice], shape: tuple[int, ...], records: bool) -> int:
    """The axis from which on values lie end to end: behind it all of each axis is wanted."""
    split = max(records, len(shape) - 1)
    while split > records and box[split] == slice(0, shape[split], 1):
        split -= 1
    return split


def _joined(stored: NDArray[Any], name: str) -> NDArray[Any]:
    """Characters along the last axis as strings."""
    lines = stored.reshape(prod(stored.shape[:-1]), stored.shape[-1])
    found = np.empty(len(lines), object)
    for row, line in enumerate(lines):
        try:
            found[row] = line.tobytes().split(b"\0")[0].rstrip(b" ").decode()
        except UnicodeDecodeError:
            raise DataError(f"{name}: strings that are not UTF-8; expected text or numbers") from None
    return found.reshape(stored.shape[:-1])


class _Header:
    """The dimensions, attributes and variables of a file.  Raises DataError where it is none."""

    def __init__(self, path: str, file: IO[bytes]) -> None:
        self._path, self._file, self._size = path, file, os.fstat(file.fileno()).st_size
        self._version = self._take(4)[3]
        self._wide = self._version == 5
        self.records = self._count(streaming=True)
        self._dimensions = [(self._name(), self._count()) for _ in range(self._list(DIMENSION))]
        self._attributes()
        self.variables = self._placed([self._variable() for _ in range(self._list(VARIABLE))])
        for variable in self.variables:
            self._check(variable)

    def _take(self, size: int) -> bytes:
        if size > self._size - self._file.tell():
            raise DataError(f"{self._path}: ends inside its header; the netCDF file is cut or damaged")
        return self._file.read(size)

    def _integer(self, wide: bool) -> int:
        return int.from_bytes(self._take(8 if wide else 4), "big", signed=False)

    def _count(self, *, streaming: bool = False) -> int:
        """A number of elements; -1 for that of records where they were being written."""
        count = self._integer(self._wide)
        if streaming and count == (2**64 - 1 if self._wide else 2**32 - 1):
            return -1
        if count >= 2**62:
            raise DataError(f"{self._path}: its header says a length of {count}; the netCDF file is damaged")
        return count

    def _list(self, tag: int) -> int:
        """How many elements follow; each has at least four bytes."""
        found, count = self._integer(False), self._count()
        if ((found or count) and found != tag) or count > self._size // 4:
            raise DataError(f"{self._path}: not in the order of a netCDF file; its header is damaged")
        return count

    def _name(self) -> str:
        length = self._count()
        name = self._take(length).decode("utf-8", "replace")
        self._take(-length % 4)
        return name

    def _attributes(self) -> dict[str, Any]:
        return dict(self._attribute() for _ in range(self._list(ATTRIBUTE)))

    def _attribute(self) -> tuple[str, Any]:
        name, dtype, count = self._name(), self._type(), self._count()
        content = self._take(count * dtype.itemsize)
        self._take(-len(content) % 4)
        if dtype.kind == "S":
            return name, content.rstrip(b"\0").decode("utf-8", "replace")
        return name, np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))

    def _type(self) -> np.dtype[Any]:
        code = self._integer(False)
        if code not in TYPES:
            raise DataError(f"{self._path}: a type {code} that netCDF does not have; its header is damaged")
        return np.dtype(TYPES[code])

    def _variable(self) -> Placed:
        name = self._name()
        axes = [self._count() for _ in range(min(self._count(), 1025))]
        if any(axis >= len(self._dimensions) for axis in axes) or len(axes) > 1024:
            raise DataError(f"{self._path}: {name!r} has a dimension that is not there; the netCDF file is damaged")
        attributes, dtype = self._attributes(), self._type()
        self._count()  # its size, which is too small in the file for large ones
        begin = self._integer(self._version != 1)
        dimensions = tuple(self._dimensions[axis][0] for axis in axes)
        shape = tuple(self._dimensions[axis][1] for axis in axes)
        record = int(bool(shape) and shape[0] == 0)
        return Placed(name, shape, dimensions, attributes, dtype, begin, record)

    def _placed(self, variables: list[Placed]) -> list[Placed]:
        """With the number of records, and the bytes between two of them; each part of one ends at a multiple of 4."""
        them = [v for v in variables if v.record]
        sizes = [prod(v.shape[1:]) * v.dtype.itemsize for v in them]
        size = sizes[0] if len(sizes) == 1 else sum(n + -n % 4 for n in sizes)
        if self.records < 0:
            self.records = (self._size - min(v.begin for v in them)) // max(1, size) if them else 0
        return [replace(v, shape=(self.records, *v.shape[1:]), record=size) if v.record else v for v in variables]

    def _check(self, variable: Placed) -> None:
        """Raises DataError where the values are not in the file."""
        shape, size = variable.shape, variable.dtype.itemsize
        length = prod(shape) * size
        if variable.record:
            length = (shape[0] - 1) * variable.record + prod(shape[1:]) * size if shape[0] else 0
        if variable.begin + length > self._size:
            raise DataError(
                f"{self._path}: {variable.name!r} ends at byte {variable.begin + length}, and the file at "
                f"{self._size}; it is cut or damaged"
            )
