"""Predictions as JSON: an object for each sample, in a list, or each on a line of its own (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.mathematics.batches import pieces
from distbp.prediction.predictions import read_off
from distbp.prediction.text_file import CELLS, DIGITS, TextFile


class JSONPredictions:
    """A member for each of `columns` (see `column_names`); null for what JSON has no number for.

    See `PredictionFile`.
    """

    def __init__(self, file: int, problem: Problem, columns: Sequence[str], *, is_list: bool) -> None:
        """`is_list`: one JSON value; else lines."""
        self._file, self._problem = TextFile(file, compressed=False), problem
        self._names = [json.dumps(name, ensure_ascii=False).replace("%", "%%") for name in columns]
        self._labels = [json.dumps(label, ensure_ascii=False) for label in problem.labels or ()]
        self._begin, self._between, self._end = ("[\n", ",\n", "\n]\n") if is_list else ("", "\n", "\n")

    def write(self, a: NDArray[Any]) -> None:
        classes, values = read_off(self._problem, a)
        for first, last in pieces(0, len(values), max(1, CELLS // values.shape[1])):
            own = None if classes is None else classes[first:last]
            self._file.write(self._begin + self._between.join(self._objects(own, values[first:last])))
            self._begin = self._between

    def _objects(self, classes: NDArray[np.int64] | None, values: NDArray[Any]) -> list[str]:
        number, columns = f"%.{DIGITS[values.dtype.name]}g", values.T.tolist()
        if not np.isfinite(values).all():
            columns = [[number % v if np.isfinite(v) else "null" for v in column] for column in columns]
            number = "%s"
        kinds = [number] * len(columns)
        if classes is not None:
            kinds, columns = ["%s", *kinds], [[self._labels[k] for k in classes.tolist()], *columns]
        line = "{" + ", ".join(f"{name}: {kind}" for name, kind in zip(self._names, kinds, strict=True)) + "}"
        return list(map(line.__mod__, zip(*columns, strict=True)))

    def close(self) -> None:
        """Writes what has not been written."""
        try:
            self._file.write(self._end)
        finally:
            self._file.close()
