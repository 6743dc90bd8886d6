"""Finds the samples of splits in HDF5 files, from the files' headers alone: names and what they mean, made a layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import h5py
import numpy as np

from distbp.counted import counted
from distbp.data.chunk_check import check_chunks
from distbp.data.data_file import (
    beginning,
    fields_of,
    follow,
    is_in_one_piece,
    member,
    missing_source,
    names_in,
    opened,
    stamp,
    why_not_decodable,
    why_not_typed,
)
from distbp.data.layout import CLASSES, TARGETS, Column, Layout, Part, few, inside
from distbp.data.names import FILE, GROUP, Index, Name, parse, quoted
from distbp.data.same_make import Make, make_of
from distbp.data.selection import Selection, select
from distbp.data.stored import Stored, is_column, open_stored
from distbp.data.string_rows import bytes_of_file
from distbp.errors import DataError

ANONYMOUS = ("x", "y")  # what such a data set is called says nothing about the number in it
LONGEST_ATTRIBUTE = 4096  # numbers
DEEPEST, MOST_LOOKED_AT = 3, 1000  # groups inside groups, and names in one, that are looked through for a message
SHARED = ("dataset", "field", "dtype", "shape", "names", "units", "selection", "brackets", "axis", "notes")


@dataclass(frozen=True)
class Asked:
    """What is asked for of data files: the names of x and of y (None: no y), and how they are meant.

    `each`: a file, or with stars a group, is one sample.  `task`: what y is, see `Layout`.
    """

    x: str | None
    y: str | None
    trust_links: bool = False
    each: bool = False
    task: str = "auto"


@dataclass(frozen=True)
class _Place:
    """Where names are looked up: a split of an open file, and the groups that the stars of names stand for."""

    file: h5py.File
    path: str
    split: str
    asked: Asked
    stars: tuple[str, ...] = ()
    known: dict[str, Any] = field(default_factory=dict)  # what was found in the file, by its path
    source: tuple[int, int] | None = None  # of the file: see `bytes_of_file`
    makes: dict[tuple[str, Name], Make | None] = field(default_factory=dict)  # of names that were found in other places

    def inside(self, name: str) -> str:
        """The path in the file; each star is the group that it stands for."""
        steps, left = name.split("/"), list(self.stars)
        return inside(self.split, "/".join(left.pop(0) if step == "*" and left else step for step in steps))

    def follow(self, name: str) -> Any:
        """What is there under a path of the file, or None."""
        if name not in self.known:
            self.known[name] = self._look(name)
        return self.known[name]

    def _look(self, name: str) -> Any:
        above, _, last = name.strip("/").rpartition("/")
        group = self.follow(above) if above else self.file
        if not isinstance(group, h5py.Group) or not last:
            return self.file if not last else None
        return follow(group, self.path, last, self.asked.trust_links, self.source)


def find(
    paths: Sequence[str],
    split: str,
    x: str | None,
    y: str | None,
    *,
    trust_links: bool = False,
    each: bool = False,
    task: str = "auto",
) -> Layout:
    """The layout of a split.  `x`, `y`: names inside it, with commas between them; None: not asked for.

    Raises DataError for files that cannot be trained on.
    """
    return find_splits(paths, [split], Asked(x, y, trust_links, each, task))[split]


def find_splits(paths: Sequence[str], splits: Sequence[str], asked: Asked) -> dict[str, Layout]:
    """The layouts of some splits; each file is opened once.  Raises DataError."""
    xs, ys = (parse(text, option) if text is not None else () for text, option in ((asked.x, "--x"), (asked.y, "--y")))
    parts: dict[str, list[Part]] = {split: [] for split in splits}
    left_out: dict[str, list[str]] = {split: [] for split in splits}
    makes: dict[str, dict[tuple[str, Name], Make | None]] = {split: {} for split in splits}
    for path in paths:
        size, _ = stamp(path)
        with opened(path) as file:
            known: dict[str, Any] = {}
            source = bytes_of_file(file)
            begin = beginning(source[0])
            for split in splits:
                whole = _Place(file, path, split, asked, (), known, None if asked.trust_links else source, makes[split])
                if len(paths) > 1 and any(_is_empty(whole, name) for name in (*xs, *ys)):
                    left_out[split].append(f"{path}: {split}, which has no rows")
                    continue
                for place in _places(whole, (*xs, *ys), left_out[split]):
                    parts[split].append(_part(place, xs, ys, size, begin, parts[split]))
    for split in splits:
        if not parts[split]:
            names = few([str(name) for name in (*xs, *ys)])
            raise DataError(f"{', '.join(paths)}: no group of {split} has all of {names}")
    return {
        split: Layout(
            split, asked.x or "", asked.y or "", tuple(found), task=asked.task, left_out=tuple(left_out[split])
        )
        for split, found in parts.items()
    }


def _part(place: _Place, xs: Sequence[Name], ys: Sequence[Name], size: int, begin: int, before: Sequence[Part]) -> Part:
    """What a file has at a place.  `before`: the parts of the split that come before it."""
    x, y = (
        tuple(_column(place, name, option, alone=len(names) == 1) for name in names)
        for names, option in ((xs, "--x"), (ys, "--y"))
    )
    rows = next((column.rows for column in (*x, *y) if column.constant is None), 1)
    x, y = (
        tuple(replace(column, rows=rows) if column.constant is not None else column for column in columns)
        for columns in (x, y)
    )
    first = before[-1].first + before[-1].rows if before else 0
    part = Part(first, rows, x, y, size, begin)
    _check_part(part, place)
    if not before:
        names: dict[Any, str] = {}  # of each data set the first one
        return replace(part, x=_aliased(place, x, names), y=_aliased(place, y, names))
    _check_alike(before[0], part)
    return replace(part, x=tuple(map(_shared, before[0].x, x)), y=tuple(map(_shared, before[0].y, y)))


def _places(place: _Place, names: Sequence[Name], left_out: list[str]) -> Iterator[_Place]:
    """The place itself; where names have stars, one for each way of replacing them by groups that has all names."""
    starred = [name for name in names if name.stars]
    if not starred:
        yield place
        return
    if len({name.stars for name in starred}) > 1:
        raise DataError(
            f"{place.path}: {few([str(name) for name in starred])}: expected as many stars in each name that has some"
        )
    longest = max((name.path.split("/") for name in starred), key=lambda steps: _last_star(steps))
    for stars in _stars(place, longest[: _last_star(longest) + 1], inside(place.split, "")):
        one = replace(place, stars=stars)
        if all(_is_there(one, name) for name in starred):
            yield one
        else:
            left_out.append(f"{place.path}: {'/'.join(stars)}")


def _last_star(steps: Sequence[str]) -> int:
    return max(i for i, step in enumerate(steps) if step == "*")


def _stars(place: _Place, steps: Sequence[str], above: str) -> Iterator[tuple[str, ...]]:
    """The groups that the stars of a path can stand for, in the order of their names."""
    if not steps:
        yield ()
        return
    if steps[0] != "*":
        yield from _stars(place, steps[1:], f"{above}/{steps[0]}".lstrip("/"))
        return
    group = place.follow(above)
    for name in names_in(group, h5py.Group) if isinstance(group, h5py.Group) else ():
        for rest in _stars(place, steps[1:], f"{above}/{name}".lstrip("/")):
            yield (name, *rest)


def _is_there(place: _Place, name: Name) -> bool:
    """Whether a starred name has something, with samples, at this place."""
    path, at, attribute = name.path.rpartition("@")
    if at and (attribute in ("group", "file")):
        return True
    item, _, _ = _item(place, path.rstrip("/") if at else name.path)
    if at:
        return item is not None and attribute in item.attrs
    return item is not None and not (isinstance(item, h5py.Dataset) and item.size == 0)


def _is_empty(place: _Place, name: Name) -> bool:
    """Whether a name is that of a data set without rows: a simulation may have written nothing yet."""
    item, _, _ = (None, "", None) if name.stars else _item(place, name.path)
    return isinstance(item, h5py.Dataset) and item.shape is not None and item.shape[:1] == (0,)


def _item(place: _Place, name: str) -> tuple[Any, str, str | None]:
    """What a name is at a place: a data set or a coded group, its path; or a table, its path and the field; or None."""
    group = place.follow(place.split)
    if isinstance(group, h5py.Dataset):  # the split itself is a table
        return (group, place.split, name) if name in fields_of(group) else (None, place.split, None)
    path = place.inside(name)
    found = place.follow(path) if name else group
    if isinstance(found, h5py.Dataset | h5py.Group):
        return found, path, None
    table, _, field = name.rpartition(".")
    found = place.follow(place.inside(table)) if table else None
    if isinstance(found, h5py.Dataset) and field in fields_of(found):
        return found, place.inside(table), field
    return None, path, None


def _column(place: _Place, name: Name, option: str, *, alone: bool) -> Column:
    """The column of a name.  `alone`: it is the only one of x, or of y.  Raises DataError."""
    _check_split(place)
    for text, index, brackets in _readings(name):
        item, path, field = _item(place, text)
        make = place.makes.get((option, name)) if field is None and index is None else None
        if make and isinstance(item, h5py.Dataset) and (column := make.column_of(place.path, path, item)):
            return column
        if isinstance(item, h5py.Dataset) or (isinstance(item, h5py.Group) and is_column(item)):
            where = f"{place.path}: {inside(place.split, text)}"
            if isinstance(item, h5py.Dataset):
                _check_dataset(place, item, where, field)
            column = _found(place, _Stored(item, path, field, where), index, brackets, (text, option, alone))
            if (option, name) not in place.makes:
                is_here = isinstance(item, h5py.Dataset) and not place.asked.trust_links
                place.makes[option, name] = make_of(item, column) if is_here else None
            return column
    constant = None if name.quoted else _constant(place, name)
    if constant is not None:
        return constant
    raise DataError(_not_there(place, name, option))


def _readings(name: Name) -> Iterator[tuple[str, tuple[Index, ...] | None, str]]:
    """The path, the index and the brackets of a name: first as it was written, then without the brackets at its end."""
    yield name.text, None, ""
    if name.has_index:
        yield name.path, name.index(), name.text[len(name.path) :].strip()


@dataclass(frozen=True)
class _Stored:
    """What was found under a name."""

    item: Any
    path: str
    field: str | None
    where: str


def _found(
    place: _Place, found: _Stored, index: tuple[Index, ...] | None, brackets: str, asked: tuple[str, str, bool]
) -> Column:
    name, option, alone = asked
    item, where = found.item, found.where
    if isinstance(item, h5py.Dataset) and found.field is None and fields_of(item):
        fields = ", ".join(f"{name}.{one}" for one in fields_of(item))
        raise DataError(f"{where} is a table; name a field of it (see {option}): {fields}")
    stored = open_stored(place.file, place.path, item, found.field)
    if not stored.shape and not place.asked.each:
        raise DataError(f"{where} is a single value; a split needs a row for each sample (see --each)")
    if 0 in stored.shape[:1]:
        raise DataError(f"{where} is empty; a split needs at least one sample")
    if prod(stored.shape) == 0:
        raise DataError(f"{where} has no columns")
    selection = select(where, index, stored.shape, stored.dimensions, each=place.asked.each)
    _check_turned(place, found, index)
    shape, width = selection.shape, prod(selection.shape)
    whole = selection.is_whole(stored.shape)
    is_typed = isinstance(item, h5py.Dataset) and (found.field is None or not why_not_typed(item))
    is_as_stored = stored.is_plain and stored.dtype.kind != "O" and is_typed
    dtype = _in_file(item, found.field) if is_as_stored else stored.dtype
    is_plain = whole and is_as_stored and dtype.kind != "O"
    offset, stride = plain_place(item, found.field) if is_plain and not _is_elsewhere(place, item) else (None, 0)
    return Column(
        place.path,
        found.path,
        found.field,
        selection.rows,
        width,
        dtype.str if dtype.kind != "O" else "|O",
        shape,
        _chunk(stored, selection),
        offset,
        stride,
        names=_names(stored, name, selection, alone=alone),
        units=_units(stored, selection),
        selection=None if whole else selection,
        is_decoded=not stored.is_plain or not is_typed,
        brackets=brackets,
        axis=" x ".join(stored.dimensions[axis] for axis in selection.samples if stored.dimensions[axis]),
        notes=stored.notes,
    )


def _is_elsewhere(place: _Place, item: Any) -> bool:
    """Whether it is in another file, behind a trusted link."""
    return place.asked.trust_links and item.file != place.file


def _in_file(item: h5py.Dataset, field: str | None) -> np.dtype[Any]:
    """The type of a value as it is in the file, byte order included."""
    dtype: np.dtype[Any] = (item.dtype if field is None else item.dtype[field]).base
    return dtype


def _chunk(stored: Stored, selection: Selection) -> int | None:
    """Rows that are read together, where there are chunks, or where several axes hold the samples."""
    if not selection.samples:
        return None
    axis = selection.samples[0]
    step = selection.index[axis]
    assert isinstance(step, slice)
    outer = -(-stored.chunks[axis] // step.step) if stored.chunks else 1
    together = min(outer * selection.inner, selection.rows)
    return together if stored.chunks or together > 1 else None


def _names(stored: Stored, name: str, selection: Selection, *, alone: bool) -> tuple[str, ...]:
    width = prod(selection.shape)
    if found := _of_columns(stored.columns, stored, selection):
        return found
    if width == 1:
        return () if alone and name in ANONYMOUS else (name,)
    return () if alone else tuple(f"{name}[{i}]" for i in range(width))


def _units(stored: Stored, selection: Selection) -> tuple[str, ...]:
    """Of each column, as a data set of distbp has them; or of all, as netCDF has it."""
    if found := _of_columns(stored.column_units, stored, selection):
        return found
    return (stored.units,) * prod(selection.shape) if stored.units else ()


def _of_columns(texts: tuple[str, ...], stored: Stored, selection: Selection) -> tuple[str, ...]:
    """What is said of each number of a stored row, for those that are taken; () where it is of other numbers."""
    if not texts or selection.samples != (0,) or len(texts) != prod(stored.shape[1:]):
        return ()
    places = np.arange(len(texts)).reshape(stored.shape[1:])[selection.index[1:]]
    return tuple(texts[i] for i in places.reshape(-1))


def _constant(place: _Place, name: Name) -> Column | None:
    """An attribute, or the name of a group or file, as a column; None where the name is of no such thing."""
    path, at, attribute = name.text.rpartition("@")
    if not at:
        return None
    value: Any
    if name.text.endswith(GROUP):
        value = np.array([place.stars[-1] if place.stars else place.split], object)
    elif name.text.endswith(FILE):
        value = np.array([place.path.rpartition("/")[2]], object)
    else:
        item, _, _ = _item(place, path.rstrip("/"))
        if item is None or attribute not in item.attrs:
            return None
        value = _attribute(place, name, item, attribute)
    names = (name.text,) if value.size == 1 else tuple(f"{name.text}[{i}]" for i in range(value.size))
    dtype = "|O" if value.dtype.kind == "O" else value.dtype.newbyteorder("=").str
    return Column(
        place.path, name.text, None, 1, value.size, dtype, (), None, names=names, constant=tuple(value.tolist())
    )


def _attribute(place: _Place, name: Name, item: Any, attribute: str) -> Any:
    """The numbers of an attribute, or its text, where it has a fixed length.  Raises DataError."""
    found = item.attrs.get_id(attribute)
    where = f"{place.path}: {inside(place.split, name.text)}"
    if found.dtype.kind == "S" and found.shape in ((), (1,)):
        text = np.asarray(item.attrs[attribute]).reshape(-1)
        return np.array([one.decode().rstrip("\0 ") for one in text.tolist()], object)
    if found.dtype.kind not in "biuf" or not 0 < prod(found.shape) <= LONGEST_ATTRIBUTE:
        raise DataError(f"{where} is an attribute of type {found.dtype}, {found.shape}; expected numbers")
    values = np.asarray(item.attrs[attribute]).reshape(-1)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _check_split(place: _Place) -> None:
    group = place.follow(place.split)
    if isinstance(group, h5py.Group) or (isinstance(group, h5py.Dataset) and fields_of(group)):
        return
    if isinstance(group, h5py.Dataset) and (why := why_not_typed(group)):
        raise DataError(f"{place.path}: {place.split} {why}")
    there = ", ".join(names_in(place.file, h5py.Group)) or "none"
    whole = "; the data sets at its top are --split /" if names_in(place.file, h5py.Dataset) else ""
    raise DataError(f"{place.path}: no split {place.split!r}; the splits (groups) of this file are: {there}{whole}")


def _check_dataset(place: _Place, dataset: h5py.Dataset, where: str, field: str | None) -> None:
    """Raises DataError where values are elsewhere, are not there, or are damaged; of a table only the field counts."""
    if is_in_one_piece(dataset):
        return
    if not place.asked.trust_links and (dataset.is_virtual or dataset.external is not None):
        raise DataError(
            f"{where} keeps its values in other files; copy them into this one, or, if you know where "
            "the file comes from, add --trust-links"
        )
    if why := (why_not_typed(dataset) if field is None else "") or why_not_decodable(dataset):
        raise DataError(f"{where} {why}")
    if not place.asked.trust_links:  # then it is in this file
        check_chunks(dataset, where, stamp(place.path)[0])
    missing = missing_source(place.path, dataset)
    if missing:
        raise DataError(f"{where} takes values from {missing}, which is not there; HDF5 would put its fill value")


def _not_there(place: _Place, name: Name, option: str) -> str:
    """The words where a name is of nothing: what there is instead."""
    group = place.follow(place.split)
    if isinstance(group, h5py.Dataset):
        return f"{place.path}: {place.split} has no field {name}; it has {', '.join(fields_of(group))} (see {option})"
    table = place.follow(place.inside(name.path.rpartition(".")[0])) if "." in name.path else None
    if isinstance(table, h5py.Dataset) and (why := why_not_typed(table)):
        return f"{place.path}: {str(table.name).lstrip('/')} {why}"
    here: list[str] = []
    for one in names_in(group, h5py.Dataset):
        fields = fields_of(member(group, one))
        here += [quoted(f"{one}.{field}") for field in fields] or [quoted(one)]
    here += [quoted(one) for one in names_in(group, h5py.Group) if is_column(member(group, one))]
    deeper = ", ".join(f"{one}/…" for one in names_in(group, h5py.Group) if not is_column(member(group, one)))
    more = f"; groups: {deeper}" if deeper else ""
    further = list(_named(group, name.path.rpartition("/")[2], "", 0)) if not name.stars else []
    more += f"; there is {few([quoted(one) for one in further])}" if further else ""
    if "[" in name.text and not name.has_index and not name.quoted:
        more += "; the brackets have no end"
    return (
        f"{place.path}: no data set {inside(place.split, name.text)}; those in {place.split} are: "
        f"{few(here) or 'none'}{more} (see {option})"
    )


def _named(group: h5py.Group, last: str, prefix: str, depth: int) -> Iterator[str]:
    """Data sets, coded groups and fields of this name in groups below a group, by their paths."""
    for name in names_in(group, h5py.Group) if depth < DEEPEST else ():
        inner, path = member(group, name), f"{prefix}{name}"
        if is_column(inner):
            continue
        for one in inner if len(inner) <= MOST_LOOKED_AT else ():
            if inner.get(one, getlink=True) is None or not isinstance(inner.get(one, getlink=True), h5py.HardLink):
                continue
            item = member(inner, one)
            is_one = isinstance(item, h5py.Dataset) or is_column(item)
            if is_one and one == last:
                yield f"{path}/{one}"
            elif isinstance(item, h5py.Dataset) and last in fields_of(item):
                yield f"{path}/{one}.{last}"
        yield from _named(inner, last, f"{path}/", depth + 1)


def plain_place(dataset: h5py.Dataset, field: str | None) -> tuple[int | None, int]:
    """Where the first row begins and how far apart rows are, if they lie in the file as NumPy has them in memory."""
    if field is not None and len(dataset.shape) > 1:
        return None, 0
    if not is_in_one_piece(dataset) or dataset.dtype.hasobject:
        return None, 0
    if dataset.id.get_space_status() != h5py.h5d.SPACE_STATUS_ALLOCATED:  # never written
        return None, 0
    begin, stored = dataset.id.get_offset(), dataset.id.get_type()
    if begin is None or not stored.equal(h5py.h5t.py_create(dataset.dtype, logical=True)):
        return None, 0
    stride = prod(dataset.shape[1:]) * dataset.dtype.itemsize
    return begin + (dataset.dtype.fields[field][1] if field else 0), stride


def _check_turned(place: _Place, found: _Stored, index: tuple[Index, ...] | None) -> None:
    """Raises DataError where R's rhdf5 wrote a square matrix: nothing shows which of its axes are the samples."""
    item = found.item
    if index is not None or not _is_matrix_of_r(item):
        return
    if item.shape[0] == item.shape[1] > 1:
        raise DataError(
            f"{found.where} was written by R, which turns matrices over, and is {item.shape[0]} x {item.shape[1]}: "
            f"nothing shows which axis the samples are; write {found.path}[:, samples], or {found.path}[samples, :]"
        )


