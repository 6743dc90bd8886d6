"""A data set as objects: its splits, their columns, and statistics that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.counted import counted
from distbp.data.data_file import opened
from distbp.data.layout import CLASSES, TARGETS, Layout, few
from distbp.data.reader import Reader
from distbp.data.split import data_files
from distbp.errors import DataError, UsageError
from distbp.inspection.data_inspection import View, gather, survey_splits
from distbp.settings.option import AUTO


@dataclass(frozen=True)
class Statistics:
    """Statistics of columns over all rows without missing values, in the units of the data.

    `low`, `high`, `mean` and `spread` (the standard deviation of the population) are float64 of shape (columns,), over
    the finite values.  `rows` counts the rows that they are of.  `missing` counts values that the file marks as
    missing, `not_finite` values that are NaN or infinite; training refuses both.
    """

    rows: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    missing: int
    not_finite: int


@dataclass(frozen=True)
class DatasetColumns:
    """The inputs, or the labels or targets, of a split.

    `datasets` are the HDF5 data sets or fields that they are, by path.  `shape` is (N, …) as they are stored, or (N,
    columns) if there are several data sets.  `width` is how many numbers a sample has.  `dtype` is one that holds all
    of them; object stands for strings.  `names` and `units` hold a string for each of the numbers, and are empty if the
    file does not say it.  `notes` say how stored values are decoded, such as scale_factor.
    """

    datasets: tuple[str, ...]
    shape: tuple[int, ...]
    width: int
    dtype: np.dtype[Any]
    names: tuple[str, ...]
    units: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, layout: Layout, role: str) -> DatasetColumns:
        """The columns "x" or "y" of a layout."""
        columns = layout.parts[0].x if role == "x" else layout.parts[0].y
        rest = columns[0].shape if len(columns) == 1 else (layout.width(role),)
        return cls(
            tuple(column.name for column in columns),
            (layout.rows, *rest),
            layout.width(role),
            layout.dtype(role),
            layout.names(role),
            layout.units(role),
            layout.notes_of(role),
        )

    def __str__(self) -> str:
        names = f": {few(self.names)}" if self.names else ""
        kind = "string" if self.dtype.kind == "O" else str(self.dtype)
        return f"{few(self.datasets)} {self.shape} {kind}{names}"


class DatasetSplit:
    """A split of a data set: inputs `x`, and labels or targets `y`, as `distbp train` would take them.

    `name` is its path in the file, or "/" for the whole file.  `x` and `y` describe the columns (see
    `DatasetColumns`); `y` is None if there are none.  `task` is "classes", "targets", or "" without y.  `notes` hold
    what was decided when the columns were chosen.  `problem` says why the split cannot be trained on as it is, as far
    as headers show it, or is "".  len() of a split is its number of samples.

    >>> import distbp
    >>> train = distbp.open_dataset("digits.h5")["train"]
    >>> len(train), train.task, train.x.shape, train.x.dtype
    (1437, 'classes', (1437, 64), dtype('uint8'))
    """

    def __init__(self, layout: Layout, notes: Sequence[str] = (), problem: str = "") -> None:
        self._layout = layout
        self.name, self.notes, self.problem = layout.split, tuple(notes), problem
        self.x = DatasetColumns.of(layout, "x")
        self.y = DatasetColumns.of(layout, "y") if layout.y_name else None
        self.task = "" if self.y is None else CLASSES if layout.is_labelled else TARGETS

    def __len__(self) -> int:
        return self._layout.rows

    def read(self, first: int = 0, last: int | None = None) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Reads the samples `first` … `last` - 1; without `last`, all from `first` on.

        Returns x, shape (m, n_1), in the dtype of the file, and y: labels (m,) or targets (m, n_F), or None if there
        are none.  Labels of a one-hot encoding stay columns.  Bounds work as in a slice.

        Raises DataError for a missing value, or for a file that cannot be read or has changed.

        >>> import distbp
        >>> x, y = distbp.open_dataset("digits.h5")["test"].read(0, 3)
        >>> x.shape, y.tolist()
        ((3, 64), [2, 8, 6])
        """
        start, stop, _ = slice(first, last).indices(len(self))
        with Reader(self._layout) as reader:
            x = self._rows(reader, "x", start, max(start, stop))
            if self.y is None:
                return x, None
            y = self._rows(reader, "y", start, max(start, stop))
        return x, y.ravel() if self.task == CLASSES and self.y.width == 1 else y

    @cached_property
    def x_statistics(self) -> Statistics:
        """Statistics of each input, read from the file when they are asked for the first time.

        Raises DataError if the file cannot be read.

        >>> import distbp
        >>> statistics = distbp.open_dataset("digits.h5")["train"].x_statistics
        >>> statistics.mean.shape, float(statistics.high.max())
        ((64,), 16.0)
        """
        return self._statistics("x")

    @cached_property
    def y_statistics(self) -> Statistics:
        """Statistics of each target, read from the file when they are asked for the first time.

        Raises UsageError if there are no targets, DataError if the file cannot be read.
        """
        if self.task != TARGETS:
            raise UsageError(f"{self.name}: has no targets" + ("; see class_counts" if self.task == CLASSES else ""))
        return self._statistics("y")

    @cached_property
    def class_counts(self) -> dict[Any, int]:
        """How many samples each label has, read from the file when it is asked for the first time.

        Raises UsageError if there are no labels, DataError if the file cannot be read.

        >>> import distbp
        >>> counts = distbp.open_dataset("digits.h5")["test"].class_counts
        >>> sorted(counts), sum(counts.values())
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 360)
        """
        if self.y is None or self.task != CLASSES:
            raise UsageError(f"{self.name}: has no labels" + ("; see y_statistics" if self.y is not None else ""))
        if self.y.width > 1:
            y = self.read()[1]
            assert y is not None
            return dict(zip(self.y.names or range(self.y.width), y.sum(axis=0, dtype=np.int64).tolist(), strict=True))
        counts = gather(self._layout, "y", is_labels=True)[1].counts
        return {label: counts[label] for label in sorted(counts)}

    def __repr__(self) -> str:
        return f"<distbp.DatasetSplit {self}>"

    def __str__(self) -> str:
        y = "no labels or targets" if self.y is None else f"{self.task} {self.y}"
        return f"{self.name}: {counted(len(self), 'sample')}; inputs {self.x}; {y}"

    def _rows(self, reader: Reader, of: str, start: int, stop: int) -> NDArray[Any]:
        out = np.empty((stop - start, self._layout.width(of)), self._layout.dtype(of))
        if stop > start:
            reader.read(of, start, stop, out)
        return out

    def _statistics(self, of: str) -> Statistics:
        if self._layout.dtype(of).kind == "O":
            raise DataError(f"{self._layout.place(0, of).removesuffix(', row 0')} holds text, which has no statistics")
        found, _, gaps = gather(self._layout, of, is_labels=False)
        return Statistics(found.rows, found.low, found.high, found.mean, found.spread, gaps.values, found.bad_values)


