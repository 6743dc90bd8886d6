"""The sources of `distbp import` as tables, and which split each of them belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from distbp.data.data_file import check_is_file
from distbp.errors import DataError, UsageError
from distbp.tables.formats import format_of
from distbp.tables.idx_file import idx
from distbp.tables.libsvm_table import agree
from distbp.tables.numpy_file import npy
from distbp.tables.row_table import RowTable, few
from distbp.tables.stored_array import StoredArray, array_columns
from distbp.tables.table import Table
from distbp.tables.text_options import TextOptions

READ = (
    "text (CSV, TSV, LibSVM, ARFF, …), NPY, NPZ, IDX, HDF5, Parquet, Arrow, netCDF, ROOT, FITS, MATLAB, or a directory "
    "of Parquet or Zarr"
)

READERS = {  # each imported where it is needed: the modules and functions that give tables, by part or as one
    "npz": ("npz_table", "npz_tables"),
    "parquet": ("parquet_files", "parquet_tables"),
    "directory": ("parquet_files", "parquet_tables"),
    "arrow": ("arrow_table", "arrow_table"),
    "root": ("root_table", "root_table"),
    "fits": ("fits_table", "fits_table"),
    "netcdf": ("netcdf_table", "netcdf_table"),
    "matlab": ("matlab_table", "matlab_tables"),
    "zarr": ("zarr_table", "zarr_tables"),
}


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read.  `splits`: those to take of files that have some; (): all.

    `names`: of columns that are needed, by which the groups of an HDF5 file are known that are splits.
    `each`: a group of an HDF5 file is one sample.
    """

    text: TextOptions = TextOptions()
    splits: tuple[str, ...] = ()
    trust_links: bool = False
    names: tuple[str, ...] = ()
    each: bool = False


@dataclass
class _Found:
    """The tables of each split, and arrays that are files of their own."""

    tables: dict[str, list[Table]] = field(default_factory=dict)
    arrays: list[StoredArray] = field(default_factory=list)


def open_sources(
    train: Sequence[str], test: Sequence[str], options: SourceOptions, *, arrays: str = "pair"
) -> dict[str, list[Table]]:
    """The tables of each split: "train" (or what a file calls its parts), and "test" of the sources `test`.

    `arrays`: what NPY and IDX files are, which have no names of columns: two of them a "pair" of x and y, or each of
    them a table with one column of that name ("x", and "y" for labels that are in sources of their own).
    Raises DataError, UsageError.
    """
    found: dict[str, list[Table]] = {}
    for split, paths in (("train", train), ("test", test)):
        if paths and split in found:
            raise UsageError(f"--test: {found[split][0].name} is a split for testing already (see --split)")
        opened = _Found(found)
        for path in paths:
            _open(path, split, options, opened)
        if opened.arrays:
            found.setdefault(split, []).extend(_array_tables(opened.arrays, arrays))
    agree(table for tables in found.values() for table in tables)
    return found


def _open(path: str, split: str, options: SourceOptions, found: _Found) -> None:
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file")
    if not os.path.isdir(path):
        check_is_file(path)
    from distbp.tables.hdf5_table import hdf5_tables, is_hdf5

    form = "hdf5" if not os.path.isdir(path) and is_hdf5(path) else format_of(path)
    if form in ("npy", "idx"):
        found.arrays.append(npy(path) if form == "npy" else idx(path))
        return
    if form == "hdf5":
        parts: Mapping[str, Any] = hdf5_tables(
            path, split, options.splits, names=options.names, trust_links=options.trust_links, each=options.each
        )
        parts = {name: [table] for name, table in parts.items()}
    else:
        parts = _chosen(path, _tables(path, form, options), split, options.splits)
    for name, tables in parts.items():
        found.tables.setdefault(name, []).extend(tables)


def _tables(path: str, form: str, options: SourceOptions) -> Mapping[str, Sequence[Table]]:
    """The tables of a file by part, "" for a file that has none."""
    if form in READERS:
        module, function = READERS[form]
        found = getattr(import_module(f"distbp.tables.{module}"), function)(path)
        if not isinstance(found, dict):
            return {"": [found]}
        return {part: table if isinstance(table, list) else [table] for part, table in found.items()}
    from distbp.tables.open_text import open_text
    from distbp.tables.text_file import is_text

    if not is_text(path):
        raise DataError(f"{path}: of no known format; expected {READ}")
    return {"": [open_text(path, options.text)]}


def _chosen(
    path: str, parts: Mapping[str, Sequence[Table]], split: str, wanted: Sequence[str]
) -> dict[str, Sequence[Table]]:
    """The parts of a file that are taken, as the splits they become: all for training, or the one for testing."""
    if "" in parts:
        return {split: parts[""]}
    missing = [name for name in wanted if name not in parts]
    if missing:
        raise DataError(f"{path}: no split {missing[0]!r} (--split); it has {few(list(parts))}")
    if split == "train":
        return {name: parts[name] for name in wanted or parts}
    names = ["test"] if "test" in parts else list(wanted)
    if len(names) != 1:
        raise DataError(f"{path}: which split is for testing? It has {few(list(parts))}; name it with --split")
    return {split: parts[names[0]]}


def _array_tables(arrays: Sequence[StoredArray], kind: str) -> list[RowTable]:
    """Arrays without names as tables."""
    names = ", ".join(array.name for array in arrays)
    if kind != "pair":
        return [RowTable(array.name, array_columns(_own_name(array, kind), array)) for array in arrays]
    if len(arrays) == 1:
        return [RowTable(names, array_columns(_own_name(arrays[0], "x"), arrays[0]))]
    if len(arrays) > 2:
        raise DataError(
            f"{names}: expected two files of arrays, inputs and labels or targets; for more, name the inputs, and "
            "those with labels or targets with --y-from"
        )
    x, y = sorted(arrays, key=lambda array: -len(array.shape))
    if x.rows != y.rows:
        raise DataError(f"{names}: {x.name} has {x.rows} rows, and {y.name} has {y.rows}; each sample has one of both")
    return [RowTable(names, [*array_columns("x", x), *array_columns("y", y)])]


def _own_name(array: StoredArray, name: str) -> str:
    """What the column of a lone array is called; a structure brings names of its own."""
    return "" if array.dtype.names else name
