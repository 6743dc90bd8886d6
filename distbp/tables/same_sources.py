"""What does not go together: one file for training and for testing, a data set and the ending of another format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from distbp.data.same_files import identity
from distbp.errors import UsageError
from distbp.tables.table import Table

HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
ENDINGS = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat", ".data", ".arff", ".svm", ".libsvm"), "text"),
    **dict.fromkeys((".npy", ".npz"), "of NumPy"),
    **dict.fromkeys((".parquet", ".pq"), "Parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "Arrow"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "JSON"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zip", ".zst", ".tar", ".tgz"), "packed"),
    **dict.fromkeys((".mat", ".root", ".fits", ".zarr", ".pkl", ".pickle", ".xls", ".xlsx"), "another format"),
}


def check_ending(out: str) -> None:
    """Raises UsageError where the name of the file to write has an ending, and one of another format than HDF5."""
    ending = os.path.splitext(out.lower())[1]
    if ending and ending not in HDF5:
        other = f", and {ending} files are {ENDINGS[ending]}" if ending in ENDINGS else ""
        raise UsageError(f"--out {out}: is written in HDF5{other}; expected a name that ends in .h5 or .hdf5")


def check_apart(train: Sequence[str], test: Sequence[str], tables: Mapping[str, Sequence[Table]]) -> None:
    """Raises UsageError where the rows of a source are for training and for testing: the test would say nothing."""
    seen = {identity(path): path for path in train}
    for path in test:
        other = seen.get(identity(path)) if identity(path) else None
        if other is None:
            continue
        parts = {table.name.removeprefix(path) for table in tables.get("test", ()) if table.name.startswith(path)}
        used = {
            table.name.removeprefix(other)
            for split, found in tables.items()
            for table in found
            if split != "test" and table.name.startswith(other)
        }
        if parts & used or not parts:
            raise UsageError(
                f"--test {path}: is a source of the training rows too{'' if other == path else f' ({other})'}; a test "
                "on rows that were trained on says nothing: take some of them with --test-fraction, --test-where or "
                "--test-last"
            )