def _check_part(part: Part, place: _Place) -> None:
    """The columns of one file go together."""
    first = next((column for column in part.columns if column.constant is None), part.columns[0])
    for column in part.columns:
        if column.rows != first.rows:
            raise DataError(
                f"{first.file}: {first.name} has {counted(first.rows, 'row')} and {column.name} has "
                f"{column.rows}; each sample needs one row in both{_turn(first, column)}"
            )
    r_matrices = [column for column in part.columns if column.shape[:1] > (1,) and not column.brackets]
    if len(r_matrices) > 1 and all(_is_of_r(place, column) for column in r_matrices):
        names = " and ".join(column.name for column in r_matrices[:2])
        raise DataError(
            f"{first.file}: {names} were written by R, which turns matrices over: {first.rows} rows may be "
            f"{first.rows} columns; say which axis the samples are: {first.name}[:, samples], or "
            f"{first.name}[samples, :], and likewise for the others"
        )


def _is_of_r(place: _Place, column: Column) -> bool:
    return _is_matrix_of_r(place.follow(column.dataset))


def _is_matrix_of_r(item: Any) -> bool:
    return (
        isinstance(item, h5py.Dataset) and len(item.shape or ()) == 2 and bool(h5py.h5a.exists(item.id, b"rhdf5-NA.OK"))
    )


