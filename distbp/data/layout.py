"""How the samples of a split lie in HDF5 files, from the files' headers alone.

A split is a group of each file (or a table: a compound data set).  Its inputs and its labels or targets are one data
set, or several side by side, each a row for a sample; a field of a compound data set counts as a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from typing import Any

import h5py
import numpy as np

from distbp.data.data_file import fields_of, follow, member, missing_source, names_in, opened, stamp
from distbp.data.string_rows import stored_size
from distbp.errors import DataError


@dataclass(frozen=True)
class Column:
    """A data set of a file, or one of its fields: rows of shape `shape`, `width` numbers, or strings (dtype "|O")."""

    file: str
    dataset: str
    field: str | None
    rows: int
    width: int
    dtype: str
    shape: tuple[int, ...]
    chunk: int | None  # rows of a chunk, where there are chunks
    offset: int | None = None  # byte of the file where the first row begins, where rows lie plainly one after another
    stride: int = 0  # bytes from a row to the next

    @property
    def name(self) -> str:
        """train/x, or train/table.pressure"""
        return self.dataset if self.field is None else f"{self.dataset}.{self.field}"

    @property
    def is_text(self) -> bool:
        """Strings: the names of classes."""
        return np.dtype(self.dtype).kind == "O"

    @property
    def type(self) -> str:
        """float32, >i2, string"""
        return "string" if self.is_text else str(np.dtype(self.dtype))


@dataclass(frozen=True)
class Part:
    """What one file adds to a split; `first` is its first row in the split.  Empty `x` or `y` were not asked for."""

    first: int
    rows: int
    x: tuple[Column, ...]
    y: tuple[Column, ...]
    bytes: int = 0  # of the file

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of x, and of y."""
        return (*self.x, *self.y)

    @property
    def file(self) -> str:
        """Where it is."""
        return self.columns[0].file


