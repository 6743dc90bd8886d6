"""The functions of the public Python API; `import distbp` offers them under its own name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from distbp.data.layout import CLASSES, TARGETS
from distbp.data.names import quoted
from distbp.errors import UsageError
from distbp.inspection.data_inspection import View
from distbp.inspection.dataset import Dataset, read_dataset
from distbp.model.model import Model
from distbp.model.read_model import read_model
from distbp.runs.run import Run
from distbp.runs.scores import Scores, scores_of
from distbp.runs.train import train_in_python
from distbp.settings.option import AUTO


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


def evaluate(
    model: Model | str | os.PathLike[str],
    data: Any = None,
    *,
    split: str = "test",
    x: str = "",
    y: str = "",
    comm: Any = None,
    memory: float = 0.0,
    trust_links: bool = False,
) -> Scores:
    """Computes the loss and the metric of a network on a split, over all samples, as `distbp evaluate` does.

    `model`: a Model, or the path of a checkpoint or run directory.  `data`: paths of data files, of which `split` is
    taken, or a pair (x, y) as for `distbp.train`; without it, the data that the network was trained on.  `x` and `y`:
    the names of inputs and of labels or targets in the files, if they differ from those in training.  `comm`: a
    communicator of mpi4py, whose ranks share the work; the result is the same on all of them.  `memory`: GiB of each
    node for the data; 0: half of what is free.

    Raises CheckpointError, DataError, UsageError and TooLargeError, on all ranks alike.

    >>> import distbp
    >>> scores = distbp.evaluate(distbp.load("run"), "digits.h5", split="test")
    >>> scores.metrics["accuracy"] > 0.9
    True
    """
    how = {"x": x, "y": y, "memory": memory, "trust_links": trust_links}
    return scores_of(model if isinstance(model, Model) else _path(model, "evaluate"), data, split, comm, how)


def train(
    data: Any = None,
    *,
    validation: Any = None,
    comm: Any = None,
    on_epoch: Callable[[dict[str, float]], Any] | None = None,
    progress: bool = False,
    resume: bool | str = False,
    out: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Run:
    """Trains a network, as `distbp train` does, and gives back what came out.

    `data`: the path of an HDF5 data set, several that are one data set end to end, or patterns such as "data/*.h5"; or
    a pair (x, y).  x has the shape (N, …), numbers; y has the shape (N,), labels (integers or strings) or targets
    (floats), or (N, n_F), targets.  Frames of pandas and Polars, xarray data sets and dictionaries are taken, too, and
    the network keeps the names of their columns.  Without `data`, the digits data set that comes with distbp.

    `validation`: a pair (x, y), if `data` is one; of data files it is the split `validation_split`.

    `options`: those of the command line with the same names, defaults and checks: hidden=[128, 64], epochs=20,
    learning_rate=0.01, reproducible=True, …; `distbp train --help` has them all.

    `out`: the directory of the run; without it, nothing is written.  `resume=True` continues the run in it, and
    `resume="auto"` begins one if there is none.

    `comm`: a communicator of mpi4py, all ranks of which call this with the same arguments; arrays are the same on all
    of them.  The run has a communicator of its own, and gives back all that it takes.  Without `comm`, this process
    trains alone.

    `on_epoch` is called after each epoch, on all ranks, with the row of metrics.csv as a dictionary.  If it returns
    "stop" on any rank, that was the last epoch.  `progress=True` prints what `distbp train` prints.

    Raises UsageError for wrong options, DataError for data that cannot be used, DivergedError, TooLargeError, and other
    errors of `distbp.DistbpError`, on all ranks alike; what `on_epoch` raises is raised on its rank, and a DistbpError
    on the others.

    >>> import distbp
    >>> run = distbp.train("digits.h5", hidden=[32], epochs=8)
    >>> run.history["train_loss"].shape
    (8,)
    >>> bool(run.history["validation_accuracy"][-1] > 0.9)
    True

    Arrays, and a stop when it is good enough:

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> run = distbp.train((x, np.sin(3 * x)), hidden=[16], on_epoch=lambda row: "stop" if row["epoch"] == 2 else None)
    >>> run.model().predict(x[:3]).shape
    (3, 1)
    """
    how = {"out": out, "resume": resume, "progress": progress}
    return train_in_python(data, validation, comm, on_epoch, how, options)


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
