"""What is in a data set, in lines for a person: layout, statistics, and what `distbp train` will make of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.counted import counted
from distbp.data.data_file import fields_of, member, names_in, opened, split_names
from distbp.data.labels import Labels, in_words, union
from distbp.data.layout import Column, Layout, few
from distbp.data.loading import default_window
from distbp.data.locate import check_kinds, find
from distbp.data.names import quoted
from distbp.data.problem import network_for
from distbp.data.reader import Reader
from distbp.data.split import NOTHING, Split
from distbp.data.stored import is_column
from distbp.data.survey import candidates, look
from distbp.data.task import looks_like_quantities
from distbp.errors import DataError, UsageError
from distbp.inspection.column_statistics import ColumnStatistics, LabelCounts
from distbp.inspection.contents import contents, described
from distbp.mathematics.batches import pieces
from distbp.ranks.node_memory import free_bytes
from distbp.settings.config import Config
from distbp.settings.option import AUTO

WHOLE, TEST, FLOAT32 = "/", "test", float(np.finfo(np.float32).max)
BLOCK_BYTES = 8 * 2**20  # of float64 that are looked at together
MOST_GROUPS = 200  # that are looked into
SHORT = 12  # columns, or labels, that are listed one by one
SMALL_CHUNK, LARGE_CHUNK, SMALL_DATA = 32 * 2**10, 16 * 2**20, 2**20


@dataclass(frozen=True)
class View:
    """How a data set is looked at: splits and names as `distbp train` takes them, whether links are followed.

    `split`: "auto" for all that there are; `statistics`: whether values are read.
    """

    x: str = AUTO
    y: str = AUTO
    split: str = AUTO
    drop: str = ""
    task: str = AUTO
    each: bool = False
    trust_links: bool = False
    statistics: bool = True
    progress: Callable[[str, int], None] = lambda stage, rows: None

    def config(self, names: Sequence[str], split: str) -> Config:
        """The configuration of a run on a split of these files."""
        return Config(
            data=list(names),
            split=split,
            x=self.x,
            y=self.y,
            drop=self.drop,
            task=self.task,
            each=self.each,
            trust_links=self.trust_links,
        )


@dataclass(frozen=True)
class _Found:
    """A split that could be trained on: its labels, where it has some, and why it cannot be after all."""

    layout: Layout
    notes: tuple[str, ...]
    labels: Labels | None
    refused: str


def describe_data(path: Path, view: View) -> Iterator[str]:
    """The lines about a file.  Raises DataError where it cannot be read."""
    name = str(path)
    splits = split_names(name)
    kind = "data set with the splits" if {"train", TEST} & set(splits) else "HDF5 file with the groups"
    what = f"{kind} {few(splits)}" if splits else "HDF5 file without splits"
    yield f"{path}: {what}; {_size(os.path.getsize(path))}"
    advice: list[str] = []
    found: dict[str, _Found] = {}
    surveyed, reasons = survey_splits([name], view)
    known: set[str] = set()
    for split, (layout, notes, why) in surveyed.items():
        yield f"{split}: {counted(layout.rows, 'sample')}" + (f" (axis {layout.axis})" if layout.axis else "")
        labels, refused = None, why
        for of, columns in (("x", layout.parts[0].x), ("y", layout.parts[0].y)):
            for column in columns:
                known.add(column.dataset)
                if column.constant is None:
                    with opened(name) as file:
                        yield f"  {column.name}  {_stored(file, column)}"
                        advice += _advice(file, column)
                else:
                    yield f"  {column.name}  {column.constant[0]!r} in all rows"
                own_labels, why = yield from _values(layout, of, column, view)
                labels, refused = own_labels or labels, refused or why
        found[split] = _Found(layout, notes, labels, refused)
    with opened(name) as file:
        yield from contents(file, "", known, trust_links=view.trust_links)
        is_empty = not any(True for _ in contents(file, "", set()))
    yield from _training(name, found, view)
    if is_empty:
        advice.append("there are no data sets in it; distbp import makes a file with some")
    elif not found:
        advice += [
            *reasons,
            f"say what is learnt from what: distbp train {shlex.quote(name)} --split / --x PATH --y PATH",
        ]
    for line in dict.fromkeys(advice):
        yield f"advice: {line}"
    whole = [split for split in found if found[split].layout.y_name]
    if whole and any("chunks" in line for line in advice):
        new = shlex.quote(str(path.with_name(f"{path.stem}-contiguous.h5")))
        some = "" if whole == splits else f" --split {shlex.quote(','.join(whole))}"
        yield f"        rewrite it: distbp import {shlex.quote(name)}{some}{_names(view, found[whole[0]])} --out {new}"


Surveyed = dict[str, tuple[Layout, tuple[str, ...], str]]


def survey_splits(names: Sequence[str], view: View) -> tuple[Surveyed, list[str]]:
    """The splits of a data set in one file or several, found in the first file, from headers alone.

    For each split that has inputs: its layout, notes on it, and what is wrong with y, or "".  The list says why other
    groups are no splits.  Raises DataError for a file that cannot be read.
    """
    name = names[0]
    found: Surveyed = {}
    reasons: dict[str, str] = {}
    for split in _splits(name, view):
        if found and "/" in split:  # a group inside a group, where there are splits at the top
            break
        try:
            layout, notes, why = _survey(names, split, view)
            found[split] = layout, notes, why
        except (DataError, UsageError) as error:
            reasons[split] = str(error).removeprefix(f"{name}: ").removeprefix(f"{split}: ")
    if WHOLE in found and len(found) > 1:  # the file, or its groups: what has labels or targets is what was meant
        groups = {split: one for split, one in found.items() if split != WHOLE}
        groups_have_y = any(layout.y_name for layout, _, _ in groups.values())
        found = groups if groups_have_y or not found[WHOLE][0].y_name else {WHOLE: found[WHOLE]}
    return found, list(_in_short(reasons))


def _in_short(reasons: dict[str, str]) -> Iterator[str]:
    """Why splits cannot be trained on: each reason once, with the first of the splits."""
    for reason in dict.fromkeys(reasons.values()):
        splits = [split for split, why in reasons.items() if why == reason]
        more = f" and {len(splits) - 1} more" if len(splits) > 1 else ""
        yield f"{splits[0]}{more}: {reason}"
        stars = "/".join("*" * len(splits[0].split("/")))
        if more:
            yield f"        groups alike can be put end to end: --split / --x '{stars}/NAME' --y '{stars}/NAME'"


def _splits(name: str, view: View) -> list[str]:
    """Where samples may be: the groups and tables at the top, the file as a whole, then groups below groups."""
    if view.split != AUTO:
        return view.split.split(",")
    with opened(name) as file:
        top = [one for one in split_names(name) if _has_columns(file, one)]
        has_top = bool(names_in(file, h5py.Dataset)) or "*" in view.x + view.y or "/" in view.x + view.y
        below = _groups_below(file, 2)
    return [*(["train"] if "train" in top else []), *(one for one in top if one != "train"), *["/"] * has_top, *below]


def _groups_below(group: h5py.Group, depth: int, prefix: str = "") -> list[str]:
    """Groups, and tables, that are inside groups."""
    found: list[str] = []
    for name in names_in(group, h5py.Group):
        inner, path = member(group, name), f"{prefix}{name}"
        if is_column(inner) or name.startswith("_i_"):  # an index of PyTables
            continue
        found += [path] if prefix and _has_columns(group, name) else []
        found += [f"{path}/{one}" for one in names_in(inner, h5py.Dataset) if fields_of(member(inner, one))]
        if depth and len(found) < MOST_GROUPS:
            found += _groups_below(inner, depth - 1, f"{path}/")
    return found[:MOST_GROUPS]


def _has_columns(group: h5py.Group, name: str) -> bool:
    """Whether there are data sets right in a group; or it is a table."""
    item = member(group, name)
    if isinstance(item, h5py.Dataset) or is_column(item):
        return isinstance(item, h5py.Dataset)
    return bool(names_in(item, h5py.Dataset)) or any(is_column(member(item, one)) for one in names_in(item, h5py.Group))


def _survey(names: Sequence[str], split: str, view: View) -> tuple[Layout, tuple[str, ...], str]:
    """The layout of a split as `distbp train` would find it, its notes; without y, and why, where y is wrong."""
    name, config = names[0], replace(view.config(names, split), validation_split="")
    try:
        survey = look(config, names)
        return survey.training, survey.notes, ""
    except (DataError, UsageError) as error:
        if view.x == AUTO and view.y == AUTO:
            there = candidates(name, split, view.trust_links, each=view.each)
            if not any(one.name == "x" and not one.not_data for one in there):
                raise
        if view.x == AUTO and view.y != AUTO:
            raise
        x = "x" if view.x == AUTO else view.x
        alone = find(names, split, x, None, trust_links=view.trust_links, each=view.each)
        return alone, (), str(error).removeprefix(f"{name}: ")


def _stored(file: h5py.File, column: Column) -> str:
    item = file[column.dataset]
    text = described(item) if isinstance(item, h5py.Dataset) else "one column, as a group"
    if column.is_decoded or column.selection:
        text += f"; read as {column.rows} rows of {column.type}"
    if column.field is not None:
        text = f"field {column.shape or ''} {column.type} of a table {text.split(' table')[0]}".replace("  ", " ")
    return text + (f"; {column.width} numbers a sample" if column.width > 1 else "")


def _advice(file: h5py.File, column: Column) -> list[str]:
    """What makes reading slow."""
    item = file[column.dataset]
    if not isinstance(item, h5py.Dataset):
        return []
    total = item.size * item.id.get_type().get_size()
    if not item.chunks or total < SMALL_DATA:
        return []
    chunk = prod(item.chunks) * item.id.get_type().get_size()
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
    is_labels = of == "y" and column.width == 1 and layout.is_labelled
    if not view.statistics or column.constant is not None or (column.is_text and not is_labels):
        return None, ""
    statistics, counts, gaps = gather(_alone(layout, of, column), "x", is_labels=is_labels, progress=view.progress)
    if gaps.rows:
        yield (
            f"    missing: {counted(gaps.values, 'value')} in {counted(gaps.rows, 'row')}, "
            f"first in row {gaps.first}; distbp train refuses "
            "them, and distbp import has --on-missing"
        )
    why_gaps = f"{column.name}, row {gaps.first}: a value is missing" if gaps.rows else ""
    if is_labels:
        labels = union([list(counts.counts)])
        yield f"    {len(labels)} labels, {_counts(labels, counts.counts)}"
        why_gaps = why_gaps or _which_task(layout, column, labels, counts.counts)
        return labels, why_gaps or ("" if "" not in labels else f"{column.name}: an empty string is no label")
    yield from _numbers(statistics, column.names)
    if statistics.bad_values:
        return None, f"{column.name}, row {statistics.first_bad}: not finite"
    largest = max(-statistics.low.min(), statistics.high.max())
    wide = f"{column.name}: values up to {largest:.3g} are out of the range of float32 (see --dtype)"
    return None, why_gaps or (wide if largest > FLOAT32 else "")


def _which_task(layout: Layout, column: Column, labels: Labels, counts: Mapping[Any, int]) -> str:
    """Why training would ask whether these are labels or targets; "" where it would not."""
    if layout.task != AUTO or not all(isinstance(label, int) for label in labels):
        return ""
    why = looks_like_quantities(counts)
    return f"{column.name} {why}; --task classes or --task targets?" if why else ""


def gather(
    layout: Layout, of: str, *, is_labels: bool, progress: Callable[[str, int], None] = lambda stage, rows: None
) -> tuple[ColumnStatistics, LabelCounts, Gaps]:
    """Reads "x" or "y" of a layout block by block, for statistics of its columns, or the counts of its labels.

    Rows with a missing value are counted as gaps and are left out of the rest.  Raises DataError.
    """
    width = layout.width(of)
    statistics, counts, gaps = ColumnStatistics(width), LabelCounts(), Gaps()
    longest = max(1, BLOCK_BYTES // (8 * width))
    with Reader(layout) as reader:
        for begin, end in layout.blocks(BLOCK_BYTES):
            block = np.empty((end - begin, width), layout.dtype(of))
            missing = np.zeros(block.shape, np.bool_)
            reader.read(of, begin, end, block, missing)
            gaps.add(missing, begin)
            block = block[~missing.any(axis=1)] if gaps.rows else block
            for first, last in pieces(0, len(block), longest):
                (counts if is_labels else statistics).add(block[first:last])
            progress("inspecting", end - begin)
    return statistics, counts, gaps


class Gaps:
    """Missing values: how many, in how many rows, and the first row."""

    def __init__(self) -> None:
        self.values = self.rows = self.first = 0

    def add(self, missing: NDArray[np.bool_], begin: int) -> None:
        """More rows, from row `begin` on."""
        rows = missing.any(axis=1)
        if rows.any() and not self.rows:
            self.first = begin + int(rows.argmax())
        self.values += int(missing.sum())
        self.rows += int(rows.sum())


def _alone(layout: Layout, of: str, column: Column) -> Layout:
    """The layout with this column of x or y as its only one."""
    at = getattr(layout.parts[0], of).index(column)
    parts = tuple(replace(part, x=(getattr(part, of)[at],), y=()) for part in layout.parts)
    in_table = column.field is not None and column.dataset == layout.split
    name = str(column.field) if in_table else column.name.removeprefix(f"{layout.split}/")
    return replace(layout, parts=parts, x_name=name, y_name="", order={})


def _counts(labels: Labels, each: Mapping[Any, int]) -> str:
    if len(labels) <= SHORT:
        return "samples of each: " + ", ".join(f"{label!r}: {each[label]}" for label in labels)
    return f"{in_words(labels)}; {min(each.values())} to {max(each.values())} samples of each"


def _numbers(statistics: ColumnStatistics, names: Sequence[str] = ()) -> Iterator[str]:
    if statistics.bad_values:
        yield (
            f"    not finite: {counted(statistics.bad_values, 'value')} in {counted(statistics.bad_rows, 'row')}, "
            f"first in row {statistics.first_bad}; distbp train refuses them: remove or replace such rows"
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
        name, mean, spread = quoted(names[i]) if names else f"[{i}]", statistics.mean[i], statistics.spread[i]
        low, high = statistics.low[i], statistics.high[i]
        yield f"    {name} from {low:.6g} to {high:.6g}, mean {mean:.6g}, spread {spread:.6g}"


def _training(name: str, found: dict[str, _Found], view: View) -> Iterator[str]:
    """What training with the defaults would be."""
    if not found or not view.statistics:
        return
    split = "train" if "train" in found else next(iter(found))
    layout, labels = found[split].layout, found[split].labels
    validation = found.get(TEST) if split != TEST else None
    option = "" if split == "train" else f" --split {shlex.quote(split)}"
    yield f"distbp train {shlex.quote(name)}{option}{_given(view)}"
    for note in found[split].notes:
        yield f"  {note}"
    try:
        if found[split].refused and not layout.y_name:
            raise DataError(found[split].refused)
        check_kinds(layout)
        config = replace(view.config([name], split), x=layout.x_name, y=layout.y_name)
        _, network = network_for(config, Split(layout, NOTHING, labels=labels, in_memory=False))
        for label in (validation and validation.labels) or ():
            if label not in (labels or ()):
                raise DataError(f"label {label!r} of {TEST} is not in {split} (see --validation-split)")
        for refused in (found[split].refused, validation.refused if validation else ""):
            if refused:
                raise DataError(refused)
    except (DataError, UsageError) as error:
        yield f"  refused: {str(error).removeprefix(f'{name}: ')}"
        return
    needed, window = layout.rows * layout.row_bytes(), default_window(layout)
    shuffled = "shuffled as a whole" if window >= layout.rows else f"shuffled in windows of {window} samples"
    held = "held in memory once a node" if needed <= free_bytes() / 2 else "left in the file, for want of memory here"
    yield f"  {network.describe()}; {network.parameter_count} parameters, with the defaults"
    yield (
        f"  {counted(layout.rows, 'sample')} of {split}, {_size(needed)}: {held}, {shuffled}; "
        + (f"validates on {TEST}" if validation else "no validation")
    )


def _given(view: View) -> str:
    """The options that were given and that training needs too."""
    pairs = (("x", view.x, AUTO), ("y", view.y, AUTO), ("drop", view.drop, ""), ("task", view.task, AUTO))
    names = (f" --{option} {shlex.quote(given)}" for option, given, default in pairs if given != default)
    return "".join(names) + " --each" * view.each + " --trust-links" * view.trust_links


def _names(view: View, found: _Found) -> str:
    """The names of x and y, always, for a command that takes others by default."""
    layout = found.layout
    return f" --x {shlex.quote(layout.x_name)} --y {shlex.quote(layout.y_name)}" + " --trust-links" * view.trust_links


def _size(count: float) -> str:
    """1.5 MiB"""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1000 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.3g} {units[0]}"
