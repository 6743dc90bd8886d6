"""Predictions as CSV: a line with the names of the columns, then a line for each sample."""

from __future__ import annotations

import csv
import io
import os
from typing import Any

from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.mathematics.batches import pieces
from distbp.prediction.predictions import name_of_values, read_off

CELLS = 2**16  # that are written at a time
DIGITS = {"float32": 9, "float64": 17}  # with so many, every number is read back to the same bits


class CSVPredictions:
    """For a classifier: class, and probability_LABEL or output_LABEL for each label.  For targets: their columns.

    UTF-8, lines end with \\n.  See `PredictionFile`.
    """

    def __init__(self, file: int, problem: Problem, y: str) -> None:
        """`y`: the names of the data sets that the targets were learnt from, with commas between them."""
        self._file = open(os.dup(file), "w", encoding="utf-8", newline="")  # noqa: SIM115
        self._problem = problem
        self._labels = [_quoted([str(label)]) for label in problem.labels or ()]
        self._header = _quoted(_columns(problem, y)) + "\n"

    def write(self, a: NDArray[Any]) -> None:
        """Adds lines."""
        self._file.write(self._header)
        self._header = ""
        classes, values = read_off(self._problem, a)
        number = f"%.{DIGITS[values.dtype.name]}g"
        line = ",".join([*(["%s"] if self._labels else []), *[number] * values.shape[1]]) + "\n"
        for first, last in pieces(0, len(values), max(1, CELLS // values.shape[1])):
            columns = values[first:last].T.tolist()
            if classes is not None:
                columns = [[self._labels[k] for k in classes[first:last].tolist()], *columns]
            self._file.write("".join(map(line.__mod__, zip(*columns, strict=True))))

    def close(self) -> None:
        """Writes what has not been written."""
        self._file.close()


def _columns(problem: Problem, y: str) -> list[str]:
    """Targets have the names of their data sets, where these are of one column each, else y or y_0, y_1, …"""
    name = name_of_values(problem)
    if problem.labels is not None:
        return ["class", *(f"{name}_{label}" for label in problem.labels)]
    n_F = problem.network.sizes[-1]
    names = [name.strip() for name in y.split(",") if name.strip()]
    if len(names) == len(set(names)) == n_F:
        return names
    return [name] if n_F == 1 else [f"{name}_{j}" for j in range(n_F)]


def _quoted(cells: list[str]) -> str:
    """A line, without its end.  With the writer's own line ends a carriage return is quoted too."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\r\n")
