"""Predictions as CSV: a line with the names of the columns, then a line for each sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.mathematics.batches import pieces
from distbp.prediction.predictions import read_off
from distbp.prediction.text_file import CELLS, DIGITS, TextFile


class CSVPredictions:
    """A cell for each of `columns` (see `column_names`).  See `PredictionFile`."""

    def __init__(
        self, file: int, problem: Problem, columns: Sequence[str], *, delimiter: str = ",", compressed: bool = False
    ) -> None:
        self._file, self._problem, self._delimiter = TextFile(file, compressed=compressed), problem, delimiter
        self._labels = [self._quoted([str(label)]) for label in problem.labels or ()]
        self._header = self._quoted(columns) + "\n"

    def write(self, a: NDArray[Any]) -> None:
        self._file.write(self._header)
        self._header = ""
        classes, values = read_off(self._problem, a)
        number = f"%.{DIGITS[values.dtype.name]}g"
        line = self._delimiter.join([*(["%s"] if self._labels else []), *[number] * values.shape[1]]) + "\n"
        for first, last in pieces(0, len(values), max(1, CELLS // values.shape[1])):
            columns = values[first:last].T.tolist()
            if classes is not None:
                columns = [[self._labels[k] for k in classes[first:last].tolist()], *columns]
            self._file.write("".join(map(line.__mod__, zip(*columns, strict=True))))

    def close(self) -> None:
        """Writes what has not been written."""
        self._file.close()

    def _quoted(self, cells: Sequence[str]) -> str:
        """A line, without its end.  With the writer's own line ends a carriage return is quoted too."""
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=self._delimiter).writerow(cells)
        return line.getvalue().removesuffix("\r\n")
