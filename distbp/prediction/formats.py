"""The formats of predictions: the ending of a file's name says which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from distbp.data.problem import Problem
from distbp.errors import UsageError
from distbp.prediction.columns import column_names
from distbp.prediction.csv_predictions import CSVPredictions
from distbp.prediction.hdf5_predictions import HDF5Predictions
from distbp.prediction.json_predictions import JSONPredictions
from distbp.prediction.npy_predictions import NPYPredictions
from distbp.prediction.parquet_predictions import ParquetPredictions, check_installed
from distbp.prediction.predictions import PredictionFile

WITH_COLUMNS: dict[str, Callable[[int, Problem, Sequence[str]], PredictionFile]] = {
    ".csv": CSVPredictions,
    ".csv.gz": partial(CSVPredictions, compressed=True),
    ".tsv": partial(CSVPredictions, delimiter="\t"),
    ".tsv.gz": partial(CSVPredictions, delimiter="\t", compressed=True),
    ".json": partial(JSONPredictions, is_list=True),
    ".jsonl": partial(JSONPredictions, is_list=False),
    ".parquet": ParquetPredictions,
}
OF_KNOWN_LENGTH: dict[str, Callable[[int, Problem, int], PredictionFile]] = {
    ".npy": NPYPredictions,
    ".h5": HDF5Predictions,
    ".hdf5": HDF5Predictions,
}
ENDINGS = (*WITH_COLUMNS, *OF_KNOWN_LENGTH)


def check_format(out: Path) -> str:
    """The ending.  Raises UsageError where it says no format that can be written here."""
    ending = next((ending for ending in ENDINGS if out.name.lower().endswith(ending)), None)
    if ending is None:
        raise UsageError(
            f"--out {out}: expected a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, for the ending "
            "says what is written"
        )
    if ending == ".parquet":
        check_installed()
    return ending


def new_predictions(out: Path, descriptor: int, problem: Problem, y: str, N: int) -> PredictionFile:
    """The file, for N samples.  `y`: names of the data sets that the targets were learnt from, see `column_names`."""
    ending = check_format(out)
    if ending in OF_KNOWN_LENGTH:
        return OF_KNOWN_LENGTH[ending](descriptor, problem, N)
    return WITH_COLUMNS[ending](descriptor, problem, column_names(problem, y))
