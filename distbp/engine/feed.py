"""From rows of a data set to a[1] and y of a piece: gather, convert, scale.

The data keep their own dtype in memory (uint8 images stay uint8); only the rows of the piece become floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.data.split import Split
from distbp.engine.scaled_rows import ScaledRows
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.backprop import Piece


class Feed:
    """Fills pieces with samples of one split.  All memory is taken here, none later."""

    def __init__(self, problem: Problem, data: Split, longest: int, dtype: DTypeLike, arena: Arena = ALIGNED) -> None:
        self._x = _Columns(problem.input, _raw_rows(data, "x", longest, dtype, arena), data.layout.dtype("x"), dtype)
        self._is_labelled, self._y = data.is_labelled, None
        if data.is_labelled:
            self._taken, self._numbers = arena.take(longest, np.int32), arena.take(longest, np.int64)
            self._numbers[:] = np.arange(longest)
            self._one_output = problem.network.sizes[-1] == 1
        elif data.layout.y_name:
            raw = _raw_rows(data, "y", longest, dtype, arena)
            self._y = _Columns(problem.target, raw, data.layout.dtype("y"), dtype)

    def fill(self, piece: Piece, x: NDArray[Any], y: NDArray[Any] | None, rows: NDArray[np.int64]) -> None:
        """a[1] and y of the piece from these rows of x and y; len(rows) = piece.m."""
        self._x.take(x, rows, piece.a[1].T)
        if y is not None and self._is_labelled:
            labels = self._taken[: len(rows)]
            y.take(rows, out=labels, mode="clip")
            if self._one_output:
                piece.y[0] = labels
            else:
                one_hot = piece.y.T
                one_hot.fill(0.0)
                one_hot[self._numbers[: len(rows)], labels] = 1.0
        elif y is not None and self._y is not None:
            self._y.take(y, rows, piece.y.T)


def _raw_rows(data: Split, of: str, longest: int, dtype: DTypeLike, arena: Arena) -> NDArray[Any] | None:
    """Room for rows as they are in the data, where they are of another type."""
    source = data.layout.dtype(of)
    return arena.take((longest, data.layout.width(of)), source) if source != dtype else None


class _Columns:
    """Rows of a two-dimensional array, scaled, in the dtype of the computation."""

    def __init__(self, scaling: Scaling, raw: NDArray[Any] | None, source: np.dtype[Any], dtype: DTypeLike) -> None:
        self._scaled, self._raw = ScaledRows(scaling, source, dtype), raw

    def take(self, source: NDArray[Any], rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Out, shape (len(rows), columns), is filled.  (mode="clip" lets take write without a copy.)"""
        raw = out if self._raw is None else self._raw[: len(rows)]
        source.take(rows, axis=0, out=raw, mode="clip")
        self._scaled.fill(raw, out)
