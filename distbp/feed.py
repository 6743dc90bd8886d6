"""From rows of a data set to a[1] and y of a piece: gather, convert, scale.

The data keep their own dtype in memory (uint8 images stay uint8); only the rows of the piece become floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.backprop import Piece
from distbp.data import Split
from distbp.problem import Problem
from distbp.scaling import Scaling


class Feed:
    """Fills pieces with samples of one split.  All memory is taken here, none later."""

    def __init__(self, problem: Problem, data: Split, longest: int, dtype: DTypeLike) -> None:
        self._x = _Columns(data.x, problem.input, longest, dtype)
        self._labels = data.y if data.is_labelled else None
        self._y = None
        if self._labels is not None:
            self._taken = np.empty(longest, self._labels.dtype)
            self._numbers = np.arange(longest)
            self._one_output = problem.network.sizes[-1] == 1
        elif data.y is not None:
            self._y = _Columns(data.y, problem.target, longest, dtype)

    def fill(self, piece: Piece, rows: NDArray[np.int64]) -> None:
        """a[1] and y of the piece from these rows of the split; len(rows) = piece.m."""
        self._x.take(rows, piece.a[1].T)
        if self._labels is not None:
            labels = self._taken[: len(rows)]
            np.take(self._labels, rows, out=labels, mode="clip")
            if self._one_output:
                piece.y[0] = labels
            else:
                one_hot = piece.y.T
                one_hot.fill(0.0)
                one_hot[self._numbers[: len(rows)], labels] = 1.0
        elif self._y is not None:
            self._y.take(rows, piece.y.T)


class _Columns:
    """Rows of a two-dimensional array, scaled, in the dtype of the computation."""

    def __init__(self, source: NDArray[Any], scaling: Scaling, longest: int, dtype: DTypeLike) -> None:
        self._source = source
        self._direct = source.dtype == dtype
        self._scaled = not scaling.is_none
        # The shift is subtracted in a type that holds the source exactly: 1e9 + 0.1 must not be rounded before it.
        wide = np.result_type(source.dtype, np.dtype(dtype))
        self._shift = scaling.shift.astype(wide)
        self._factor = (1.0 / scaling.spread).astype(dtype)
        self._raw = np.empty((longest, source.shape[1]), source.dtype) if not self._direct else None

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Out, shape (len(rows), columns), is filled.  (mode="clip" lets np.take write without a copy.)"""
        raw = out if self._raw is None else self._raw[: len(rows)]
        np.take(self._source, rows, axis=0, out=raw, mode="clip")
        if self._scaled:
            np.subtract(raw, self._shift, out=out, casting="same_kind")
            out *= self._factor
        elif raw is not out:
            np.copyto(out, raw, casting="unsafe")
