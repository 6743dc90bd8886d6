"""What is in a data set, in lines for a person: layout, statistics, and what `distbp train` will make of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from distbp.config import Config
from distbp.data.data_file import follow, member, opened, split_names
from distbp.data.labels import Labels, in_words, union
from distbp.data.layout import Column, Layout
from distbp.data.loading import default_window
from distbp.data.locate import check_kinds, find
from distbp.data.problem import network_for
from distbp.data.reader import Reader
from distbp.data.split import NOTHING, Split
from distbp.errors import DataError
from distbp.inspection.column_statistics import ColumnStatistics, LabelCounts
from distbp.mathematics.batches import pieces
from distbp.ranks.node_memory import free_bytes

TEST, FLOAT32 = "test", float(np.finfo(np.float32).max)
BLOCK_BYTES = 8 * 2**20  # of float64 that are looked at together
SHORT = 12  # columns, or labels, that are listed one by one
SMALL_CHUNK, LARGE_CHUNK, SMALL_DATA = 32 * 2**10, 16 * 2**20, 2**20


@dataclass(frozen=True)
class View:
    """How a data set is looked at: the names of its inputs and labels, whether links are followed and values read."""

    x: str = "x"
    y: str = "y"
    trust_links: bool = False
    statistics: bool = True
    progress: Callable[[str, int], None] = lambda stage, rows: None


@dataclass(frozen=True)
class _Found:
    """A split that could be trained on: its labels, where it has some, and why it cannot be after all."""

    layout: Layout
    labels: Labels | None
    refused: str


def describe_data(path: Path, view: View) -> Iterator[str]:
    """The lines about a file.  Raises DataError where it cannot be read."""
    name = str(path)
    splits = split_names(name)
    what = f"data set with the splits {', '.join(splits)}" if splits else "HDF5 file without splits"
    yield f"{path}: {what}; {_size(os.path.getsize(path))}"
    advice: list[str] = []
    found: dict[str, _Found] = {}
    for split in splits or ["/"]:
        layout, why = _find(name, split, view)
        with opened(name) as file:
            others = list(_others(file, name, split, layout, view))
        if layout is None:
            yield from others
            advice.append(why)
            continue
        yield f"{split}: {layout.rows} samples"
        labels, refused = None, ""
        for of, columns in (("x", layout.parts[0].x), ("y", layout.parts[0].y)):
            for column in columns:
                with opened(name) as file:
                    yield f"  {column.name}  {_stored(file, column)}"
                    advice += _advice(file, column)
                own_labels, why = yield from _values(layout, of, column, view)
                labels, refused = own_labels or labels, refused or why
        yield from others
        found[split] = _Found(layout, labels, refused)
    yield from _training(name, found, view)
    for line in dict.fromkeys(advice):
        yield f"advice: {line}"
    whole = [split for split in found if found[split].layout.y_name]
    if whole and any("chunks" in line for line in advice):
        new = shlex.quote(str(path.with_name(f"{path.stem}-contiguous.h5")))
        some = "" if whole == splits else f" --split {shlex.quote(','.join(whole))}"
        yield f"        rewrite it: distbp import {shlex.quote(name)}{some}{_names(view, always=True)} --out {new}"


def _find(name: str, split: str, view: View) -> tuple[Layout | None, str]:
    """The layout of a split that has inputs, with labels or targets if there are any; or why there is none."""
    try:
        return find([name], split, view.x, view.y, trust_links=view.trust_links), ""
    except DataError as error:
        why = str(error).removeprefix(f"{name}: ")
    try:
        return find([name], split, view.x, None, trust_links=view.trust_links), ""
    except DataError:
        return None, why


def _others(file: h5py.File, name: str, split: str, layout: Layout | None, view: View) -> Iterator[str]:
    """Data sets of a split that are neither inputs nor labels."""
    group = follow(file, name, split, view.trust_links)
    if not isinstance(group, h5py.Group):
        if layout is None:
            yield f"  {split}  {_layout(group)}"
        return
    known = {column.dataset for part in (layout.parts if layout else ()) for column in part.columns}
    prefix = "" if split == "/" else f"{split}/"
    for one in group:
        where = f"{prefix}{one}"
        if not isinstance(group.get(one, getlink=True), h5py.HardLink):
            if where not in known:
                yield f"  {where}  a link, not followed (see --trust-links)"
        elif isinstance(member(group, one), h5py.Dataset) and where not in known:
            yield f"  {where}  {_layout(member(group, one))}"


def _stored(file: h5py.File, column: Column) -> str:
    text = _layout(file[column.dataset])
    if column.field is not None:
        text = f"field {column.shape or ''} {column.type} of a table {text.split(' table')[0]}".replace("  ", " ")
    return text + (f"; {column.width} numbers a sample" if column.width > 1 else "")


def _layout(item: h5py.Dataset) -> str:
    layout = f"chunks {item.chunks}" if item.chunks else "contiguous"
    packed = f", {item.compression}" if item.compression else ""
    try:
        kind = "string" if h5py.check_string_dtype(item.dtype) else str(item.dtype)
    except TypeError:
        return f"{item.shape} of a type that NumPy does not have"
    if item.dtype.names:
        kind = "table of " + ", ".join(item.dtype.names)
    return f"{item.shape} {kind}, {layout}{packed}"


def _advice(file: h5py.File, column: Column) -> list[str]:
    """What makes reading slow."""
    item = file[column.dataset]
    total = item.size * item.dtype.itemsize
    if not item.chunks or total < SMALL_DATA:
        return []
    chunk = prod(item.chunks) * item.dtype.itemsize
    count = prod(ceil(size / part) for size, part in zip(item.shape, item.chunks, strict=True))
    if chunk < SMALL_CHUNK:
        return [
            f"{column.dataset} is in {count} chunks of {_size(chunk)}; reading them takes longer than their bytes do"
        ]
    if column.chunk and column.chunk * total // len(item) > 4 * LARGE_CHUNK > 4 * chunk:
        rows = f"rows of {_size(column.chunk * total // len(item))} have to be read together"
        return [f"{column.dataset} is in chunks {item.chunks}, which run along the rows: {rows}"]
    if chunk > LARGE_CHUNK:
        return [
            f"{column.dataset} is in {count} chunks of {_size(chunk)}; each is read as a whole, by one rank, and takes "
            "that much memory"
        ]
    return []


def _values(layout: Layout, of: str, column: Column, view: View) -> Generator[str, None, tuple[Labels | None, str]]:
    """Lines about the values of a column; returns its labels, where it has some, and why it cannot be trained on."""
    is_labels = of == "y" and column.width == 1 and np.dtype(column.dtype).kind in "Oiub"
    if not view.statistics or (column.is_text and not is_labels):
        return None, ""
    alone = replace(layout, parts=tuple(replace(part, x=(column,), y=()) for part in layout.parts), y_name="")
    statistics, counts = ColumnStatistics(column.width), LabelCounts()
    longest = max(1, BLOCK_BYTES // (8 * column.width))
    with Reader(alone) as reader:
        for begin, end in alone.blocks(BLOCK_BYTES):
            block = np.empty((end - begin, column.width), alone.dtype("x"))
            reader.read("x", begin, end, block)
            for first, last in pieces(0, len(block), longest):
                (counts if is_labels else statistics).add(block[first:last])
            view.progress("inspecting", end - begin)
    if is_labels:
        labels = union([list(counts.counts)])
        yield f"    {len(labels)} labels, {_counts(labels, counts.counts)}"
        return labels, ""
    yield from _numbers(statistics)
    if statistics.bad_values:
        return None, f"{column.name}, row {statistics.first_bad}: not finite"
    largest = max(-statistics.low.min(), statistics.high.max())
    wide = f"{column.name}: values up to {largest:.3g} are out of the range of float32 (see --dtype)"
    return None, wide if largest > FLOAT32 else ""


def _counts(labels: Labels, each: Mapping[Any, int]) -> str:
    if len(labels) <= SHORT:
        return "samples of each: " + ", ".join(f"{label!r}: {each[label]}" for label in labels)
    return f"{in_words(labels)}; {min(each.values())} to {max(each.values())} samples of each"


def _numbers(statistics: ColumnStatistics) -> Iterator[str]:
    if statistics.bad_values:
        yield (
            f"    not finite: {statistics.bad_values} values in {statistics.bad_rows} rows, first in row "
            f"{statistics.first_bad}; distbp train refuses them: remove or replace such rows"
        )
    if not statistics.count.any():
        yield "    no finite value"
        return
    columns, constant = len(statistics.mean), statistics.constant.tolist()
    low, high, (mean, spread) = statistics.low.min(), statistics.high.max(), statistics.overall()
    line = f"    from {low:.6g} to {high:.6g}, mean {mean:.6g}, spread {spread:.6g}"
    if constant:
        shown = ", ".join(map(str, constant[:SHORT])) + (", …" if len(constant) > SHORT else "")
        line += "; constant" + (f" columns: {shown} ({len(constant)} of {columns})" if columns > 1 else "")
    yield line
    for i in range(columns) if 1 < columns <= SHORT else ():
        yield (
            f"    [{i}] from {statistics.low[i]:.6g} to {statistics.high[i]:.6g}, mean {statistics.mean[i]:.6g}, "
            f"spread {statistics.spread[i]:.6g}"
        )


def _training(name: str, found: dict[str, _Found], view: View) -> Iterator[str]:
    """What training with the defaults would be."""
    if not found or not view.statistics:
        return
    config = Config(data=[name], x=view.x, y=view.y)
    split = config.split if config.split in found else next(iter(found))
    layout, labels = found[split].layout, found[split].labels
    validation = found.get(TEST) if split != TEST else None
    option = "" if split == config.split else f" --split {shlex.quote(split)}"
    yield f"distbp train {shlex.quote(name)}{option}{_names(view)}"
    try:
        check_kinds(layout)
        if not layout.y_name:
            raise DataError(f"{split} has no labels or targets called {view.y} (see --y)")
        _, network = network_for(config, Split(layout, NOTHING, labels=labels, in_memory=False))
        for label in (validation and validation.labels) or ():
            if label not in (labels or ()):
                raise DataError(f"label {label!r} of {TEST} is not in {split} (see --validation-split)")
        for refused in (found[split].refused, validation.refused if validation else ""):
            if refused:
                raise DataError(refused)
    except DataError as error:
        yield f"  refused: {str(error).removeprefix(f'{name}: ')}"
        return
    needed, window = layout.rows * layout.row_bytes(), default_window(layout)
    shuffled = "shuffled as a whole" if window >= layout.rows else f"shuffled in windows of {window} samples"
    held = "held in memory once a node" if needed <= free_bytes() / 2 else "left in the file, for want of memory here"
    yield f"  {network.describe()}; {network.parameter_count} parameters, with the defaults"
    yield (
        f"  {layout.rows} samples of {split}, {_size(needed)}: {held}, {shuffled}; "
        + (f"validates on {TEST}" if validation else "no validation")
    )


def _names(view: View, *, always: bool = False) -> str:
    """The options --x and --y, where they are needed, and --trust-links."""
    names = (f" --{of} {shlex.quote(given)}" for of, given in (("x", view.x), ("y", view.y)) if always or given != of)
    return "".join(names) + (" --trust-links" if view.trust_links else "")


def _size(count: float) -> str:
    """1.5 MiB"""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1000 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.3g} {units[0]}"
