"""Which table each source of `distbp import` is, which split it belongs to, and which of its columns are what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from distbp.data.data_file import check_is_file
from distbp.errors import DataError, UsageError
from distbp.tables.array_table import Array, ArrayTable, idx, is_idx, npy, npz
from distbp.tables.csv_table import CSVTable
from distbp.tables.hdf5_table import hdf5_tables, is_hdf5
from distbp.tables.parquet_table import ParquetTable
from distbp.tables.source_files import Table

LABEL_NAMES = ("y", "label", "labels", "target", "targets", "class")
ENDINGS = ".csv, .tsv, .npy, .npz, .parquet, HDF5, or IDX; the text files, .npy and IDX maybe gzipped"


def open_sources(
    train: Sequence[str], test: Sequence[str], *, header: bool, splits: Sequence[str], trust_links: bool
) -> dict[str, list[Table]]:
    """The tables of each split.  `splits`: those to take of HDF5 files; none: all.  Raises DataError."""
    found: dict[str, list[Table]] = {}
    for split, paths in (("train", train), ("test", test)):
        if paths and split in found:
            raise UsageError(f"--test: {found[split][0].name} is a split for testing already (see --split)")
        arrays: list[Array] = []
        for path in paths:
            if not os.path.exists(path):
                raise DataError(f"{path}: no such file")
            check_is_file(path)
            ending = Path(path.lower().removesuffix(".gz")).suffix
            if is_hdf5(path):
                for name, part in hdf5_tables(path, split, splits, trust_links=trust_links).items():
                    found.setdefault(name, []).append(part)
            elif ending == ".npy":
                arrays.append(npy(path))
            elif ending == ".npz":
                for name, table in _npz_tables(path, split).items():
                    found.setdefault(name, []).append(table)
            elif ending == ".parquet":
                found.setdefault(split, []).append(ParquetTable(path))
            elif ending in (".csv", ".tsv"):
                delimiter = "\t" if ending == ".tsv" else ","
                found.setdefault(split, []).append(CSVTable(path, header=header, delimiter=delimiter))
            elif is_idx(path):
                arrays.append(idx(path))
            else:
                raise DataError(f"{path}: of no known format; expected {ENDINGS}")
        if arrays:
            found.setdefault(split, []).append(_pair(arrays))
    return found


def _pair(arrays: list[Array]) -> ArrayTable:
    """Inputs and labels that come as two files: the one with more dimensions are the inputs."""
    names = ", ".join(array.name for array in arrays)
    if len(arrays) != 2:
        raise DataError(f"{names}: expected two files of arrays for a split, the inputs and the labels or targets")
    x, y = sorted(arrays, key=lambda array: -len(array.shape))
    return ArrayTable(names, {"x": x, "y": y})


def _npz_tables(path: str, split: str) -> dict[str, ArrayTable]:
    """One table; or two, where all names end in _train and _test."""
    arrays = npz(path)
    if split == "train" and arrays and all(name.endswith(("_train", "_test")) for name in arrays):
        tables = {}
        for part in ("train", "test"):
            own = {name.removesuffix(f"_{part}"): array for name, array in arrays.items() if name.endswith(f"_{part}")}
            if own:
                tables[part] = ArrayTable(path, own)
        return tables
    return {split: ArrayTable(path, arrays)}


def choose_columns(
    sources: dict[str, list[Table]], x: Sequence[str], y: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that are inputs, and those that are labels or targets: as given, or by their names.

    Raises UsageError where that cannot be said, DataError where a table does not have them.
    """
    first = next(iter(sources.values()))[0]
    found = y or [name for name in first.columns if name.lower() in LABEL_NAMES]
    if not y and len(found) != 1:
        raise UsageError(
            f"{first.name}: which column has the labels or targets? Name it with --y; there are {_few(first.columns)}"
        )
    inputs = x or [name for name in first.columns if name not in found]
    if not inputs:
        raise DataError(f"{first.name}: no column is left for the inputs beside {', '.join(found)}")
    for table in (table for tables in sources.values() for table in tables):
        missing = [name for name in (*inputs, *found) if name not in table.columns]
        if missing:
            raise DataError(f"{table.name}: no column {missing[0]!r}; it has {_few(table.columns)}")
    return tuple(inputs), tuple(found)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 12 else [*names[:10], "…", names[-1]])
