"""HDF5 data files, opened for reading: what is in them under a name, and clear words about what is wrong with them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from distbp.errors import DataError


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
    """The file, open for reading; what h5py raises about it becomes a DataError."""
    with open_file(path) as file, damage_reported(path):
        yield file


def open_file(path: str) -> h5py.File:
    """The file, open for reading until it is closed.  Raises DataError."""
    if not Path(path).exists():
        raise DataError(f"{path}: no such file")
    try:
        return h5py.File(path, "r", locking="best-effort")
    except (OSError, RuntimeError, ValueError) as error:
        reason = "permission denied" if isinstance(error, PermissionError) else "not an HDF5 file, or damaged"
        raise DataError(f"{path}: {reason}; a data set is an HDF5 file with a group per split") from None


@contextmanager
def damage_reported(path: str) -> Iterator[None]:
    """What h5py raises about a file, in whatever way, becomes a DataError."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read, the file is damaged or truncated: {error}") from None


def stamp(path: str) -> tuple[int, int]:
    """Size and time of the last change; (0, 0) where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def split_names(path: str) -> list[str]:
    """The groups of a data file, and the tables at its top."""
    with opened(path) as file:
        return [*names_in(file, h5py.Group), *(name for name in names_in(file, h5py.Dataset) if file[name].dtype.names)]


def follow(file: h5py.File, path: str, name: str, trust_links: bool) -> Any:
    """What is there under a name, or None; every step must be stored in this file, unless links are trusted."""
    item: Any = file  # that is "/"
    for step in filter(None, name.split("/")):
        link = item.get(step, getlink=True) if isinstance(item, h5py.Group) else None
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


def names_in(group: h5py.Group, kind: type) -> list[str]:
    """What is in a group of this kind; links are left out, for what they point to may not be there."""
    return [n for n in group if isinstance(group.get(n, getlink=True), h5py.HardLink) and isinstance(group[n], kind)]
