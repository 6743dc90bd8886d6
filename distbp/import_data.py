"""`distbp import`: tables in other formats, written as an HDF5 data set that trains fast.

The sources are read twice: for the labels or targets, which decide what goes to which split, and then for the inputs,
which are written block by block.  The file appears when it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.array_table import Array, ArrayTable, idx, is_idx, npy, npz
from distbp.csv_table import CSVTable
from distbp.errors import DataError, RunError, UsageError
from distbp.new_file import check_out, replace_synced, temporary_name
from distbp.parquet_table import ParquetTable
from distbp.source_files import Table, shown

CHUNK_BYTES = 2**20  # of a compressed data set: large enough to unpack fast, small enough to read ahead
LABEL_NAMES = ("y", "label", "labels", "target", "targets", "class")
ENDINGS = ".csv, .tsv, .npy, .npz, .parquet, or IDX; all but .npz and .parquet maybe gzipped"

Progress = Callable[[str, int], None]  # what is read, and how many rows more


@dataclass(frozen=True)
class ImportOptions:
    """How to import.  `x`, `y`: names of columns; `kind`: "auto", "labels" or "targets"."""

    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    kind: str = "auto"
    header: bool = True
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
    sources = _sources(train, test, options)
    if "test" in sources and options.test_fraction:
        raise UsageError("--test-fraction: there are sources for the test split already; leave one of them out")
    first = next(iter(sources.values()))[0]
    y = _y_columns(first, options)
    x = _x_columns(first, options, y)
    for tables in sources.values():
        for table in tables:
            missing = [name for name in (*x, *y) if name not in table.columns]
            if missing:
                raise DataError(f"{table.name}: no column {missing[0]!r}; it has {_few(table.columns)}")
    raw = {split: _Column(tables, y, progress) for split, tables in sources.items()}
    kinds = _as_kind(raw, options.kind)
    if "train" in sources and options.test_fraction:
        test_rows = _draw(kinds["train"], options.test_fraction, options.seed)
    else:
        test_rows = np.zeros(0, bool)
    temporary = temporary_name(out)
    try:
        try:
            with h5py.File(temporary, "x", locking=False) as file:
                imported = _write(file, sources, kinds, x, test_rows, options, progress)
            replace_synced(temporary, out)
        except OSError as error:
            raise RunError(f"{out}: cannot be written: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return imported


def _sources(train: Sequence[str], test: Sequence[str], options: ImportOptions) -> dict[str, list[Table]]:
    """The tables of each split."""
    found: dict[str, list[Table]] = {}
    for split, paths in (("train", train), ("test", test)):
        arrays: list[Array] = []
        for path in paths:
            ending = Path(path.lower().removesuffix(".gz")).suffix
            if ending == ".npy":
                arrays.append(npy(path))
            elif ending == ".npz":
                for name, table in _npz_tables(path, split).items():
                    found.setdefault(name, []).append(table)
            elif ending == ".parquet":
                found.setdefault(split, []).append(ParquetTable(path))
            elif ending in (".csv", ".tsv"):
                delimiter = "\t" if ending == ".tsv" else ","
                found.setdefault(split, []).append(CSVTable(path, header=options.header, delimiter=delimiter))
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


def _y_columns(table: Table, options: ImportOptions) -> tuple[str, ...]:
    if options.y:
        return options.y
    found = [name for name in table.columns if name.lower() in LABEL_NAMES]
    if len(found) != 1:
        raise UsageError(
            f"{table.name}: which column has the labels or targets? Name it with --y; there are {_few(table.columns)}"
        )
    return (found[0],)


def _x_columns(table: Table, options: ImportOptions, y: Sequence[str]) -> tuple[str, ...]:
    x = options.x or tuple(name for name in table.columns if name not in y)
    if not x:
        raise DataError(f"{table.name}: no column is left for the inputs beside {', '.join(y)}")
    return x


def _few(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 12 else [*names[:10], "…", names[-1]])


class _Column:
    """The labels or targets of a split as they are in the sources, `values` (N, columns)."""

    def __init__(self, tables: Sequence[Table], y: Sequence[str], progress: Progress) -> None:
        self.name, self._tables, self._ends = ",".join(y), tables, []
        blocks: list[NDArray[Any]] = []
        for table in tables:
            for block in table.blocks(y, numbers=False):
                blocks.append(block)
                progress("labels", len(block))
            self._ends.append(sum(map(len, blocks)))
        if not blocks:
            raise DataError(f"{tables[0].name}: has no rows; a split needs at least one sample")
        if len({block.shape[1] for block in blocks}) > 1:
            raise DataError(f"{', '.join(table.name for table in tables)}: {self.name} has not as many columns in all")
        self.values = np.concatenate(blocks)

    def place(self, row: int) -> str:
        """'file.csv, line 18 (…)' for a row of the split."""
        at = next(i for i, end in enumerate(self._ends) if row < end)
        return self._tables[at].place(row - (self._ends[at - 1] if at else 0))

    def integers(self) -> NDArray[np.int64] | None:
        """(N,), if all of it is whole numbers."""
        values = self.values[:, 0]
        if values.dtype.kind in "iub":
            if values.dtype.kind == "u" and (values > np.iinfo(np.int64).max).any():
                row = int((values > np.iinfo(np.int64).max).argmax())
                raise DataError(f"{self.place(row)}: {self.name} is {values[row]}, which is too large for a label")
            return values.astype(np.int64)
        if values.dtype.kind == "f" or not all(isinstance(value, str | int) for value in values.tolist()):
            return None
        try:
            return np.array([int(value) for value in values.tolist()], np.int64)
        except (ValueError, TypeError, OverflowError):
            return None

    def reals(self) -> NDArray[Any] | None:
        """(N, columns), if all of it is finite numbers."""
        try:
            found = self.values.astype(self.values.dtype if self.values.dtype.kind == "f" else np.float64)
        except (ValueError, TypeError):
            return None
        return found if np.isfinite(found).all() else None

    def texts(self) -> NDArray[Any]:
        """(N,) strings.  Raises DataError where one is empty."""
        if self.values.dtype.kind == "f":
            raise DataError(f"{self.first_bad()}; labels are whole numbers or text")
        found = np.array([str(value).strip() for value in self.values[:, 0].tolist()], object)
        for row, text in enumerate(found.tolist()):
            if not text:
                raise DataError(f"{self.place(row)}: {self.name!r} is empty; expected a label or a target")
            if "\0" in text or not text.isprintable():
                raise DataError(f"{self.place(row)}: {self.name!r} is {shown(text)}; expected text that can be printed")
        return found

    def mostly_numbers(self) -> bool:
        """Whether nine of ten values are numbers: then text among them is a mistake, not a label."""
        good = 0
        for cells in self.values.tolist():
            with suppress(ValueError, TypeError):
                good += bool(np.isfinite(float(cells[0])))
        return good > 0.9 * len(self.values)

    def first_bad(self) -> str:
        """A value that is no finite number, and where it is."""
        for row, cells in enumerate(self.values.tolist()):
            for cell in cells:
                try:
                    if np.isfinite(float(cell)):
                        continue
                except (ValueError, TypeError):
                    pass
                return f"{self.place(row)}: {self.name} is {shown(str(cell))}"
        raise AssertionError("no value was bad")


def _as_kind(raw: dict[str, _Column], kind: str) -> dict[str, NDArray[Any]]:
    """Labels (N,) of integers or strings, or targets (N, n_F) of floats, alike for all splits."""
    columns = list(raw.values())
    one_column = all(column.values.shape[1] == 1 for column in columns)
    if kind == "labels" and not one_column:
        raise DataError(f"{columns[0].place(0)}: {columns[0].name}: labels are one column")
    if kind != "targets" and one_column:
        found = [column.integers() for column in columns]
        if all(values is not None for values in found):
            return dict(zip(raw, found, strict=True))  # type: ignore[arg-type]
    if kind != "labels":
        found = [column.reals() for column in columns]
        if all(values is not None for values in found):
            return dict(zip(raw, found, strict=True))  # type: ignore[arg-type]
        if kind == "targets" or not one_column:
            bad = next(column for column, values in zip(columns, found, strict=True) if values is None)
            raise DataError(f"{bad.first_bad()}; targets are finite numbers")
    for column in columns if kind == "auto" else ():
        if column.mostly_numbers():
            raise DataError(f"{column.first_bad()}, and nearly all others are numbers; if it is a label: --kind labels")
    return {split: column.texts() for split, column in raw.items()}


def _draw(y: NDArray[Any], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which rows go to the test split: that fraction of each class, or of all where there are no classes."""
    rng, chosen = np.random.default_rng(seed), np.zeros(len(y), bool)
    groups = [np.arange(len(y))]
    if y.dtype.kind != "f":
        _, which = np.unique(y, return_inverse=True)
        groups = [np.flatnonzero(which == i) for i in range(which.max() + 1)]
    for rows in groups:
        chosen[rng.permutation(rows)[: round(fraction * len(rows))]] = True
    if chosen.all() or not chosen.any():
        raise UsageError(f"--test-fraction {fraction:g}: of {len(y)} rows, a split would have none")
    return chosen


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
