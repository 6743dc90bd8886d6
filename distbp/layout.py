"""How the samples of a split lie in HDF5 files, from the files' headers alone, and how rows are read from there.

A split is a group of each file (or a table: a compound data set).  Its inputs and its labels or targets are one data
set, or several side by side, each a row for a sample; a field of a compound data set counts as a data set.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError

OPEN_FILES = 16
BLOCK_BYTES = 16 * 2**20  # read at a time, where what is read is not what is kept


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
    """What one file adds to a split; `first` is its first row in the split.  No `y` where it was not asked for."""

    first: int
    rows: int
    x: tuple[Column, ...]
    y: tuple[Column, ...]
    bytes: int = 0  # of the file

    @property
    def file(self) -> str:
        """Where it is."""
        return self.x[0].file


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

    def place(self, row: int, of: str) -> str:
        """'file.h5: train/pressure,velocity, row 17' for a row of "x" or "y"."""
        part = next(part for part in reversed(self.parts) if part.first <= row)
        return f"{part.file}: {self.split}/{self.x_name if of == 'x' else self.y_name}, row {row - part.first}"


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
            with _as_data_error(part.file):
                for column in getattr(part, of):
                    columns = out[first - start : last - start, left : left + column.width]
                    _read(file, column, first - part.first, last - part.first, columns)
                    left += column.width

    def _file(self, part: Part) -> h5py.File:
        size, changed = _stamp(part.file)
        if size != part.bytes or changed != self.layout.changed.setdefault(part.file, changed):
            raise DataError(f"{part.file}: has changed since the run began; data must stay as they are while it runs")
        if part.file not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[part.file] = _open(part.file)
        return self._open[part.file]


def matching(patterns: Sequence[str]) -> list[str]:
    """The files that names and patterns such as data/*.h5 stand for: in the given order, those of a pattern by name."""
    files: list[str] = []
    for pattern in patterns:
        found = sorted(glob.glob(pattern, recursive=True))
        if not found and glob.has_magic(pattern) and not Path(pattern).exists():
            raise DataError(f"{pattern}: no file matches")
        files += [pattern] if Path(pattern).exists() or not found else found
    return files


@contextmanager
def opened(path: str) -> Iterator[h5py.File]:
    """The file, open for reading.  What h5py raises about it, in whatever way, becomes a DataError."""
    with _open(path) as file, _as_data_error(path):
        yield file


def _open(path: str) -> h5py.File:
    if not Path(path).exists():
        raise DataError(f"{path}: no such file")
    try:
        return h5py.File(path, "r", locking="best-effort")
    except (OSError, RuntimeError, ValueError) as error:
        reason = "permission denied" if isinstance(error, PermissionError) else "not an HDF5 file, or damaged"
        raise DataError(f"{path}: {reason}; a data set is an HDF5 file with a group per split") from None


@contextmanager
def _as_data_error(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read, the file is damaged or truncated: {error}") from None


def _stamp(path: str) -> tuple[int, int]:
    """Size and time of the last change; (0, 0) where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def split_names(path: str) -> list[str]:
    """The groups of a data file, and the tables at its top."""
    with opened(path) as file:
        return [*_names(file, h5py.Group), *(name for name in _names(file, h5py.Dataset) if file[name].dtype.names)]


def find(paths: Sequence[str], split: str, x: str, y: str | None, *, trust_links: bool = False) -> Layout:
    """The layout of a split.  `x`, `y`: names inside it, with commas between them; no `y`: it is not asked for.

    Raises DataError for files that cannot be trained on.
    """
    parts: list[Part] = []
    for path in paths:
        size, _ = _stamp(path)
        with opened(path) as file:
            xs = tuple(_column(file, path, split, name, "--x", trust_links) for name in _separate(x, "--x"))
            ys = (
                ()
                if y is None
                else tuple(_column(file, path, split, name, "--y", trust_links) for name in _separate(y, "--y"))
            )
        first = parts[-1].first + parts[-1].rows if parts else 0
        part = Part(first, xs[0].rows, xs, ys, size)
        _check_part(part)
        if parts:
            _check_alike(parts[0], part)
        parts.append(part)
    return Layout(split, x, y or "", tuple(parts))


def _separate(names: str, option: str) -> list[str]:
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise DataError(f"{option} {names!r}: expected the name of a data set inside the split, or several with commas")
    return found


def _column(file: h5py.File, path: str, split: str, name: str, option: str, trust_links: bool) -> Column:
    dataset, inside, field = _find(file, path, split, name, option, trust_links)
    where = f"{path}: {split}/{name}"
    if not trust_links and (dataset.is_virtual or dataset.external is not None):
        raise DataError(
            f"{where} keeps its values in other files; copy them into this one, or, if you know where "
            "the file comes from, add --trust-links"
        )
    if dataset.ndim == 0 or dataset.shape[0] == 0:
        raise DataError(f"{where} is empty; a split needs at least one sample")
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
    chunk = dataset.chunks[0] if dataset.chunks else None
    return Column(path, inside, field, len(dataset), prod(shape), dtype.str, shape, chunk)


def _find(
    file: h5py.File, path: str, split: str, name: str, option: str, trust_links: bool
) -> tuple[h5py.Dataset, str, str | None]:
    """The data set of that name and where it is; or the table, and the field of it that "table.field" means."""
    group = _follow(file, path, split, trust_links)
    if isinstance(group, h5py.Dataset) and group.dtype.names:  # the split itself is a table
        if name not in group.dtype.names:
            raise DataError(
                f"{path}: {split} has no field {name}; it has {', '.join(group.dtype.names)} (see {option})"
            )
        return group, split, name
    if not isinstance(group, h5py.Group):
        there = ", ".join(_names(file, h5py.Group)) or "none"
        raise DataError(f"{path}: no split {split!r}; the splits (groups) of this file are: {there}")
    found = _follow(file, path, f"{split}/{name}", trust_links)
    if isinstance(found, h5py.Dataset):
        return found, f"{split}/{name}", None
    table, _, field = name.rpartition(".")
    found = _follow(file, path, f"{split}/{table}", trust_links)
    if isinstance(found, h5py.Dataset) and field in (found.dtype.names or ()):
        return found, f"{split}/{table}", field
    here: list[str] = []
    for one in _names(group, h5py.Dataset):
        here += [f"{one}.{field}" for field in group[one].dtype.names] if group[one].dtype.names else [one]
    raise DataError(
        f"{path}: no data set {split}/{name}; those in {split} are: {', '.join(here) or 'none'} (see --x and --y)"
    )


def _follow(file: h5py.File, path: str, name: str, trust_links: bool) -> Any:
    """What is there under a name, or None; every step must be stored in this file, unless links are trusted."""
    item: Any = file
    for step in name.split("/"):
        link = item.get(step, getlink=True) if step and isinstance(item, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.HardLink):
            item = item[step]
            continue
        if not trust_links:
            raise DataError(
                f"{path}: {name} is a link; copy what it points to into the file, or, if you know where the file "
                "comes from, add --trust-links"
            )
        try:
            item = item[step]
        except (KeyError, OSError, RuntimeError):
            raise DataError(f"{path}: {name} is a link, and what it points to is not there") from None
    return item


def _names(group: h5py.Group, kind: type) -> list[str]:
    """What is in a group of this kind; links are left out, for what they point to may not be there."""
    return [n for n in group if isinstance(group.get(n, getlink=True), h5py.HardLink) and isinstance(group[n], kind)]


def _check_part(part: Part) -> None:
    """The columns of one file go together."""
    first = part.x[0]
    for column in (*part.x, *part.y):
        if column.rows != first.rows:
            raise DataError(
                f"{first.file}: {first.name} has {first.rows} rows and {column.name} has "
                f"{column.rows}; each sample needs one row in both"
            )
    for column in part.x:
        if column.is_text:
            raise DataError(f"{column.file}: {column.name} is of type string; expected integers or real numbers")
    if len(part.y) == 1 and part.y[0].is_text and part.y[0].width == 1:
        return
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


def _check_alike(one: Part, other: Part) -> None:
    for a, b in zip((*one.x, *one.y), (*other.x, *other.y), strict=True):
        if a.shape != b.shape or np.dtype(a.dtype).newbyteorder("=") != np.dtype(b.dtype).newbyteorder("="):
            raise DataError(
                f"{b.file}: {b.name} has rows of shape {b.shape} and type {b.type}, but {a.file} has {a.shape} and "
                f"{a.type}; files of one data set must agree"
            )


def _read(file: h5py.File, column: Column, start: int, stop: int, out: NDArray[Any]) -> None:
    dataset = file[column.dataset]
    rows: Any = dataset
    if column.field is not None:
        rows = dataset.fields(column.field)
    elif column.is_text:
        rows = dataset.asstr()
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
