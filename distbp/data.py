"""Data sets in HDF5: a group per split, each with inputs `x` and labels or targets `y`.

In memory for now: `Split.x` is a NumPy array of the file's own dtype (uint8 images stay uint8), and everything that
reads it goes through `Split.x[rows]` or `np.take`, in `distbp.feed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.batches import pieces, shard
from distbp.communicator import Communicator, agree
from distbp.errors import DataError

DIGITS = "digits.h5"
CHECK_ROWS = 65536


@dataclass(frozen=True)
class Split:
    """One split, all files end to end.

    x: (N, n_1), any numeric dtype;  y: (N,) integer class labels, or (N, n_F) real targets, or None where not asked.
    `sources`: (file, first row) of each file, to name the place of a bad value.
    """

    name: str
    x: NDArray[Any]
    y: NDArray[Any] | None
    sources: list[tuple[str, int]]
    x_name: str
    y_name: str

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_labelled(self) -> bool:
        """Whether y are integer class labels."""
        return self.y is not None and self.y.dtype.kind in "iu"

    def place(self, row: int, name: str) -> str:
        """'file.h5: train/x, row 17' for a row of this split."""
        file, first = next((f, s) for f, s in reversed(self.sources) if s <= row)
        return f"{file}: {self.name}/{name}, row {row - first}"


def data_files(paths: Sequence[str]) -> list[str]:
    """The files to open: the given ones, or the digits data set that comes with the package."""
    return list(paths) or [str(digits_path())]


def digits_path() -> Path:
    """Where digits.h5 is: inside the installed package, or in datasets/ of a checkout."""
    installed = Path(str(resources.files("distbp"))) / DIGITS
    return installed if installed.exists() else installed.parent.parent / "datasets" / DIGITS


def split_names(path: str) -> list[str]:
    """The groups of a data file."""
    with opened(path) as file:
        return _names(file, h5py.Group)


def read_split(comm: Communicator, paths: Sequence[str], split: str, x_name: str, y_name: str | None) -> Split:
    """Reads a split on every rank, and checks it, each rank its part.  Without `y_name` no labels are read.

    Raises DataError, agreed by all ranks, for anything that cannot be trained on.
    """
    data = agree(comm, lambda: _read(paths, split, x_name, y_name))
    agree(comm, lambda: _check_finite(comm, data))
    return data


@contextmanager
def opened(path: str) -> Iterator[h5py.File]:
    """The file, open for reading.  What h5py raises about it, in whatever way, becomes a DataError."""
    if not Path(path).exists():
        raise DataError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r", locking="best-effort")
    except (OSError, RuntimeError, ValueError) as error:
        reason = "permission denied" if isinstance(error, PermissionError) else "not an HDF5 file, or damaged"
        raise DataError(f"{path}: {reason}; a data set is an HDF5 file with a group per split") from None
    try:
        with file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read, the file is damaged or truncated: {error}") from None


def _read(paths: Sequence[str], split: str, x_name: str, y_name: str | None) -> Split:
    xs, ys, sources, rows = [], [], [], 0
    for path in paths:
        with opened(path) as file:
            x = _dataset(file, path, split, x_name)
            y = None if y_name is None else _dataset(file, path, split, y_name)
            if x.ndim == 0 or len(x) == 0:
                raise DataError(f"{path}: {split}/{x_name} is empty; a split needs at least one sample")
            if y is not None and (y.ndim == 0 or len(y) != len(x)):
                raise DataError(
                    f"{path}: {split}/{x_name} has {len(x)} rows and {split}/{y_name} has "
                    f"{len(y) if y.ndim else 0}; each sample needs one row in both"
                )
            xs.append(_numbers(x).reshape(len(x), -1))
            if y is not None:
                ys.append(_numbers(y) if y.ndim == 1 else _numbers(y).reshape(len(y), -1))
        sources.append((path, rows))
        rows += len(xs[-1])
        _check_alike(paths[0], xs[0], path, xs[-1], f"{split}/{x_name}")
        if ys:
            _check_alike(paths[0], ys[0], path, ys[-1], f"{split}/{y_name}")
    data = Split(split, _join(xs), _join(ys) if ys else None, sources, x_name, y_name or "")
    for name, array in ((x_name, data.x), (y_name, data.y)):
        if array is not None and array.ndim == 2 and array.shape[1] == 0:
            raise DataError(f"{paths[0]}: {split}/{name} has no columns")
    if data.y is not None and data.y.ndim == 2 and data.is_labelled:
        if data.y.shape[1] != 1:
            raise DataError(
                f"{paths[0]}: {split}/{y_name} has integers in {data.y.shape[1]} columns; class labels are (N,), "
                "real targets are floating-point numbers"
            )
        data = Split(split, data.x, data.y[:, 0], sources, x_name, data.y_name)
    elif data.y is not None and data.y.ndim == 1 and not data.is_labelled:
        data = Split(split, data.x, data.y[:, None], sources, x_name, data.y_name)
    return data


def _names(group: h5py.Group, kind: type) -> list[str]:
    """What is in a group of this kind; links are left out, for what they point to may not be there."""
    return [n for n in group if isinstance(group.get(n, getlink=True), h5py.HardLink) and isinstance(group[n], kind)]


def _dataset(file: h5py.File, path: str, split: str, name: str) -> h5py.Dataset:
    group = file[split] if split in _names(file, h5py.Group) else None
    if group is None:
        there = ", ".join(_names(file, h5py.Group)) or "none"
        raise DataError(f"{path}: no split {split!r}; the splits (groups) of this file are: {there}")
    link = group.get(name, getlink=True) if name in group.keys() else None  # noqa: SIM118
    if link is not None and not isinstance(link, h5py.HardLink):
        raise DataError(f"{path}: {split}/{name} is a link; copy what it points to into the file")
    if name not in group or not isinstance(group[name], h5py.Dataset):
        there = ", ".join(_names(group, h5py.Dataset)) or "none"
        raise DataError(f"{path}: no data set {split}/{name}; those in {split} are: {there} (see --x and --y)")
    dataset = group[name]
    if dataset.is_virtual or dataset.external is not None:
        raise DataError(f"{path}: {split}/{name} keeps its values in other files; copy them into this one")
    if dataset.dtype.kind not in "biuf" or dataset.dtype.itemsize > 8:
        raise DataError(f"{path}: {split}/{name} is of type {dataset.dtype}; expected integers or real numbers")
    return dataset


def _numbers(dataset: h5py.Dataset) -> NDArray[Any]:
    values: NDArray[Any] = dataset[()]
    return values.view(np.uint8) if values.dtype.kind == "b" else values


def _check_alike(first: str, a: NDArray[Any], path: str, b: NDArray[Any], name: str) -> None:
    if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
        raise DataError(
            f"{path}: {name} has rows of shape {b.shape[1:]} and type {b.dtype}, but {first} has {a.shape[1:]} and "
            f"{a.dtype}; files of one data set must agree"
        )


def _join(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _check_finite(comm: Communicator, data: Split) -> None:
    start, end = shard(len(data), comm.rank, comm.size)
    for name, array in ((data.x_name, data.x), (data.y_name, data.y)):
        if array is None or array.dtype.kind != "f":
            continue
        for first, last in pieces(start, end, CHECK_ROWS):
            bad = ~np.isfinite(array[first:last]).all(axis=1)
            if bad.any():
                row = first + int(bad.argmax())
                value = array[row][~np.isfinite(array[row])][0]
                raise DataError(f"{data.place(row, name)}: {value} in the data; remove or replace such rows")


def class_count(data: Split) -> int:
    """K, for labels 0 … K-1.  Raises DataError for negative labels, one class only, or absurd ones."""
    assert data.y is not None
    check_labels(data, None)
    largest = int(data.y.max())
    if int(data.y.min()) == largest:
        raise DataError(
            f"{data.place(0, data.y_name)}: all {len(data)} labels are {largest}; "
            "a classifier needs two classes or more"
        )
    if largest >= max(len(data), 1000):
        row = int(data.y.argmax())
        raise DataError(
            f"{data.place(row, data.y_name)}: label {largest} among {len(data)} samples; "
            "integers are class labels 0 … K-1; store real targets as floating-point numbers"
        )
    return largest + 1


def check_labels(data: Split, classes: int | None) -> None:
    """Raises DataError where a label is negative, or not below the number of classes of the network."""
    assert data.y is not None
    if int(data.y.min()) < 0:
        row = int(data.y.argmin())
        raise DataError(f"{data.place(row, data.y_name)}: label {data.y[row]}; class labels are 0, 1, 2, …")
    if classes is not None and int(data.y.max()) >= classes:
        row = int(data.y.argmax())
        raise DataError(
            f"{data.place(row, data.y_name)}: label {data.y[row]}, but the network knows the classes 0 … {classes - 1}"
        )