def _turn(first: Column, other: Column) -> str:
    """The advice where the last axis of one column is as long as the other has rows: it was written turned over."""
    for turned, straight in ((first, other), (other, first)):
        if turned.shape and turned.shape[-1] == straight.rows and not turned.brackets:
            brackets = f"[{':, ' * len(turned.shape)}samples]"
            return (
                f". The last axis of {turned.name} has {straight.rows} entries: if it is the samples, as in files of "
                f"R, MATLAB or Julia, write '{turned.name.rpartition('/')[2]}{brackets}'"
            )
    return ""


def check_kinds(layout: Layout) -> Layout:
    """The layout, if x are numbers, and y labels or targets.  Raises DataError."""
    part = layout.parts[0]
    for column in part.x:
        if column.is_text:
            raise DataError(
                f"{column.file}: {column.name} is of type string; expected integers or real numbers "
                "(distbp import makes columns of 0 and 1 of text)"
            )
    width = sum(column.width for column in part.y)
    if len(part.y) == 1 and part.y[0].is_text and width == 1 and layout.task != TARGETS:
        return layout
    for column in part.y:
        if column.is_text and layout.task == TARGETS:
            raise DataError(f"{column.file}: {column.name} is of type string; targets are numbers")
        if column.is_text:
            raise DataError(f"{column.file}: {column.name}: expected one string a sample, the name of its class")
    if width > 1 and layout.is_labelled and layout.task != CLASSES:
        names = ",".join(column.name for column in part.y)
        raise DataError(
            f"{part.file}: {names} has integers in {width} columns; class labels are (N,), real targets are "
            "floating-point numbers. One 1 among zeros in each row, which is a class: --task classes; several, or "
            "numbers that are targets: --task targets"
        )
    return layout


