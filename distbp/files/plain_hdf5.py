"""HDF5 files from anywhere, read strictly: plain arrays under names that are known beforehand, and nothing else.

Nothing is opened before its name is seen to be expected and its link to be a hard one; no array is read before it is
seen to lie in this file, whole and unpacked.  All arrays together are no larger than the file, so that a file takes
no more memory than it has bytes, whatever it declares and however often it names one array.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.errors import CheckpointError
from distbp.files.open_beside import open_beside
from distbp.files.patience import UnreadError, is_system_error, tried_again, why_not_read
from distbp.files.write_arrays import stored_type

NUMBERS = [h5py.h5t.py_create(np.dtype(name)) for name in ("float32", "float64", "int64")]
ATTRIBUTE_BYTES = 2**24  # a longer attribute is refused
MOST_ATTRIBUTES = 16
DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError)  # h5py's ways to tell of it

POINTERS = {b"version https://git-lfs": "git lfs pull", b"/annex/objects/": "git annex get"}


@contextmanager
def open_plain(path: Path, most: int) -> Iterator[PlainFile]:
    """The file, open for reading; its arrays may take `most` bytes of memory.

    Raises CheckpointError, also for what h5py finds while it is open; UnreadError where that says nothing about it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would keep us waiting
            raise CheckpointError(f"{path}: is not a file")
        with _opened(path) as file:
            if file.userblock_size:
                raise CheckpointError(f"{path}: has a user block; a checkpoint has none")
            yield PlainFile(path, file, status.st_size, most)
    except DAMAGE as error:
        raise _why_not(path, error) from None


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        beside = open_beside(path, error)
        if beside is None:
            raise
        return beside


