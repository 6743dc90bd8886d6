"""What a training run will learn from, looked up in the headers of its files: splits, columns, and what y is.

The first stage of a run: every "auto" of the configuration that concerns data is replaced by what it means for these
files, and whatever was decided is told in a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import h5py
import numpy as np

from distbp.data.attributes import Attributes
from distbp.data.choice import Candidate, check_given, choose, is_meant, words
from distbp.data.conventions import is_default_fill
from distbp.data.data_file import fields_of, follow, member, names_in, opened
from distbp.data.layout import CLASSES, TARGETS, Layout, few
from distbp.data.locate import Asked, check_kinds, find_splits
from distbp.data.names import parse, quoted
from distbp.data.overlap import check_overlap
from distbp.data.plain_array import NoNumbers
from distbp.data.reader import Reader
from distbp.data.row_numbers import FEWEST_ROWS, RowNumbers
from distbp.data.stored import is_column, open_stored, why_not_data
from distbp.data.turned_over import turned_over
from distbp.errors import DataError, UsageError
from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.losses import LOSSES
from distbp.ranks.communicator import Communicator, from_first
from distbp.settings.config import Config
from distbp.settings.option import AUTO

FIRST_ROWS, FIRST_BYTES = 1000, 8 * 2**20
TRAIN, TEST, WHOLE = "train", "test", "/"
SINGLE = "a single value"  # as `why_not_data` says it
VALIDATION = ("test", "testing", "val", "valid", "validation", "dev")  # in any case


@dataclass(frozen=True)
class Survey:
    """The configuration with what its "auto" means for these files, the layouts of its splits, lines for the user."""

    config: Config
    training: Layout
    validation: Layout | None
    notes: tuple[str, ...] = ()


def survey(comm: Communicator, config: Config, files: Sequence[str]) -> Survey:
    """Looks at the headers of the files, on rank 0.  Raises DataError or UsageError, agreed by all ranks."""
    return from_first(comm, lambda: look(config, files))


def look(config: Config, files: Sequence[str]) -> Survey:
    """The same on this rank alone."""
    notes: list[str] = []
    config = _with_names(_with_split(config, files[0], notes), files[0], notes)
    config = _with_task(config, files[0])
    validation = config.validation_split
    if validation == AUTO:
        there = _has_split(files[0], TEST) and config.split != TEST
        validation = TEST if there else ""
    splits = list(dict.fromkeys([config.split, validation] if validation else [config.split]))
    if validation == config.split:
        notes.append(f"note      {validation} is both trained on and validated on: the validation is no test")
    try:
        layouts = _layouts(config, files, splits)
    except (DataError, UsageError) as error:
        if config.validation_split != AUTO or not validation:
            raise
        layouts = _layouts(config, files, splits[:1])
        notes.append(f"note      the split {TEST} is not used: {str(error).removeprefix(f'{files[0]}: ')}")
        notes.append("no validation, and no best.h5 (see --validation-split)")
        validation = ""
    if config.validation_split == AUTO and not validation and len(splits) == 1:
        notes.append(f'no split "test": no validation, and no best.h5 ({_other_split(files[0], config.split)})')
    config = replace(config, validation_split=validation)
    training = layouts[config.split]
    if training.left_out:
        count = len(training.left_out)
        notes.append(f"note      {count} left out, for want of a column or of rows: {few(training.left_out)}")
    notes += [f"read as   {note}" for note in training.notes if not is_default_fill(note)]
    notes += [f"warning   {note}" for note in turned_over(training)]
    notes += [
        f"warning   {column} {how}: a network can learn from it where in the file a sample was (--drop leaves it out)"
        for column, how in followed_columns(training)
    ]
    return Survey(config, training, layouts.get(validation), tuple(notes))


def followed_columns(layout: Layout) -> list[tuple[str, str]]:
    """The inputs that count the rows, or follow their number, and how; judged by the first rows of the first file.

    None where these cannot be read: whoever reads them for the training says why.
    """
    row_bytes = layout.width("x") * layout.dtype("x").itemsize
    rows = min(layout.parts[0].rows, FIRST_ROWS, FIRST_BYTES // row_bytes)
    if rows < FEWEST_ROWS or layout.dtype("x").kind == "O":
        return []
    first, missing = np.empty((rows, layout.width("x")), layout.dtype("x")), np.zeros((rows, layout.width("x")), bool)
    try:
        with Reader(layout) as reader:
            reader.read("x", 0, rows, first, missing)
    except DataError:
        return []
    numbers = RowNumbers()
    numbers.add(np.where(missing, np.nan, first) if missing.any() else first)
    return [(layout.column_name("x", at), how) for at, how in numbers.found().items()]


def _layouts(config: Config, files: Sequence[str], splits: Sequence[str]) -> dict[str, Layout]:
    asked = Asked(config.x, config.y, config.trust_links, config.each)
    found = find_splits(files, splits, asked)
    for layout in found.values():
        check_overlap(layout)
    return {split: check_kinds(replace(layout, task=task_of(config, layout))) for split, layout in found.items()}


def _with_task(config: Config, path: str) -> Config:
    """The configuration with the task that y itself names: distbp import was told, or has found out, what it is."""
    names = parse(config.y, "--y")
    if AUTO not in (config.task, config.loss) or config.task != config.loss or len(names) > 1:
        return config
    with opened(path) as file:
        group = follow(file, path, config.split, config.trust_links)
        item = follow(group, path, names[0].text, config.trust_links) if isinstance(group, h5py.Group) else None
        task = Attributes(path, item).text("task") if isinstance(item, h5py.Dataset) else ""
    return replace(config, task=task) if task in (CLASSES, TARGETS) else config


def task_of(config: Config, layout: Layout) -> str:
    """What y is, as far as its type and the options say it: "classes", "targets" or "auto".  Raises UsageError."""
    kind = layout.dtype("y").kind
    if config.task != AUTO or kind == "O":
        return CLASSES if config.task == AUTO else config.task
    if config.loss == AUTO:
        return AUTO
    loss, output = LOSSES[config.loss], ACTIVATIONS.get(config.output_activation)
    if loss.scales_targets and kind != "f" and output and output.is_probability:
        raise UsageError(
            f"{layout.place(0, 'y').removesuffix(', row 0')} holds integers, and --loss {loss.name} with "
            f"--output-activation {output.name} is a classifier as well as a regression: add --task classes (an output "
            "for each class) or --task targets"
        )
    if loss.is_binary and kind != "f" and layout.width("y") > 1:
        return TARGETS  # several yes-or-no answers for each sample
    if not loss.takes_targets:
        return CLASSES if kind != "f" or layout.width("y") == 1 else AUTO
    return TARGETS if loss.scales_targets else AUTO


def _with_split(config: Config, path: str, notes: list[str]) -> Config:
    """The configuration with the split that "auto" means: train, or the file as a whole."""
    if config.split != AUTO:
        return config
    if _has_split(path, TRAIN):
        return replace(config, split=TRAIN)
    notes.append('note      there is no group "train": the data sets at the top of the file are taken (--split /)')
    return replace(config, split=WHOLE)


def _other_split(path: str, split: str) -> str:
    """How to validate where there is no split "test": with a group whose name says that it is for that."""
    with opened(path) as file:
        for name in file:
            if name.lower() in VALIDATION and name != split and file.get(name, getlink=True) is not None:
                return f"there is {name}: --validation-split {quoted(name)}"
    return "see --validation-split"


def _has_split(path: str, split: str) -> bool:
    """Whether there is something of that name, also a link, which is looked at later."""
    with opened(path) as file:
        return file.get(split, getlink=True) is not None


def _with_names(config: Config, path: str, notes: list[str]) -> Config:
    """The configuration with the names that "auto" means."""
    if config.drop and config.x != AUTO:
        raise UsageError(f"--drop {config.drop} goes without --x: with it, what is not named is not taken")
    given = {of: () if text == AUTO else tuple(map(str, parse(text, f"--{of}"))) for of, text in _texts(config)}
    check_given(given["x"], given["y"])
    if AUTO not in (config.x, config.y):
        return config
    drop = tuple(map(str, parse(config.drop, "--drop"))) if config.drop else ()
    where = f"{path}: {config.split}"
    there = candidates(path, config.split, config.trust_links, each=config.each)
    if not there:
        raise DataError(_nothing_there(path, config.split))
    found = choose(where, there, given["x"], given["y"], drop)
    if not given["x"] and (found.left_out or found.x != ("x",)):
        left_out = f"; left out: {found.left_out_in_words()}" if found.left_out else ""
        notes.append(f"columns   {words(found.y)} from {words(found.x)}{left_out}")
    return replace(
        config,
        x=",".join(map(quoted, found.x)) if config.x == AUTO else config.x,
        y=",".join(map(quoted, found.y)) if config.y == AUTO else config.y,
        drop="",
    )


def _nothing_there(path: str, split: str) -> str:
    """The words where a split has no data sets of its own: which groups may be meant."""
    with opened(path) as file:
        group = file if split == WHOLE else file[split]
        groups = [name if split == WHOLE else f"{split}/{name}" for name in names_in(group, h5py.Group)]
    where = path if split == WHOLE else f"{path}: {split}"
    if not groups:
        return f"{where} has no data sets; expected inputs, and labels or targets, each with a row for each sample"
    stars = "*/NAME" if split == WHOLE else f"{split}/*/NAME"
    return (
        f"{where} has no data sets of its own; its groups are {few(groups)}. Take one of them with --split, or put "
        f"groups alike end to end with --split / --x '{stars}' --y '{stars}'; distbp inspect shows what is in them"
    )


def _texts(config: Config) -> list[tuple[str, str]]:
    return [("x", config.x), ("y", config.y)]


def candidates(path: str, split: str, trust_links: bool, *, each: bool = False) -> list[Candidate]:
    """The columns of a split of a file; `each`: all of the file is one sample.

    Raises DataError where there is no such split.
    """
    with opened(path) as file:
        group = follow(file, path, split, trust_links)
        if isinstance(group, h5py.Dataset) and fields_of(group):
            return [_candidate(path, name, group, name, each) for name in fields_of(group)]
        if not isinstance(group, h5py.Group):
            there = ", ".join(names_in(file, h5py.Group)) or "none"
            raise DataError(f"{path}: no split {split!r}; the splits (groups) of this file are: {there}")
        items = _items(path, group, trust_links)
        found: list[Candidate] = []
        for name, item in items.items():
            if isinstance(item, h5py.Dataset):
                found += [_candidate(path, f"{name}.{field}", item, field, each) for field in fields_of(item)]
                found += [] if fields_of(item) else [_candidate(path, name, item, None, each)]
        columns = [name for name, item in items.items() if isinstance(item, h5py.Group) and is_column(item)]
        return found + [_candidate(path, name, items[name], None, each) for name in columns]


def _items(path: str, group: h5py.Group, trust_links: bool) -> dict[str, Any]:
    """What is in a group, by name; what trusted links point to, too, where it is there."""
    found: dict[str, Any] = {}
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            found[name] = member(group, name)
        elif trust_links:
            with suppress(DataError):
                found[name] = follow(group, path, name, trust_links)
    return found


def _candidate(path: str, name: str, item: h5py.Dataset | h5py.Group, field: str | None, each: bool) -> Candidate:
    """What is known of a column without reading it; what cannot be read is said where it is taken."""
    if isinstance(item, h5py.Dataset) and item.shape is not None and item.shape[:1] == (0,):
        return Candidate(name, "", prod(item.shape[1:]) == 1, 0)  # without rows it is what it is in the other files
    why = why_not_data(item, name)
    try:
        shape = open_stored(item.file, path, item, field).shape
    except DataError as error:  # it is said where the column is taken
        shape = (item.shape or ()) if isinstance(item, h5py.Dataset) else ()
        if isinstance(error, NoNumbers) and not is_meant(name):
            why = why or str(error).partition(" is ")[2].partition(";")[0]
    if each:
        return Candidate(name, "" if why == SINGLE else why, prod(shape) == 1)
    return Candidate(name, why or ("" if shape else SINGLE), prod(shape[1:]) == 1, shape[0] if shape else None)