def _check_alike(one: Part, other: Part) -> None:
    for a, b in zip(one.columns, other.columns, strict=True):
        if a.shape != b.shape or np.dtype(a.dtype).newbyteorder("=") != np.dtype(b.dtype).newbyteorder("="):
            raise DataError(
                f"{b.file}: {b.name} has rows of shape {b.shape} and type {b.type}, but {a.file} has {a.shape} and "
                f"{a.type}; files of one data set must agree"
            )
        if a.names != b.names and a.constant is None:
            raise DataError(
                f"{b.file}: {b.name} has the columns {few(b.names)}, but {a.file} has {few(a.names)}; files of one "
                "data set must agree: import them together"
            )


def _aliased(place: _Place, columns: Sequence[Column], names: dict[Any, str]) -> tuple[Column, ...]:
    """The columns; those of a data set that has come before by another name know that name, which is in `names`."""
    found = []
    for column in columns:
        item = place.follow(column.dataset) if column.constant is None else None
        first = names.setdefault(item, column.dataset) if item is not None else column.dataset
        found.append(column if first == column.dataset else replace(column, alias=first))
    return tuple(found)


def _shared(one: Column, other: Column) -> Column:
    """The other column, with what is equal in both held in memory once: there may be 100,000 of them."""
    both = [(name, getattr(one, name), getattr(other, name)) for name in SHARED]
    same = {name: ours for name, ours, theirs in both if ours is not theirs and ours == theirs}
    return replace(other, **same) if same else other
