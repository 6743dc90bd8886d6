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
from distbp.mathematics.backprop import Piece


class Feed:
    """Fills pieces with samples of one split.  All memory is taken here, none later."""

    def __init__(self, problem: Problem, data: Split, longest: int, dtype: DTypeLike) -> None:
        self._x = _Columns(data.layout.width("x"), data.layout.dtype("x"), problem.input, longest, dtype)
        self._is_labelled, self._y = data.is_labelled, None
        if data.is_labelled:
            self._taken = np.empty(longest, np.int32)
            self._numbers = np.arange(longest)
            self._one_output = problem.network.sizes[-1] == 1
        elif data.layout.y_name:
            self._y = _Columns(data.layout.width("y"), data.layout.dtype("y"), problem.target, longest, dtype)

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


def feed_bytes(data: Split, longest: int, dtype: DTypeLike) -> int:
    """Memory that a feed takes for pieces of at most `longest` samples."""
    size = _columns_bytes(data, "x", longest, dtype)
    if data.is_labelled:
        return size + longest * (np.dtype(np.int32).itemsize + np.dtype(np.int64).itemsize)
    return size + (_columns_bytes(data, "y", longest, dtype) if data.layout.y_name else 0)


def _columns_bytes(data: Split, of: str, longest: int, dtype: DTypeLike) -> int:
    """The rows as they are in the data, where they are of another type; shift and factor are small."""
    source = data.layout.dtype(of)
    return longest * data.layout.width(of) * source.itemsize if source != dtype else 0


class _Columns:
    """Rows of a two-dimensional array, scaled, in the dtype of the computation."""

    def __init__(self, width: int, source: np.dtype[Any], scaling: Scaling, longest: int, dtype: DTypeLike) -> None:
        self._scaled = ScaledRows(scaling, source, dtype)
        self._raw = np.empty((longest, width), source) if source != dtype else None

    def take(self, source: NDArray[Any], rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Out, shape (len(rows), columns), is filled.  (mode="clip" lets take write without a copy.)"""
        raw = out if self._raw is None else self._raw[: len(rows)]
        source.take(rows, axis=0, out=raw, mode="clip")
        self._scaled.fill(raw, out)