def _why_not(path: Path, error: Exception) -> CheckpointError:
    """Why a file was not read: whether it is not there, cannot be read now, or is damaged."""
    if is_system_error(error):
        unread = UnreadError(f"{path}: cannot be read: {why_not_read(error)}; {tried_again()}, and left as it is")
        unread.may_pass = True
        return unread
    if path.is_symlink() and isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return UnreadError(
            f"{path}: is a link to {os.readlink(path)}, which is not there; put that back (git annex get, dvc checkout)"
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return CheckpointError(f"{path}: no such checkpoint")
    fetch = _stands_for(path)
    if fetch:
        return UnreadError(f"{path}: stands for a file whose content is not here; get it with: {fetch}")
    return CheckpointError(f"{path}: not a readable HDF5 file ({short(error)})")


def _stands_for(path: Path) -> str:
    """The command that gets the content of a file which only says where that is; or ""."""
    try:
        with open(path, "rb") as file:
            begin = file.read(64)
    except OSError:
        return ""
    return next((command for start, command in POINTERS.items() if begin.startswith(start)), "")


def short(text: object) -> str:
    """On one line, and not longer than a line or two, for messages about what may be very long."""
    words = " ".join(str(text).split())
    return words if len(words) <= 240 else words[:240] + "…"


@dataclass(frozen=True)
class Expected:
    """The arrays that a file must have, and may have, by their names, such as /group/array.

    Those in `text` may be strings; those in `left` may be there, and are not read; `records`: the dtypes that an array
    of records may have.
    """

    required: Set[str]
    optional: Set[str]
    text: Set[str]
    left: Set[str] = frozenset()
    records: Mapping[str, Sequence[np.dtype[Any]]] = field(default_factory=dict)

    @cached_property
    def known(self) -> Set[str]:
        """All names."""
        return self.required | self.optional | self.left


class PlainFile:
    """What is in an open file.  Its methods raise CheckpointError."""

    def __init__(self, path: Path, file: h5py.File, size: int, most: int) -> None:
        self.path, self.size, self._file, self._most = path, size, file, most

    def attribute_names(self) -> list[str]:
        """The names of the attributes of the file."""
        count = h5py.h5a.get_num_attrs(self._file.id)
        if count > MOST_ATTRIBUTES:
            raise CheckpointError(f"{self.path}: has {count} attributes")
        return sorted(self._file.attrs)

    def attribute(self, name: str) -> Any:
        """An attribute of the file that is one int64 or one string of fixed length: an integer or bytes."""
        stored = h5py.h5a.open(self._file.id, name.encode())
        kind, space = stored.get_type(), stored.get_space()
        if space.get_simple_extent_type() != h5py.h5s.SCALAR or not (kind.equal(NUMBERS[2]) or _is_text(kind)):
            raise CheckpointError(f"{self.path}: attribute {name} is of the wrong type")
        if kind.get_size() > min(ATTRIBUTE_BYTES, self.size):
            raise CheckpointError(f"{self.path}: attribute {name} is of {kind.get_size()} bytes")
        return self._file.attrs[name]

    def arrays(self, expected: Expected) -> dict[str, NDArray[Any]]:
        """All arrays of the file, by their names."""
        groups = {name[:i] for name in expected.known for i, letter in enumerate(name) if letter == "/" and i}
        found: dict[str, NDArray[Any]] = {}
        self._read(self._file, "", expected, groups, found)
        missing = sorted(expected.required - found.keys())
        if missing:
            raise CheckpointError(f"{self.path}: {missing[0]} is missing")
        return found

    def _read(
        self, group: h5py.Group, prefix: str, expected: Expected, groups: Set[str], found: dict[str, NDArray[Any]]
    ) -> None:
        if prefix and h5py.h5a.get_num_attrs(group.id):
            raise CheckpointError(f"{self.path}: {prefix} has attributes; a checkpoint has them at its top only")
        for name in group:
            where = f"{prefix}/{name}"
            if where not in expected.known and where not in groups:
                raise CheckpointError(f"{self.path}: {short(ascii(where))} does not belong into a checkpoint")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise CheckpointError(f"{self.path}: {where} is a link; a checkpoint has none")
            item = group[name]
            if where in groups:
                if not isinstance(item, h5py.Group):
                    raise CheckpointError(f"{self.path}: {where} is not a group")
                self._read(item, where, expected, groups, found)
            elif where not in expected.left:
                found[where] = self._array(item, where, expected, sum(a.nbytes for a in found.values()))

    def _array(self, item: Any, where: str, expected: Expected, before: int) -> NDArray[Any]:
        """The values of a plain array, where all that was read before has so many bytes."""
        if not isinstance(item, h5py.Dataset):
            raise CheckpointError(f"{self.path}: {where} is not an array of numbers")
        how, kind = item.id.get_create_plist(), item.id.get_type()
        plain = how.get_layout() == h5py.h5d.CONTIGUOUS and not how.get_external_count() and not how.get_nfilters()
        if not plain or h5py.h5a.get_num_attrs(
            item.id
        ):  # first of all: to ask a virtual one for its shape opens others
            raise CheckpointError(f"{self.path}: {where} is not a plain array that is stored in this file")
        allowed = NUMBERS
        if where in expected.records:
            allowed = [stored_type(dtype) for dtype in expected.records[where]]
        is_good = any(kind.equal(one) for one in allowed) or (where in expected.text and _is_text(kind))
        if not is_good or item.shape is None:
            raise CheckpointError(f"{self.path}: {where} is not an array of numbers")
        count, begin = prod(item.shape), item.id.get_offset()
        size = count * kind.get_size()
        inside = item.id.get_storage_size() == size and (not size or (begin is not None and begin + size <= self.size))
        if not inside or before + size > self.size:
            raise CheckpointError(f"{self.path}: {where} declares {count} values but does not store them")
        try:
            if before + size > self._most:  # a file may have holes, and be longer than a disk
                raise MemoryError
            return np.asarray(item[()])
        except MemoryError:
            raise UnreadError(
                f"{self.path}: {where}: {count} values do not fit into the memory that is free on this node"
            ) from None


def _is_text(kind: Any) -> bool:
    return isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
