"""HDF5 data files, opened for reading: what is in them under a name, and clear words about what is wrong with them."""

from __future__ import annotations

import errno
import glob
import os
import shlex
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import h5py

from distbp.data.string_rows import check_openable
from distbp.errors import DataError
from distbp.files.open_beside import open_beside
from distbp.files.write_failure import system_code

# HDF5 filters whose plugins come with the package hdf5plugin, by their registered numbers.
PLUGINS = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
}
MEND_PLUGIN = (
    "pip install hdf5plugin, and start distbp with\n"
    "  export HDF5_PLUGIN_PATH=$(python -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)')"
)
SIGNATURE = b"\x89HDF\r\n\x1a\n"
DRIVERS = {
    b"NCSAfami": "is a part of a file that HDF5 has written in parts (its family driver); join them, with "
    "h5repart -family_to_sec2 'name%d.h5' whole.h5, which comes with HDF5",
    b"NCSAmult": "is a part of a file that HDF5 has written in two or more parts (its split or multi driver); read it "
    "with h5py.File(name, driver='split'), and write its data sets to one file",
}
DRIVER_BYTES = 4096  # at the beginning of a file, where the name of the driver is

BEGINNING = 4096  # bytes
REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "permission denied; every rank needs to read it",
    errno.EISDIR: "is a directory; name the files in it, with a pattern such as 'data/*.h5'",
}


def matching(patterns: Sequence[str]) -> list[str]:
    """The files that names and patterns such as data/*.h5 stand for: in the given order, those of a pattern by name."""
    files: list[str] = []
    for pattern in patterns:
        found = sorted(glob.glob(pattern, recursive=True))
        if not found and glob.has_magic(pattern) and not os.path.exists(pattern):
            raise DataError(f"{pattern}: no file matches")
        files += [pattern] if os.path.exists(pattern) or not found else found
    return files


@contextmanager
def opened(path: str) -> Iterator[h5py.File]:
    """The file, open for reading; what h5py raises about it becomes a DataError."""
    with open_file(path) as file, damage_reported(path):
        yield file


def open_file(path: str) -> h5py.File:
    """The file, open for reading until it is closed.  Raises DataError."""
    check_is_file(path)
    try:
        return h5py.File(h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY, _reading()))
    except (OSError, RuntimeError, ValueError) as error:
        beside = open_beside(path, error)
        if beside is not None:
            return beside
        raise DataError(f"{path}: {_written_in_parts(path) or _why_not_opened(error, path)}") from None


@cache
def _reading() -> Any:
    """How files are opened: as by h5py.File(path, locking="best-effort"), which makes this anew for each file."""
    how = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    how.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    how.set_file_locking(True, True)  # and not where there are no locks
    return how


def _written_in_parts(path: str) -> str:
    """The driver of HDF5 that has written a file, where that is one that makes several files of one; or ""."""
    try:
        with open(path, "rb") as file:
            begin = file.read(DRIVER_BYTES)
    except OSError:
        return ""
    is_hdf5 = begin.startswith(SIGNATURE)
    return next((words for name, words in DRIVERS.items() if is_hdf5 and name in begin), "")


def check_is_file(path: str) -> None:
    """Raises DataError for what can be read once only, such as a pipe; opening it would wait for a writer."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise DataError(f"{path}: is a pipe or a device; expected a file, for it is read more than once")


def stamp(path: str) -> tuple[int, int]:
    """Size and time of the last change.  Raises DataError where there is no file to be seen."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: {_why_not_opened(error, path)}") from None
    return status.st_size, status.st_mtime_ns


def beginning(descriptor: int) -> int:
    """A checksum of the first bytes of an open file: of HDF5's superblock, and of most headers in a small file."""
    return zlib.crc32(os.pread(descriptor, BEGINNING, 0))


