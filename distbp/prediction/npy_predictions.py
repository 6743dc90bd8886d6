"""Predictions as an array in NumPy's own format, for numpy.load."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.prediction.predictions import name_of_values, read_off


class NPYPredictions:
    """For targets: (N, n_F).  For a classifier: (N,) with the fields `class`, and `probability` or `output`, (K,).

    No pickle is needed to read it.  See `PredictionFile`.
    """

    def __init__(self, file: int, problem: Problem, N: int) -> None:
        self._file = os.fdopen(os.dup(file), "wb")
        self._problem, self._N, self._begun = problem, N, False
        self._labels = None if problem.labels is None else np.array(problem.labels)  # int64, or text

    def write(self, a: NDArray[Any]) -> None:
        classes, values = read_off(self._problem, a)
        rows = np.ascontiguousarray(values)
        if self._labels is not None:
            name = name_of_values(self._problem)
            kind = np.dtype([("class", self._labels.dtype), (name, values.dtype, values.shape[1:])])
            rows = np.empty(len(values), kind)
            rows["class"], rows[name] = self._labels[classes], values
        if not self._begun:
            self._begun = True
            described = np.lib.format.dtype_to_descr(rows.dtype)
            header = {"descr": described, "fortran_order": False, "shape": (self._N, *rows.shape[1:])}
            np.lib.format.write_array_header_2_0(self._file, header)
        self._file.write(rows.tobytes())

    def close(self) -> None:
        """Writes what has not been written."""
        self._file.close()
