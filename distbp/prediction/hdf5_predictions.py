"""Predictions as HDF5."""

from __future__ import annotations

from typing import Any

import h5py
from numpy.typing import NDArray

from distbp.data.labels import to_array
from distbp.data.problem import Problem
from distbp.files.forgiving_file import ForgivingFile
from distbp.prediction.predictions import name_of_values, read_off


class HDF5Predictions:
    """For a classifier: `class` (N,), labels; `probability` or `output` (N, K); `classes` (K,), labels of its columns.

    For targets: `y` (N, n_F).  See `PredictionFile`.
    """

    def __init__(self, file: int, problem: Problem, N: int) -> None:
        self._disk = ForgivingFile(file)
        self._file = h5py.File(self._disk, "w")
        self._problem, self._name, self._N, self._done = problem, name_of_values(problem), N, 0
        self._labels = None if problem.labels is None else _stored(to_array(problem.labels))

    def write(self, a: NDArray[Any]) -> None:
        classes, values = read_off(self._problem, a)
        columns = {self._name: values}
        if self._labels is not None:
            columns = {"class": self._labels[classes], **columns}
        if self._done == 0:
            if self._labels is not None:
                self._file.create_dataset("classes", data=self._labels, track_times=False)
            for name, rows in columns.items():
                self._file.create_dataset(name, (self._N, *rows.shape[1:]), rows.dtype, track_times=False)
        for name, rows in columns.items():
            self._file[name][self._done : self._done + len(rows)] = rows
        self._done += len(values)
        self._disk.check()

    def close(self) -> None:
        """Writes what has not been written."""
        self._file.close()
        self._disk.close()


def _stored(labels: NDArray[Any]) -> NDArray[Any]:
    """Strings marked as UTF-8."""
    return labels.astype(h5py.string_dtype("utf-8", labels.itemsize)) if labels.dtype.kind == "S" else labels