@contextmanager
def damage_reported(where: str) -> Iterator[None]:
    """What h5py raises about a file, in whatever way, becomes a DataError that says where."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: text that is not UTF-8: {error.object!r}; write it as UTF-8") from None
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: {_why_not_read(error)}") from None


def _why_not_read(error: Exception) -> str:
    """What is damaged, where anything is, and how to mend it."""
    words, code = " ".join(str(error).split()), system_code(error)  # HDF5's words may have several lines
    if isinstance(error, TypeError) and "NumPy equivalent" in words:
        return f"is of a type that NumPy does not have ({words}); store it as numbers"
    if "can't open directory" in words or "not registered" in words or "filter plugin" in words:
        return f"is compressed by an HDF5 filter that is not installed; for most filters:\n  {MEND_PLUGIN}"
    if code:
        return f"cannot be read: {os.strerror(code)}; that is no damage of the file, try again when it is mended"
    return f"cannot be read, the file is damaged or truncated: {words}; write or copy it again"


def why_not_decodable(dataset: h5py.Dataset) -> str:
    """The HDF5 filter that some values have gone through and that is not installed here, and who has it; or ""."""
    how = dataset.id.get_create_plist()
    for i in range(how.get_nfilters()):
        number, _, _, own_name = how.get_filter(i)
        if h5py.h5z.filter_avail(number) or not _is_used(dataset, i):
            continue
        known, name = number in PLUGINS, PLUGINS.get(number) or ascii(own_name[:40].decode(errors="replace"))
        mend = MEND_PLUGIN if known else "install its plugin, and name the directory of it in HDF5_PLUGIN_PATH"
        return f"is compressed by {name} (HDF5 filter {number}), which is not installed; {mend}"
    return ""


def _is_used(dataset: h5py.Dataset, i: int) -> bool:
    """Whether filter i is; one that makes a chunk no smaller may have been left out, for all of them."""
    if not hasattr(dataset.id, "chunk_iter"):  # HDF5 before 1.12.3
        return True
    return bool(dataset.id.chunk_iter(lambda chunk: None if chunk.filter_mask & 1 << i else True))


def why_not_typed(dataset: h5py.Dataset) -> str:
    """The field of a table, or the data set, that has a type that NumPy does not have; or ""."""
    kind = dataset.id.get_type()
    try:
        _ = kind.dtype
        return ""
    except TypeError as error:
        words = f"is of a type that NumPy does not have ({error}); store it as numbers"
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        for i in range(kind.get_nmembers()):
            try:
                _ = kind.get_member_type(i).dtype
            except TypeError as error:
                name = kind.get_member_name(i).decode(errors="replace")
                return f"has a field {name} of a type that NumPy does not have ({error}); store it as numbers"
    return words


def _why_not_opened(error: Exception, path: str) -> str:
    """What the system or HDF5 says, and how to mend it."""
    code, words = getattr(error, "errno", None), str(error)
    if "unable to lock file" in words:
        return (
            "cannot be locked for reading: another program has it open for writing, or its file system has no locks; "
            "close it there, or, if nobody writes to it, set HDF5_USE_FILE_LOCKING=FALSE in the environment"
        )
    if "already open for write" in words:  # a mark in the file itself
        return (
            "is marked as open for writing: another program has it open, or was ended before it closed it; close it "
            "there, or, if nobody writes to it, remove the mark with h5clear -s, which comes with HDF5"
        )
    if "truncated file" in words:
        return "is truncated, or was never closed by the program that wrote it; write or copy it again"
    if code in REASONS:
        return REASONS[code]
    if code is not None:
        return os.strerror(code)
    return (
        "not an HDF5 file, or damaged; a data set is an HDF5 file with a group per split, which is made of CSV, NPY, "
        f"Parquet, netCDF and others by distbp import {shlex.quote(path)} --out data.h5"
    )


def split_names(path: str) -> list[str]:
    """The groups of a data file, and the tables at its top."""
    with opened(path) as file:
        tables = (name for name in names_in(file, h5py.Dataset) if fields_of(member(file, name)))
        return [*names_in(file, h5py.Group), *tables]


def fields_of(dataset: h5py.Dataset) -> list[str]:
    """Of a table its fields, also where one has a type that NumPy does not have; none of another data set."""
    try:
        return list(dataset.dtype.names or ())
    except TypeError:
        kind = dataset.id.get_type()
    if not isinstance(kind, h5py.h5t.TypeCompoundID):
        return []
    return [kind.get_member_name(i).decode(errors="replace") for i in range(kind.get_nmembers())]


def follow(file: h5py.Group, path: str, name: str, trust_links: bool, source: tuple[int, int] | None = None) -> Any:
    """What is there under a name of a file or group, or None.

    Every step must be stored in this file, unless links are trusted; `path` names the file in messages.  `source`: see
    `check_openable`, where no link leads out of the file.
    """
    item: Any = file  # that is "/"
    for step in filter(None, name.split("/")):
        link = _link(item, step)
        if link is None:
            return None
        if link.type == h5py.h5l.TYPE_HARD:
            item = _opened_member(item, step, link.u, source)
            continue
        where = f"{file.name}/{name}".lstrip("/")
        if not trust_links:
            raise DataError(
                f"{path}: {where} is a link; copy what it points to into the file, or, if you know where the file "
                "comes from, add --trust-links"
            )
        try:
            item = item[step]
        except (KeyError, OSError, RuntimeError):
            raise DataError(f"{path}: {where} is a link, and what it points to is not there") from None
    return item


def _link(item: Any, name: str) -> Any:
    """What HDF5 says of the link of this name in a group; None where there is none, or no group."""
    if not isinstance(item, h5py.Group):
        return None
    links, stored = item.id.links, os.fsencode(name)
    return links.get_info(stored) if links.exists(stored) else None


def is_in_one_piece(dataset: h5py.Dataset) -> bool:
    """Whether values lie in one piece of the file itself: no chunks, no other files."""
    return dataset.chunks is None and not dataset.is_virtual and dataset.external is None


def missing_source(path: str, dataset: h5py.Dataset) -> str:
    """A file that a virtual data set takes values from and that is not there: they would be fill values; or ""."""
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        name = source.file_name
        beside = os.path.join(os.path.dirname(path), name)
        if name != "." and "%" not in name and not os.path.exists(name) and not os.path.exists(beside):
            return str(name)
    return ""


def names_in(group: h5py.Group, kind: type) -> list[str]:
    """What is in a group of this kind; links are left out, for what they point to may not be there."""
    names = (n for n in group if isinstance(group.get(n, getlink=True), h5py.HardLink))
    return [n for n in names if isinstance(member(group, n), kind)]


def member(group: h5py.Group, name: str) -> Any:
    """What is in a group under a name.  Raises DataError where HDF5 could not open it without harm."""
    return _opened_member(group, name, group.id.links.get_info(os.fsencode(name)).u)


def _opened_member(group: h5py.Group, name: str, address: int, source: tuple[int, int] | None = None) -> Any:
    """The same of a member whose header is at an address; to ask the object itself for it would open it."""
    try:
        check_openable(group, name, address, source)
    except ValueError as error:
        where = f"{group.file.filename}: {group.name.rstrip('/')}/{name}".replace(": /", ": ")
        raise DataError(f"{where}: {error}; the file is damaged or truncated, write or copy it again") from None
    found = h5py.h5o.open(group.id, os.fsencode(name))
    if isinstance(found, h5py.h5d.DatasetID):
        return h5py.Dataset(found, readonly=True)
    return h5py.Group(found) if isinstance(found, h5py.h5g.GroupID) else h5py.Datatype(found)
