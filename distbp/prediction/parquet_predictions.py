"""Predictions as Parquet, by PyArrow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.errors import UsageError
from distbp.prediction.predictions import read_off

GROUP_ROWS, GROUP_CELLS = 65536, 2**22  # of a row group, at most; each has a description at the end of the file


def check_installed() -> None:
    """Raises UsageError."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError(f"Parquet needs PyArrow: pip install 'distbp[parquet]' ({error})") from None


class ParquetPredictions:
    """A column for each of `columns` (see `column_names`).  See `PredictionFile`."""

    def __init__(self, file: int, problem: Problem, columns: Sequence[str]) -> None:
        self._file = os.fdopen(os.dup(file), "wb")
        self._problem, self._columns = problem, columns
        self._labels = None if problem.labels is None else np.array(problem.labels)
        self._rows = max(1, min(GROUP_ROWS, GROUP_CELLS // problem.network.sizes[-1]))
        self._kept: list[NDArray[Any]] = []
        self._writer: Any = None

    def write(self, a: NDArray[Any]) -> None:
        """Adds rows; those of several ranks become one row group."""
        while len(a):
            free = self._rows - sum(map(len, self._kept))
            self._kept.append(a[:free].copy())  # who has made it uses its memory again
            a = a[free:]
            if len(a) or sum(map(len, self._kept)) == self._rows:
                self._write_group()

    def _write_group(self) -> None:
        import pyarrow
        import pyarrow.parquet

        classes, values = read_off(self._problem, np.concatenate(self._kept))
        self._kept = []
        arrays = [pyarrow.array(np.ascontiguousarray(column)) for column in values.T]
        if self._labels is not None:
            arrays.insert(0, pyarrow.array(self._labels).take(pyarrow.array(classes)))
        table = pyarrow.Table.from_arrays(arrays, names=list(self._columns))
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Writes what has not been written."""
        try:
            if self._kept:
                self._write_group()
            if self._writer is not None:
                self._writer.close()
        finally:
            self._kept, self._writer = [], None
            self._file.close()
