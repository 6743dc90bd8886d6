"""The functions of the public Python API; `import distbp` offers them under its own name."""

from __future__ import annotations

import os
from typing import Any

from distbp.errors import UsageError
from distbp.model.model import Model


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
    from distbp.model.read_model import read_model

    return read_model(_path(path, "load"))


def _path(path: Any, who: str) -> str:
    """The path as text.  Raises UsageError."""
    try:
        return os.fsdecode(path)
    except TypeError:
        raise UsageError(f"{who}: expected a path, a str or an os.PathLike, got {type(path).__name__}") from None


def open_dataset(paths: str) -> None:
    """It is not there yet."""
    raise NotImplementedError
