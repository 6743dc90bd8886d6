"""The functions of the public Python API; `import distbp` offers them under its own name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from distbp.config import AUTO
from distbp.data.layout import CLASSES, TARGETS
from distbp.data.names import quoted
from distbp.errors import UsageError
from distbp.inspection.data_inspection import View
from distbp.inspection.dataset import Dataset, read_dataset
from distbp.model.model import Model
from distbp.model.read_model import read_model


def load(path: str | os.PathLike[str]) -> Model:
    """Reads a trained network from a checkpoint file, or from a run directory.

    Of a run directory it takes best.h5, the parameters with the lowest validation loss; without it, the newest
    checkpoint that is whole.  The file is checked as by all commands, and nothing in it is run.  Only NumPy and h5py
    are needed, and no MPI library.

    Raises CheckpointError if there is no checkpoint, or if it is damaged; RunError for a directory that cannot be
    read; UsageError if `path` is no path.

    >>> import distbp
    >>> distbp.load("run/best.h5")
    <distbp.Model 64-32-10, relu, softmax, cross_entropy: 10 classes, float32, run/best.h5>
    """
    return read_model(_path(path, "load"))


def open_dataset(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    split: str | Sequence[str] = AUTO,
    x: str | Sequence[str] = AUTO,
    y: str | Sequence[str] = AUTO,
    drop: str | Sequence[str] = "",
    task: str = AUTO,
    each: bool = False,
    trust_links: bool = False,
) -> Dataset:
    """Looks at a data set: an HDF5 file, several that are one data set end to end, or patterns such as "data/*.h5".

    The options are those of `distbp inspect`: which split or splits to look at, the names of inputs `x` and of labels
    or targets `y`, inputs to `drop`, the `task` "classes" or "targets", `each` for a sample in each file or group, and
    whether links to other files are followed.  Several names are a sequence, or one text with commas between them.
    Only headers are read; statistics and rows are read when they are asked for.  No MPI library is needed.

    Raises DataError for a file that cannot be read or is no data set, UsageError for wrong options.

    >>> import distbp
    >>> test = distbp.open_dataset("digits.h5")["test"]
    >>> test.x.shape, test.y.dtype, test.task
    ((360, 64), dtype('uint8'), 'classes')
    """
    if task not in (AUTO, CLASSES, TARGETS):
        raise UsageError(f"open_dataset: task {task!r}; expected {AUTO!r}, {CLASSES!r} or {TARGETS!r}")
    some = paths if isinstance(paths, list | tuple) else [paths]
    names = [_path(path, "open_dataset") for path in some]
    if not names:
        raise UsageError("open_dataset: expected the path of a file, or of several; got none")
    view = View(
        x=_names(x, "x"),
        y=_names(y, "y"),
        split=split if isinstance(split, str) else ",".join(_texts(split, "split")),
        drop=_names(drop, "drop"),
        task=task,
        each=each,
        trust_links=trust_links,
    )
    return read_dataset(names, view)


def _path(path: Any, who: str) -> str:
    """The path as text.  Raises UsageError."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise UsageError(f"{who}: expected a path, a str or an os.PathLike, got {type(path).__name__}") from None
    if not text or "\0" in text:
        raise UsageError(f"{who}: expected a path, got {text!r}")
    return text


def _names(given: Any, option: str) -> str:
    """Names of columns as the command line has them.  Raises UsageError."""
    return given if isinstance(given, str) else ",".join(map(quoted, _texts(given, option)))


def _texts(given: Any, option: str) -> list[str]:
    """A sequence of names.  Raises UsageError."""
    if not isinstance(given, list | tuple) or not given or not all(isinstance(name, str) for name in given):
        raise UsageError(f"open_dataset: {option} is {given!r}; expected a name, or a list of names")
    return list(given)
