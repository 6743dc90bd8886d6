"""Values of other data that are absurdly far from those of training: one of them can decide a whole validation loss.

Scaled values of training are of order 1; those of N samples lie within √N.  Where the extremes of the columns are
within FAR, nothing more is looked at.  They are known already where data are streamed, and integers of a small type
cannot be beyond it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling, extremes_of
from distbp.data.split import Split
from distbp.mathematics.batches import pieces, shard
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.stop import Pulse

FAR = 1e6  # of scaled values
LOOK_ROWS = 4096


def far_values(comm: Communicator, problem: Problem, data: Split, pulse: Pulse = lambda phase: None) -> list[str]:
    """A sentence for x, and for targets y, that have values beyond FAR when scaled: the first one, and how many rows.

    All ranks call this, and get the same.  Raises DataError, agreed, for rows that cannot be read.
    """
    has_targets = bool(data.layout.y_name) and not data.is_labelled
    found = [_far(comm, data, "x", problem.input, pulse)]
    found.append(_far(comm, data, "y", problem.target, pulse) if has_targets else "")
    return [one for one in found if one]


def describe(data: Split, of: str, row: int, column: int, value: float, scaled: float) -> str:
    """'d.h5: test/x, row 7, column 3: 1e+30 is 2e+30 when scaled as in training'"""
    return (
        f"{data.layout.place(row, of, column)}, {data.layout.column_name(of, column)}: {value:.6g} is {scaled:.3g} "
        "when scaled as in training"
    )


def scaled(values: NDArray[Any], scaling: Scaling) -> NDArray[np.float64]:
    """In float64, shape (rows, columns); ∞ where they are beyond it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((values - scaling.shift) / scaling.spread)


def _far(comm: Communicator, data: Split, of: str, scaling: Scaling, pulse: Pulse) -> str:
    dtype = data.layout.dtype(of)
    if scaling.is_none:
        return ""
    if dtype.kind in "iu" and not _is_far(np.array([[np.iinfo(dtype).min], [np.iinfo(dtype).max]]), scaling).any():
        return ""
    extremes = data.extremes.get(of) or extremes_of(comm, data.rows(of), pulse)
    if not _is_far(np.stack([extremes.low, extremes.high]), scaling).any():
        return ""
    rows, far, first = data.rows(of), 0, ""
    start, end = shard(len(data), comm.rank, comm.size)

    def look() -> None:
        nonlocal far, first
        for begin, stop in pieces(start, end, LOOK_ROWS):
            pulse("looking for values that are far away")
            block = rows[begin:stop]
            is_far = _is_far(block, scaling)
            if is_far.any() and not first:
                row, column = (int(at) for at in np.argwhere(is_far)[0])
                value = scaled(block[row : row + 1], scaling)[0, column]
                first = describe(data, of, begin + row, column, float(block[row, column]), float(value))
            far += int(is_far.any(axis=1).sum())

    agree(comm, look)
    everywhere = comm.allgather((far, first))
    count = sum(far for far, _ in everywhere)
    more = f"; {count} rows have such values" if count > 1 else ""
    return next(first for _, first in everywhere if first) + more


def _is_far(values: NDArray[Any], scaling: Scaling) -> NDArray[np.bool_]:
    return np.asarray(~(np.abs(scaled(values, scaling)) <= FAR))
