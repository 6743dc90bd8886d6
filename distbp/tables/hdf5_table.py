"""HDF5 files as tables, for `distbp import`: simulation output, netCDF-4, or data sets in another layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import prod
from typing import Any

import h5py
import numpy as np

from distbp.data.choice import is_meant
from distbp.data.data_file import fields_of, follow, member, names_in, opened, split_names
from distbp.data.layout import Column, Layout
from distbp.data.locate import ANONYMOUS, find
from distbp.data.names import Name, quoted
from distbp.data.overlap import check_overlap
from distbp.data.parts_of_names import by_part
from distbp.data.plain_array import NoNumbers
from distbp.data.reader import Reader
from distbp.data.stored import is_column, open_stored, why_not_data
from distbp.data.turned_over import turned_over
from distbp.errors import DataError
from distbp.tables.table import TableColumn, Values

BLOCK_BYTES = 8 * 2**20
WHOLE = "/"


class HDF5Table:
    """A split of a file, or the whole file as one ("/"): its data sets, and the fields of its tables, as columns."""

    is_text = False

    def __init__(
        self,
        path: str,
        split: str,
        *,
        trust_links: bool = False,
        each: bool = False,
        own: Mapping[str, str] | None = None,
    ) -> None:
        """`own`: the only columns, by what they are called here, and their names in the file; None: all of them."""
        self.name, self._path, self._split, self._trust_links, self._each = (
            f"{path}: {split}",
            path,
            split,
            trust_links,
            each,
        )
        with opened(path) as file:
            self._columns = list(_columns(path, follow(file, path, split, trust_links), trust_links, each))
        self._own = own or {}
        if own is not None:
            names = {old: new for new, old in own.items()}
            self._columns = [replace(one, name=names[one.name]) for one in self._columns if one.name in names]
        self._by_name = {column.name: column for column in self._columns}

    @property
    def columns(self) -> Sequence[TableColumn]:
        return self._columns

    def column(self, name: str) -> TableColumn:
        """See `Table`; also what brackets, stars and @ mean, see `distbp.data.names`."""
        known = self._by_name.get(name)
        if known and not known.not_data and not self._each:
            return known
        layout = self._find([name])
        units = layout.units("x")
        return TableColumn(
            name, units[0] if units else "", layout.names("x"), known.not_data if known else "", layout.notes_of("x")
        )

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        """See `Table`; numbers are in the type of the data sets."""
        layout = self._find(names)
        groups = _together(layout.parts[0].x)
        with Reader(layout) as reader:
            for first, last in layout.blocks(BLOCK_BYTES):
                block: list[Values] = []
                for begin, end in groups:
                    reader.layout = _columns_of(layout, begin, end)
                    block += _values(reader, first, last)
                yield block

    def place(self, row: int) -> str:
        """'file.h5: train, row 17'"""
        return f"{self.name}, row {row}"

    def check_overlap(self, x: Sequence[str], y: Sequence[str]) -> None:
        """Raises UsageError where two of these names take the same numbers."""
        check_overlap(self._find(x, y))

    def notes_on(self, x: Sequence[str], y: Sequence[str]) -> list[str]:
        """What may be wrong with inputs and targets together, in words for the user."""
        return [f"warning: {note}" for note in turned_over(self._find(x, y))] if x and y else []

    def _find(self, x: Sequence[str], y: Sequence[str] = ()) -> Layout:
        of_x, of_y = (",".join(map(self._in_file, names)) for names in (x, y))
        try:
            return find([self._path], self._split, of_x, of_y or None, trust_links=self._trust_links, each=self._each)
        except DataError as error:  # which option has the name is not known here
            raise DataError(str(error).removesuffix(" (see --x)")) from None

    def _in_file(self, name: str) -> str:
        """A name as it stands for something in the file, in quotes where no more than a name is meant."""
        if name in self._by_name:
            return quoted(self._own.get(name, name))
        path = Name(name).path
        if self._own and path not in self._own:
            raise DataError(f"{self.name}: no column {quoted(name)}; it has {', '.join(map(quoted, self._own))}")
        return self._own[path] + name[len(path) :] if self._own else name


def _together(columns: Sequence[Column]) -> list[tuple[int, int]]:
    """Neighbours that can be read into one array."""
    groups, at = [], 0
    for _, group in groupby(columns, lambda column: (column.dtype, column.is_direct)):
        count = len(list(group))
        groups.append((at, at + count))
        at += count
    return groups


def _columns_of(layout: Layout, begin: int, end: int) -> Layout:
    return replace(layout, parts=tuple(replace(part, x=part.x[begin:end]) for part in layout.parts))


def _values(reader: Reader, first: int, last: int) -> list[Values]:
    """The values of each column of a layout."""
    layout = reader.layout
    block = np.empty((last - first, layout.width("x")), layout.dtype("x"))
    missing = np.zeros(block.shape, np.bool_)
    reader.read("x", first, last, block, missing)
    found, left = [], 0
    for column in layout.parts[0].x:
        own, gaps = block[:, left : left + column.width], missing[:, left : left + column.width]
        found.append(Values(own, gaps if gaps.any() else None))
        left += column.width
    return found


def is_hdf5(path: str) -> bool:
    """Whether the file is in HDF5."""
    return bool(h5py.is_hdf5(path))


def hdf5_tables(
    path: str,
    split: str,
    splits: Sequence[str],
    *,
    names: Sequence[str] = (),
    trust_links: bool = False,
    each: bool = False,
) -> dict[str, HDF5Table]:
    """The splits of a file, by name; a file with data sets in no group is as a whole the split that was asked for.

    `split`: "train", where all of `splits`, or all there are, are taken; or "test", where one is: that of this name,
    or the only one.  `names`: of columns that are needed: groups that have them all are splits, and where none has, the
    file as a whole is one.
    """
    chosen = list(splits) or _splits(path, names, trust_links=trust_links, each=each)
    if chosen == [WHOLE] and not splits and (parts := _parts(path, names, trust_links=trust_links, each=each)):
        if split == "test" and "test" not in parts:
            raise DataError(f"{path}: which split is for testing? It has {', '.join(parts)} by the names in it")
        return {"test": parts["test"]} if split == "test" else parts
    there = split_names(path)
    if split == "test" and chosen != [WHOLE]:
        chosen = ["test"] if "test" in (there if splits else chosen) else chosen
    if split == "test" and len(chosen) > 1:
        raise DataError(f"{path}: which split is for testing? It has {', '.join(chosen)}; name it with --split")
    with opened(path) as file:
        for name in chosen:
            item = follow(file, path, name, trust_links)
            if not isinstance(item, h5py.Group) and not (isinstance(item, h5py.Dataset) and fields_of(item)):
                raise DataError(f"{path}: no split {name!r} (--split); it has {', '.join(there) or 'none'}")
    return {
        split if name == WHOLE or split == "test" else name: HDF5Table(path, name, trust_links=trust_links, each=each)
        for name in chosen
    }


def _parts(path: str, names: Sequence[str], *, trust_links: bool, each: bool) -> dict[str, HDF5Table]:
    """The parts of a file whose names tell them (x_train, x_test), if each of them has what is needed; or {}."""
    whole = HDF5Table(path, WHOLE, trust_links=trust_links, each=each)
    parts = by_part([column.name for column in whole.columns if not column.not_data])
    found = {part: HDF5Table(path, WHOLE, trust_links=trust_links, each=each, own=own) for part, own in parts.items()}
    return found if all(_has(table, name) for table in found.values() for name in names) else {}


def _splits(path: str, names: Sequence[str], *, trust_links: bool, each: bool) -> list[str]:
    """The splits of a file where the user has named none.  Raises DataError where there are no data."""
    with opened(path) as file:
        coded = [name for name in names_in(file, h5py.Group) if is_column(member(file, name))]
        has_top = any(not fields_of(member(file, name)) for name in names_in(file, h5py.Dataset)) or bool(coded)
    if not names and has_top:
        return [WHOLE]
    splits = [name for name in split_names(path) if name not in coded]
    tables = {name: HDF5Table(path, name, trust_links=trust_links, each=each) for name in splits}
    found = [name for name, table in tables.items() if table.columns and all(_has(table, one) for one in names)]
    if found and not (has_top and _has_all(path, names, trust_links=trust_links, each=each)):
        return found
    if names or has_top:
        return [WHOLE]
    raise DataError(f"{path}: no data sets")


def _has_all(path: str, names: Sequence[str], *, trust_links: bool, each: bool) -> bool:
    table = HDF5Table(path, WHOLE, trust_links=trust_links, each=each)
    return all(_has(table, name) for name in names)


def _has(table: HDF5Table, name: str) -> bool:
    if any(column.name == name for column in table.columns):
        return True
    try:
        table.column(name)
    except DataError:
        return False
    return True


def _columns(path: str, item: Any, trust_links: bool, each: bool) -> Iterator[TableColumn]:
    """The data sets in a group, in groups inside it too, coded groups, and the fields of tables."""
    if isinstance(item, h5py.Dataset):
        for field in fields_of(item):
            yield _column(path, field, item, field, each)
        return
    for name, one in _all(item, "", set()):
        yield from _of_item(path, name, one, each)
    for name in item if trust_links else ():
        if not isinstance(item.get(name, getlink=True), h5py.HardLink):
            yield from _of_item(path, name, item.get(name), each)


def _of_item(path: str, name: str, one: Any, each: bool) -> Iterator[TableColumn]:
    for field in fields_of(one) if isinstance(one, h5py.Dataset) else ():
        yield _column(path, f"{name}.{field}", one, field, each)
    if is_column(one) or (isinstance(one, h5py.Dataset) and not fields_of(one)):
        yield _column(path, name, one, None, each)


def _column(path: str, name: str, item: Any, field: str | None, each: bool) -> TableColumn:
    """What is known of a column without reading it; what cannot be read is no data."""
    why = why_not_data(item, name)
    if not why and field is None and isinstance(item, h5py.Dataset) and not item.shape:
        why = "a single value"
    try:
        stored = open_stored(item.file, path, item, field)
    except DataError as error:
        if isinstance(error, NoNumbers) and is_meant(name):
            return TableColumn(name, not_data=why)
        return TableColumn(name, not_data=why or str(error).removeprefix(f"{path}: ").partition(";")[0])
    width = prod(stored.shape[1:])
    names = stored.columns or ((name,) if width == 1 and name not in ANONYMOUS else ())
    return TableColumn(name, stored.units, names, why, stored.notes, None if each else next(iter(stored.shape), None))


def _all(group: h5py.Group, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """What is in a group and in groups inside it: each object once, no links; a coded group is one thing."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            one = member(group, name)
            address = h5py.h5o.get_info(one.id).addr
            if address not in seen:
                seen.add(address)
                yield f"{prefix}{name}", one
                if isinstance(one, h5py.Group) and not is_column(one):
                    yield from _all(one, f"{prefix}{name}/", seen)
