"""What a training run will learn from, looked up in the headers of its files: splits, columns, and what y is.

The first stage of a run: every "auto" of the configuration that concerns data is replaced by what it means for these
files, and whatever was decided is told in a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import h5py
import numpy as np

from distbp.config import AUTO, Config
from distbp.data.choice import Candidate, check_given, choose, words
from distbp.data.data_file import fields_of, follow, member, names_in, opened
from distbp.data.layout import CLASSES, TARGETS, Layout, few
from distbp.data.locate import Asked, check_kinds, find_splits
from distbp.data.names import parse, quoted
from distbp.data.reader import Reader
from distbp.data.row_numbers import FEWEST_ROWS, RowNumbers
from distbp.data.stored import is_column, why_not_data
from distbp.errors import DataError, UsageError
from distbp.ranks.communicator import Communicator, from_first

FIRST_ROWS, FIRST_BYTES = 1000, 8 * 2**20
TRAIN, TEST, WHOLE = "train", "test", "/"


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
    validation = config.validation_split
    if validation == AUTO:
        there = _has_split(files[0], TEST) and config.split != TEST
        validation = TEST if there else ""
    splits = list(dict.fromkeys([config.split, validation] if validation else [config.split]))
    if validation == config.split:
        notes.append(f"note      {validation} is both trained on and validated on: the validation is no test")
    try:
        layouts = _layouts(config, files, splits)
    except DataError:
        if config.validation_split != AUTO or not validation:
            raise
        validation = ""  # the first file has a split "test", and another one has none
        layouts = _layouts(config, files, splits[:1])
    if config.validation_split == AUTO and not validation:
        notes.append('no split "test": no validation, and no best.h5 (see --validation-split)')
    config = replace(config, validation_split=validation)
    training = layouts[config.split]
    if training.left_out:
        count = len(training.left_out)
        notes.append(f"note      {count} left out, for want of a column or of rows: {few(training.left_out)}")
    notes += [f"read as   {note}" for note in training.notes]
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
    return {split: check_kinds(replace(layout, task=_task(config, layout))) for split, layout in found.items()}


def _task(config: Config, layout: Layout) -> str:
    """What y is, as far as its type and the options say it: "classes", "targets" or "auto".  Raises UsageError."""
    kind = layout.dtype("y").kind
    if config.task != AUTO or kind == "O":
        return CLASSES if config.task == AUTO else config.task
    if config.loss == "mse" and kind != "f" and config.output_activation == "sigmoid":
        raise UsageError(
            f"{layout.place(0, 'y').removesuffix(', row 0')} holds integers, and --loss mse with --output-activation "
            "sigmoid is a classifier as well as a regression: add --task classes (an output for each class) or "
            "--task targets"
        )
    if config.loss == "binary_cross_entropy" and kind != "f" and layout.width("y") > 1:
        return TARGETS  # several yes-or-no answers for each sample
    if config.loss == "cross_entropy":
        return CLASSES if kind != "f" or layout.width("y") == 1 else AUTO
    return TARGETS if config.loss == "mse" else AUTO


def _with_split(config: Config, path: str, notes: list[str]) -> Config:
    """The configuration with the split that "auto" means: train, or the file as a whole."""
    if config.split != AUTO:
        return config
    if _has_split(path, TRAIN):
        return replace(config, split=TRAIN)
    notes.append('note      there is no group "train": the data sets at the top of the file are taken (--split /)')
    return replace(config, split=WHOLE)


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
    found = choose(where, candidates(path, config.split, config.trust_links), given["x"], given["y"], drop)
    if not given["x"] and (found.left_out or found.x != ("x",)):
        left_out = f"; left out: {found.left_out_in_words()}" if found.left_out else ""
        notes.append(f"columns   {words(found.y)} from {words(found.x)}{left_out}")
    return replace(
        config,
        x=",".join(map(quoted, found.x)) if config.x == AUTO else config.x,
        y=",".join(map(quoted, found.y)) if config.y == AUTO else config.y,
        drop="",
    )


def _texts(config: Config) -> list[tuple[str, str]]:
    return [("x", config.x), ("y", config.y)]


def candidates(path: str, split: str, trust_links: bool) -> list[Candidate]:
    """The columns of a split of a file.  Raises DataError where there is no such split."""
    with opened(path) as file:
        group = follow(file, path, split, trust_links)
        if isinstance(group, h5py.Dataset) and fields_of(group):
            rows = len(group)
            return [Candidate(name, "", not group.dtype[name].shape, rows) for name in fields_of(group)]
        if not isinstance(group, h5py.Group):
            there = ", ".join(names_in(file, h5py.Group)) or "none"
            raise DataError(f"{path}: no split {split!r}; the splits (groups) of this file are: {there}")
        found: list[Candidate] = []
        for name in names_in(group, h5py.Dataset):
            item = member(group, name)
            fields = fields_of(item)
            count = len(item) if item.ndim else None
            found += [Candidate(f"{name}.{field}", rows=count) for field in fields]
            if not fields:
                has_rows = item.shape[:1] != (0,)  # without rows it is what it is in the other files
                why = (why_not_data(item, name) or ("" if item.ndim else "a single value")) if has_rows else ""
                found.append(Candidate(name, why, prod(item.shape[1:]) == 1, count))
        columns = [name for name in names_in(group, h5py.Group) if is_column(member(group, name))]
        return found + [Candidate(name) for name in columns]
