"""`distbp import`: tables in other formats, written as an HDF5 data set that trains fast.

The sources are read twice: for the labels or targets, which decide what goes to which split, and then for the inputs,
which are written block by block.  The file appears when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError, RunError, UsageError
from distbp.files.new_file import FAILURES, check_out, replace_synced, temporary_name
from distbp.files.write_failure import why_not_written
from distbp.tables.import_sources import choose_columns, open_sources
from distbp.tables.import_targets import Progress, TargetColumns, as_kind, draw_test_rows
from distbp.tables.source_files import Table

CHUNK_BYTES = 2**20  # of a compressed data set: large enough to unpack fast, small enough to read ahead


@dataclass(frozen=True)
class ImportOptions:
    """How to import.  `x`, `y`: names of columns; `kind`: "auto", "labels" or "targets"; `splits`: of HDF5 files."""

    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    kind: str = "auto"
    header: bool = True
    splits: tuple[str, ...] = ()
    trust_links: bool = False
    test_fraction: float = 0.0
    seed: int = 0
    dtype: str = "auto"
    compression: str = "none"
    overwrite: bool = False


@dataclass(frozen=True)
class Imported:
    """What was written: rows, columns and y of each split, in words."""

    splits: dict[str, int]
    width: int
    dtype: str
    y: str


def import_data(
    train: Sequence[str],
    test: Sequence[str],
    out: Path,
    options: ImportOptions,
    progress: Progress = lambda stage, rows: None,
) -> Imported:
    """Writes `out`.  `test`: sources of a split "test".  Raises DataError, UsageError or RunError."""
    check_out(out, [*train, *test], overwrite=options.overwrite)
    sources = open_sources(train, test, header=options.header, splits=options.splits, trust_links=options.trust_links)
    if "test" in sources and options.test_fraction:
        raise UsageError("--test-fraction: there are sources for the test split already; leave one of them out")
    if "train" not in sources and options.test_fraction:
        raise UsageError(f"--test-fraction: is taken of the split train; the splits are {', '.join(sources)}")
    x, y = choose_columns(sources, options.x, options.y)
    kinds = as_kind({split: TargetColumns(tables, y, progress) for split, tables in sources.items()}, options.kind)
    test_rows = np.zeros(0, bool)
    if options.test_fraction:
        test_rows = draw_test_rows(kinds["train"], options.test_fraction, options.seed)
    temporary = temporary_name(out)
    try:
        try:
            with h5py.File(temporary, "x", locking=False) as file:
                imported = _write(file, sources, kinds, x, test_rows, options, progress)
            replace_synced(temporary, out)
        except FAILURES as error:
            raise RunError(f"{out}: cannot be written: {why_not_written(error)}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return imported


def _write(
    file: h5py.File,
    sources: dict[str, list[Table]],
    y: dict[str, NDArray[Any]],
    x: Sequence[str],
    test_rows: NDArray[np.bool_],
    options: ImportOptions,
    progress: Progress,
) -> Imported:
    written: dict[str, int] = {}
    width, dtype = 0, np.dtype(np.float32)
    for split, tables in sources.items():
        to_test = test_rows if split == "train" and len(test_rows) else np.zeros(len(y[split]), bool)
        rows = {"train": ~to_test, "test": to_test} if to_test.any() else {split: ~to_test}
        start = 0
        for table, block in _blocks(tables, x):
            if not written:
                width, dtype = block.shape[1], _stored_dtype(table, block.dtype, options.dtype)
            _check_block(table, block, width, dtype, options.dtype)
            if start + len(block) > len(y[split]):
                raise _rows_differ(tables, len(y[split]), f"{start + len(block)} or more")
            for part, mask in rows.items():
                if part not in written:
                    _create(file, part, int(mask.sum()), width, dtype, options)
                    _write_y(file, part, y[split][mask])
                    written[part] = 0
                some = _converted(table, block[mask[start : start + len(block)]], dtype)
                file[part]["x"][written[part] : written[part] + len(some)] = some
                written[part] += len(some)
            start += len(block)
            progress("inputs", len(block))
        if start < len(y[split]):
            raise _rows_differ(tables, len(y[split]), str(start))
    sample = next(iter(y.values()))
    if sample.dtype.kind == "f":
        described = f"{sample.shape[1]} target{'s' * (sample.shape[1] > 1)}"
    else:
        described = f"{len({label for values in y.values() for label in values.tolist()})} classes"
    return Imported(written, width, str(dtype), described)


def _rows_differ(tables: Sequence[Table], labels: int, inputs: str) -> DataError:
    names = ", ".join(table.name for table in tables)
    return DataError(
        f"{names}: {labels} rows of labels or targets, and {inputs} of inputs; each sample has one of both"
    )


def _blocks(tables: Sequence[Table], x: Sequence[str]) -> Iterator[tuple[Table, NDArray[Any]]]:
    for table in tables:
        for block in table.blocks(x, numbers=True):
            yield table, block


def _stored_dtype(table: Table, read: np.dtype[Any], wanted: str) -> np.dtype[Any]:
    """What numbers are stored as; "auto": as they are, and float32 where they come as text."""
    if wanted == "auto":
        return np.dtype(np.float32) if table.is_text else read
    return np.dtype(wanted)


def _check_block(table: Table, block: NDArray[Any], width: int, dtype: np.dtype[Any], wanted: str) -> None:
    if block.shape[1] == 0:
        raise DataError(f"{table.name}: the inputs have no columns")
    if block.shape[1] != width:
        raise DataError(f"{table.name}: has {block.shape[1]} inputs, and the sources before it have {width}")
    if wanted == "auto" and not table.is_text and not np.can_cast(block.dtype, dtype):
        raise DataError(
            f"{table.name}: inputs of type {block.dtype}, and {dtype} before; choose what to store with --dtype"
        )


def _converted(table: Table, block: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        stored = block.astype(dtype, copy=False)
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        value = block[~np.isfinite(stored)][0]
        raise DataError(f"{table.name}: {value:g} is too large for {dtype}; import it with --dtype float64")
    return stored


def _create(file: h5py.File, split: str, rows: int, width: int, dtype: np.dtype[Any], options: ImportOptions) -> None:
    """Contiguous, which trains fastest; or compressed, in chunks of a mebibyte."""
    packed: dict[str, Any] = {}
    if options.compression != "none":
        chunk = min(rows, max(1, CHUNK_BYTES // max(1, width * dtype.itemsize)))
        packed = {"chunks": (chunk, width), "compression": options.compression, "shuffle": True}
    file.create_dataset(f"{split}/x", (rows, width), dtype, track_times=False, **packed)


def _write_y(file: h5py.File, split: str, y: NDArray[Any]) -> None:
    dtype = h5py.string_dtype() if y.dtype.kind == "O" else y.dtype
    file.create_dataset(f"{split}/y", data=y, dtype=dtype, track_times=False)