@dataclass(frozen=True)
class Layout:
    """A split, all files end to end."""

    split: str
    x_name: str
    y_name: str
    parts: tuple[Part, ...]
    changed: dict[str, int] = field(default_factory=dict)  # when each file was, as this node saw it first

    @property
    def rows(self) -> int:
        """N"""
        return self.parts[-1].first + self.parts[-1].rows

    def width(self, of: str) -> int:
        """Numbers in a row of "x" or "y"."""
        return sum(column.width for column in getattr(self.parts[0], of))

    def dtype(self, of: str) -> np.dtype[Any]:
        """A type, in this machine's byte order, that holds all columns of "x" or "y"; object for strings."""
        found = np.result_type(*(np.dtype(column.dtype) for column in getattr(self.parts[0], of)))
        return np.dtype(np.uint8) if found.kind == "b" else found.newbyteorder("=")

    def row_bytes(self) -> int:
        """Of a row of x and y."""
        bytes_of_y = 4 if self.y_name and self.dtype("y").kind != "f" else 0  # classes are int32
        if self.y_name and not bytes_of_y:
            bytes_of_y = self.width("y") * self.dtype("y").itemsize
        return self.width("x") * self.dtype("x").itemsize + bytes_of_y

    def chunk_rows(self, of: str) -> int:
        """Rows that have to be read together, in the file where these are most; 1 without chunks."""
        return max(column.chunk or 1 for part in self.parts for column in getattr(part, of))

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """All rows, cut into blocks of about `size` bytes: whole chunks of a file, and never of two files."""
        found = []
        for part in self.parts:
            rows = max(1, size // self.row_bytes())
            chunk = max((column.chunk or 1) for column in part.x)
            rows = -(-rows // chunk) * chunk
            found += [
                (part.first + first, part.first + min(first + rows, part.rows)) for first in range(0, part.rows, rows)
            ]
        return found

    @property
    def is_plain(self) -> bool:
        """Whether every number lies in its file as it is in memory, at a known place."""
        return all(
            column.offset is not None
            for part in self.parts
            for column in (*part.x, *(part.y if self.y_name and self.dtype("y").kind == "f" else ()))
        )

    def place(self, row: int, of: str, at: int | None = None) -> str:
        """'file.h5: train/pressure,velocity, row 17' for a row of "x" or "y"; `at`: only what has this column of it."""
        part = next(part for part in reversed(self.parts) if part.first <= row)
        if at is not None:
            ends = accumulate(column.width for column in getattr(part, of))
            name = next(column.name for column, end in zip(getattr(part, of), ends, strict=True) if at < end)
            return f"{part.file}: {name}, row {row - part.first}"
        return f"{part.file}: {inside(self.split, self.x_name if of == 'x' else self.y_name)}, row {row - part.first}"


def inside(split: str, name: str) -> str:
    """train/x; and x where the split is the whole file, "/"."""
    return f"{split}/{name}".lstrip("/")


def find(paths: Sequence[str], split: str, x: str | None, y: str | None, *, trust_links: bool = False) -> Layout:
    """The layout of a split.  `x`, `y`: names inside it, with commas between them; None: not asked for.

    Raises DataError for files that cannot be trained on.
    """
    parts: list[Part] = []
    for path in paths:
        size, _ = stamp(path)
        with opened(path) as file:
            xs, ys = (
                tuple(_column(file, path, split, name, option, trust_links) for name in _separate(names, option))
                for names, option in ((x, "--x"), (y, "--y"))
            )
        first = parts[-1].first + parts[-1].rows if parts else 0
        part = Part(first, (*xs, *ys)[0].rows, xs, ys, size)
        _check_part(part)
        if parts:
            _check_alike(parts[0], part)
        parts.append(part)
    return Layout(split, x or "", y or "", tuple(parts))


def _separate(names: str | None, option: str) -> list[str]:
    if names is None:
        return []
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise DataError(f"{option} {names!r}: expected the name of a data set inside the split, or several with commas")
    return found


def _column(file: h5py.File, path: str, split: str, name: str, option: str, trust_links: bool) -> Column:
    dataset, place, field = _find(file, path, split, name, option, trust_links)
    where = f"{path}: {inside(split, name)}"
    if not trust_links and (dataset.is_virtual or dataset.external is not None):
        raise DataError(
            f"{where} keeps its values in other files; copy them into this one, or, if you know where "
            "the file comes from, add --trust-links"
        )
    if dataset.ndim == 0 or dataset.shape[0] == 0:
        raise DataError(f"{where} is empty; a split needs at least one sample")
    if not trust_links:  # then it is in this file
        _check_chunks(dataset, where, stamp(path)[0])
    dtype = dataset.dtype if field is None else dataset.dtype[field]
    shape = (*dataset.shape[1:], *dtype.shape)
    dtype = dtype.base
    if h5py.check_string_dtype(dtype) is not None:
        dtype = np.dtype("O")
    elif dtype.names:
        fields = ", ".join(f"{name}.{one}" for one in dtype.names)
        raise DataError(f"{where} is a table; name a field of it (see {option}): {fields}")
    elif dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(f"{where} is of type {dtype}; expected integers or real numbers")
    if prod(shape) == 0:
        raise DataError(f"{where} has no columns")
    missing = missing_source(path, dataset)
    if missing:
        raise DataError(f"{where} takes values from {missing}, which is not there; HDF5 would put its fill value")
    chunk = min(dataset.chunks[0], len(dataset)) if dataset.chunks else None
    elsewhere = dtype.kind == "O" or dataset.file != file  # not numbers, or behind a trusted link
    offset, stride = (None, 0) if elsewhere else plain_place(dataset, field)
    return Column(path, place, field, len(dataset), prod(shape), dtype.str, shape, chunk, offset, stride)


def _check_chunks(dataset: h5py.Dataset, where: str, size: int) -> None:
    """Raises DataError where a chunk is not inside the file and the data set, or has a wrong length: HDF5 crashes."""
    if not dataset.chunks or not hasattr(dataset.id, "chunk_iter"):
        return
    shape, least = dataset.shape, 5 if dataset.fletcher32 else 1  # its checksum has 4 bytes
    whole = prod(dataset.chunks) * stored_size(dataset.id.get_type())
    unpacked = 2 ** dataset.id.get_create_plist().get_nfilters() - 1  # the mask where no filter was applied
    wrong: list[Any] = []

    def look(chunk: Any) -> None:
        outside = any(start >= length for start, length in zip(chunk.chunk_offset, shape, strict=True))
        wrong_size = chunk.filter_mask == unpacked and chunk.size != whole
        if outside or wrong_size or chunk.size < least or chunk.byte_offset + chunk.size > size:
            wrong.append((chunk.chunk_offset, chunk.size))

    dataset.id.chunk_iter(look)
    if wrong:
        place, length = wrong[0]
        raise DataError(
            f"{where}: a chunk of {length} bytes at {place}; the file is damaged or truncated, write or copy it again"
        )


def plain_place(dataset: h5py.Dataset, field: str | None) -> tuple[int | None, int]:
    """Where the first row begins and how far apart rows are, if they lie in the file as NumPy has them in memory."""
    if field is not None and dataset.ndim > 1:
        return None, 0
    if dataset.chunks or dataset.is_virtual or dataset.external is not None or dataset.dtype.hasobject:
        return None, 0
    if dataset.id.get_space_status() != h5py.h5d.SPACE_STATUS_ALLOCATED:  # never written
        return None, 0
    begin, stored = dataset.id.get_offset(), dataset.id.get_type()
    if begin is None or not stored.equal(h5py.h5t.py_create(dataset.dtype, logical=True)):
        return None, 0
    stride = prod(dataset.shape[1:]) * dataset.dtype.itemsize
    return begin + (dataset.dtype.fields[field][1] if field else 0), stride


def _find(
    file: h5py.File, path: str, split: str, name: str, option: str, trust_links: bool
) -> tuple[h5py.Dataset, str, str | None]:
    """The data set of that name and where it is; or the table, and the field of it that "table.field" means."""
    group = follow(file, path, split, trust_links)
    if isinstance(group, h5py.Dataset) and group.dtype.names:  # the split itself is a table
        if name not in group.dtype.names:
            raise DataError(
                f"{path}: {split} has no field {name}; it has {', '.join(group.dtype.names)} (see {option})"
            )
        return group, split, name
    if not isinstance(group, h5py.Group):
        there = ", ".join(names_in(file, h5py.Group)) or "none"
        raise DataError(f"{path}: no split {split!r}; the splits (groups) of this file are: {there}")
    found = follow(file, path, inside(split, name), trust_links)
    if isinstance(found, h5py.Dataset):
        return found, inside(split, name), None
    table, _, field = name.rpartition(".")
    found = follow(file, path, inside(split, table), trust_links)
    if isinstance(found, h5py.Dataset) and field in (found.dtype.names or ()):
        return found, inside(split, table), field
    here: list[str] = []
    for one in names_in(group, h5py.Dataset):
        fields = fields_of(member(group, one))
        here += [f"{one}.{field}" for field in fields] or [one]
    raise DataError(
        f"{path}: no data set {inside(split, name)}; those in {split} are: {', '.join(here) or 'none'} (see {option})"
    )


def _check_part(part: Part) -> None:
    """The columns of one file go together."""
    first = part.columns[0]
    for column in part.columns:
        if column.rows != first.rows:
            raise DataError(
                f"{first.file}: {first.name} has {first.rows} rows and {column.name} has "
                f"{column.rows}; each sample needs one row in both"
            )


def check_kinds(layout: Layout) -> Layout:
    """The layout, if x are numbers, and y labels or targets.  Raises DataError."""
    part = layout.parts[0]
    for column in part.x:
        if column.is_text:
            raise DataError(f"{column.file}: {column.name} is of type string; expected integers or real numbers")
    if len(part.y) == 1 and part.y[0].is_text and part.y[0].width == 1:
        return layout
    for column in part.y:
        if column.is_text:
            raise DataError(f"{column.file}: {column.name}: expected one string a sample, the name of its class")
    width = sum(column.width for column in part.y)
    if width > 1 and all(np.dtype(column.dtype).kind in "biu" for column in part.y):
        names = ",".join(column.name for column in part.y)
        raise DataError(
            f"{part.file}: {names} has integers in {width} columns; class labels are (N,), "
            "real targets are floating-point numbers"
        )
    return layout


def _check_alike(one: Part, other: Part) -> None:
    for a, b in zip(one.columns, other.columns, strict=True):
        if a.shape != b.shape or np.dtype(a.dtype).newbyteorder("=") != np.dtype(b.dtype).newbyteorder("="):
            raise DataError(
                f"{b.file}: {b.name} has rows of shape {b.shape} and type {b.type}, but {a.file} has {a.shape} and "
                f"{a.type}; files of one data set must agree"
            )
