"""Samples that the caller holds in arrays, in the place of data files.

Every rank holds all samples, and they are the same on all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.layout import Column, Layout, Part
from distbp.data.locate import check_kinds
from distbp.data.split import IN_MEMORY
from distbp.data.survey import Survey, followed_columns, task_of
from distbp.errors import DataError, UsageError
from distbp.ranks.communicator import Communicator, agree
from distbp.settings.config import Config

TRAINING, VALIDATION = "training", "validation"
ONLY_OF_FILES = ("split", "validation_split", "x", "y", "drop", "each", "trust_links", "stage_to")
COMPARED_ROWS = 1024  # spread evenly


@dataclass(frozen=True)
class Samples:
    """x, shape (N, …), numbers; y, shape (N,), labels, or (N,) or (N, n_F), targets, or columns of 0 with one 1.

    `x_names`, `y_names`: of the numbers of a row, or ().
    """

    x: NDArray[Any]
    y: NDArray[Any]
    x_names: tuple[str, ...] = ()
    y_names: tuple[str, ...] = ()


def layout_of(samples: Samples, split: str) -> Layout:
    """Raises DataError for arrays that are no samples."""
    N = len(samples.x) if samples.x.ndim else 0
    for name, array in (("x", samples.x), ("y", samples.y)):
        if array.ndim == 0 or len(array) == 0:
            raise DataError(f"{split}: {name} has the shape {array.shape}; expected a row for each sample")
        if array.dtype.kind not in "biufO" or array.dtype.itemsize > 8:
            raise DataError(
                f"{split}: {name} is of type {array.dtype}; expected real numbers" + " or labels" * (name == "y")
            )
        if prod(array.shape[1:]) == 0:
            raise DataError(f"{split}: {name} has the shape {array.shape}, which is no columns")
    if len(samples.y) != N:
        raise DataError(f"{split}: x has {N} rows and y has {len(samples.y)}; each sample needs one row in both")
    x, y = _column(f"{split}/x", samples.x, samples.x_names), _column(f"{split}/y", samples.y, samples.y_names)
    return Layout(split, "x", "y", (Part(0, N, (x,), (y,)),))


def _column(name: str, array: NDArray[Any], names: Sequence[str]) -> Column:
    array = array.view(np.uint8) if array.dtype.kind == "b" else array
    rows = np.ascontiguousarray(array.reshape(len(array), -1), array.dtype.newbyteorder("="))
    dtype = "|O" if rows.dtype.kind == "O" else rows.dtype.str
    return Column(
        IN_MEMORY, name, None, len(rows), rows.shape[1], dtype, array.shape[1:], None, names=tuple(names), held=rows
    )


def survey_of(comm: Communicator, config: Config, training: Samples, validation: Samples | None) -> Survey:
    """What `distbp.data.survey` finds out of files.  Raises DataError or UsageError, agreed by all ranks."""
    found = agree(comm, lambda: _survey(config, training, validation))
    own = [_digest(layout) for layout in (found.training, found.validation) if layout]
    first = comm.broadcast(own)

    def check() -> None:
        if own != first:
            raise DataError("these arrays are others than those of rank 0; every rank needs all samples")

    agree(comm, check)
    return found


def _survey(config: Config, training: Samples, validation: Samples | None) -> Survey:
    for name in ONLY_OF_FILES if config.data != [IN_MEMORY] else ():
        if getattr(config, name) != getattr(Config(), name):
            raise UsageError(f"{name}: is for data files, and the samples were given as arrays")
    layouts = {TRAINING: layout_of(training, TRAINING)}
    if validation:
        layouts[VALIDATION] = layout_of(validation, VALIDATION)
    layouts = {split: check_kinds(replace(one, task=task_of(config, one))) for split, one in layouts.items()}
    warnings = [
        f"warning   {column} {how}: a network can learn from it where in the arrays a sample was"
        for column, how in followed_columns(layouts[TRAINING])
    ]
    resolved = replace(config, data=[IN_MEMORY], split=TRAINING, x="x", y="y")
    resolved = replace(resolved, validation_split=VALIDATION if validation else "")
    return Survey(resolved, layouts[TRAINING], layouts.get(VALIDATION), tuple(warnings))


def _digest(layout: Layout) -> tuple[object, ...]:
    """By which the arrays of ranks are compared: shapes, types, names, and a checksum over some of the rows."""
    found: list[object] = []
    for column in layout.parts[0].columns:
        assert column.held is not None
        rows = np.linspace(0, column.rows - 1, min(column.rows, COMPARED_ROWS)).astype(np.int64)
        some = column.held[rows]
        bytes_ = repr(some.tolist()).encode() if column.is_text else some.tobytes()
        found += [column.rows, column.shape, column.dtype, column.names, zlib.crc32(bytes_)]
    return tuple(found)
