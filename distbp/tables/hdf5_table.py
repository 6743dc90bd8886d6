"""HDF5 files as tables, for `distbp import`: simulation output, netCDF-4, or data sets in another layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.data_file import fields_of, follow, member, names_in, opened, split_names
from distbp.data.layout import find
from distbp.data.reader import Reader
from distbp.errors import DataError
from distbp.mathematics.finite import first_not_finite

BLOCK_BYTES = 8 * 2**20


class HDF5Table:
    """A split of a file, or the whole file as one ("/"): its data sets, and the fields of its tables, as columns."""

    is_text = False

    def __init__(self, path: str, split: str, *, trust_links: bool) -> None:
        self.name, self._path, self._split, self._trust_links = f"{path}: {split}", path, split, trust_links
        with opened(path) as file:
            self.columns = _columns(follow(file, path, split, trust_links), trust_links)
        if not self.columns:
            raise DataError(f"{self.name}: no data sets")

    def blocks(self, columns: Sequence[str], *, numbers: bool) -> Iterator[NDArray[Any]]:
        """See `Table`; numbers are in the type of the data sets."""
        layout = find([self._path], self._split, ",".join(columns), None, trust_links=self._trust_links)
        text = [column.name for column in layout.parts[0].x if column.is_text]
        if numbers and text:
            raise DataError(f"{self._path}: {text[0]} is of type string; expected numbers")
        with Reader(layout) as reader:
            for first, last in layout.blocks(BLOCK_BYTES):
                block = np.empty((last - first, layout.width("x")), layout.dtype("x"))
                reader.read("x", first, last, block)
                row = first_not_finite(block) if numbers else None
                if row is not None:
                    value = block[row][~np.isfinite(block[row])][0]
                    raise DataError(f"{self.place(first + row)}: {value} in {','.join(columns)}")
                yield block

    def place(self, row: int) -> str:
        """'file.h5: train, row 17'"""
        return f"{self.name}, row {row}"


def is_hdf5(path: str) -> bool:
    """Whether the file is in HDF5."""
    return bool(h5py.is_hdf5(path))


def hdf5_tables(path: str, split: str, splits: Sequence[str], *, trust_links: bool) -> dict[str, HDF5Table]:
    """The splits of a file, by name; a file with data sets in no group is as a whole the split that was asked for.

    `split`: "train", where all of `splits`, or all there are, are taken; or "test", where one is: that of this name,
    or the only one.
    """
    there = split_names(path)
    missing = [name for name in splits if name not in ("/", *there)]
    if missing:
        raise DataError(f"{path}: no split {missing[0]!r} (--split); it has {', '.join(there) or 'none'}")
    with opened(path) as file:
        is_whole = any(not fields_of(member(file, name)) for name in names_in(file, h5py.Dataset))
    chosen = list(splits) or (["/"] if is_whole else there)
    if split == "test":
        chosen = ["test"] if "test" in there and not is_whole else chosen
        if len(chosen) > 1:
            raise DataError(f"{path}: which split is for testing? It has {', '.join(chosen)}; name it with --split")
    if not chosen:
        raise DataError(f"{path}: no data sets")
    return {
        split if name == "/" or split == "test" else name: HDF5Table(path, name, trust_links=trust_links)
        for name in chosen
    }


def _columns(item: Any, trust_links: bool) -> list[str]:
    """Names of the data sets in a group, groups inside it included, and of the fields of tables."""
    if isinstance(item, h5py.Dataset):
        return fields_of(item)
    found: list[str] = []

    def add(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset) and one.ndim:
            found.extend([f"{name}.{field}" for field in fields_of(one)] or [name])

    for name, one in _all(item, "", set()):
        add(name, one)
    for name in item if trust_links else ():
        if not isinstance(item.get(name, getlink=True), h5py.HardLink):
            add(name, item.get(name))
    return found


def _all(group: h5py.Group, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """What is in a group and in groups inside it: each object once, no links."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            one = member(group, name)
            address = h5py.h5o.get_info(one.id).addr
            if address not in seen:
                seen.add(address)
                yield f"{prefix}{name}", one
                if isinstance(one, h5py.Group):
                    yield from _all(one, f"{prefix}{name}/", seen)