class Dataset(Mapping[str, DatasetSplit]):
    """A data set in one HDF5 file or several, end to end: a mapping from the name of each split to the split.

    `files` are its files.  `notes` say why other groups of the first file are no splits.  The files are open only while
    something is read from them.

    >>> import distbp
    >>> data = distbp.open_dataset("digits.h5")
    >>> list(data)
    ['train', 'test']
    >>> print(data)
    digits.h5
      train: 1437 samples; inputs train/x (1437, 64) uint8; classes train/y (1437,) uint8
      test: 360 samples; inputs test/x (360, 64) uint8; classes test/y (360,) uint8
    """

    def __init__(self, files: Sequence[str], splits: Mapping[str, DatasetSplit], notes: Sequence[str] = ()) -> None:
        self.files, self.notes = tuple(files), tuple(notes)
        self._splits = dict(splits)

    def __getitem__(self, name: str) -> DatasetSplit:
        try:
            return self._splits[name]
        except KeyError:
            there = few(tuple(self._splits)) or "none"
            raise UsageError(f"{self.files[0]}: no split {name!r}; the splits of this data set are: {there}") from None

    def get(self, name: str, default: Any = None) -> Any:
        """The split, or `default` if there is none of this name."""
        return self._splits.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._splits

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __repr__(self) -> str:
        return f"<distbp.Dataset {self}>"

    def __str__(self) -> str:
        splits = [f"  {split}" for split in self.values()] or ["  no splits", *(f"  {note}" for note in self.notes)]
        return "\n".join([few(self.files), *splits])


def read_dataset(paths: Sequence[str], view: View) -> Dataset:
    """The data set in these files, from headers alone.  Raises DataError or UsageError."""
    files = data_files(paths)
    with opened(files[0]) as file:
        if "format" in file.attrs and "network" in file:
            raise DataError(f"{files[0]}: is a checkpoint, and no data set; distbp.load reads it")
    found, reasons = survey_splits(files, view)
    missing = [split for split in view.split.split(",") if split not in (AUTO, *found)]
    is_named = (view.x, view.y) != (AUTO, AUTO)
    if missing or (is_named and not found):  # what the caller has asked for is not there
        raise DataError(f"{files[0]}: {'; '.join(reasons)}")
    splits = {name: DatasetSplit(layout, notes, why) for name, (layout, notes, why) in found.items()}
    return Dataset(files, splits, reasons)
