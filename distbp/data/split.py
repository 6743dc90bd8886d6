"""A split in memory: inputs `x` and labels or targets `y`, once for each node.

`Split.x` is a NumPy array of the file's own type (uint8 images stay uint8), and everything that reads it goes through
`Split.x[rows]` or `np.take`, in `distbp.engine.feed`.  The ranks of a node share the array, and each reads its part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.data_file import matching
from distbp.data.labels import Labels, in_words, union
from distbp.data.layout import Layout
from distbp.data.locate import Asked, check_kinds, find_splits
from distbp.data.reader import Reader
from distbp.data.same_files import check_once
from distbp.data.scaling import Extremes, Rows
from distbp.errors import DataError, UsageError
from distbp.mathematics.batches import aligned_pieces, pieces, shard
from distbp.mathematics.finite import first_not_finite
from distbp.ranks.communicator import Communicator, agree, from_first
from distbp.ranks.stop import Pulse

DIGITS = "digits.h5"
IN_MEMORY = "arrays in memory"  # in the configuration of a run, in the place of data files
BLOCK_BYTES = 16 * 2**20  # read and checked at a time
LABEL_ROWS = 2**18  # likewise
NOTHING: NDArray[Any] = np.empty((0, 0))


@dataclass(frozen=True)
class Split:
    """One split, all files end to end.

    x: (N, n_1), any numeric dtype.  y: (N,) classes 0 … K-1, where there are `labels`; or (N, n_F) real targets; or
    None, where not asked for.  Where the split is not `in_memory`, x and y are what a `distbp.data.loader` holds of it.
    `classes`: those of all rows, in any case.
    """

    layout: Layout
    x: NDArray[Any]
    y: NDArray[Any] | None = None
    labels: Labels | None = None
    why_not_shared: str = ""
    in_memory: bool = True
    classes: NDArray[np.int32] | None = None
    extremes: dict[str, Extremes] = field(default_factory=dict)  # of x and y, where they are not in memory
    files: dict[str, FileRows] = field(default_factory=dict)  # likewise

    def __len__(self) -> int:
        return self.layout.rows

    def rows(self, of: str) -> Rows:
        """All rows of the inputs, or of the targets."""
        array = self.x if of == "x" else self.y
        return array if self.in_memory and array is not None else self.files[of]

    def read(self, first: int, last: int, until: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """x and y of rows first … last - 1; those before `until` will be asked for next."""
        if self.in_memory:
            return self.x[first:last], None if self.y is None else self.y[first:last]
        x = self.files["x"].read(first, last, until)
        if self.classes is not None:
            return x, self.classes[first:last]
        return x, self.files["y"].read(first, last, until) if "y" in self.files else None

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Of one row of y."""
        return () if self.is_labelled else (self.layout.width("y"),)

    @property
    def y_dtype(self) -> np.dtype[Any]:
        """Of y as it is held."""
        return np.dtype(np.int32) if self.is_labelled else self.layout.dtype("y")

    @property
    def name(self) -> str:
        return self.layout.split

    @property
    def is_labelled(self) -> bool:
        """Whether y are classes."""
        return self.labels is not None

    def place(self, row: int, of: str) -> str:
        """'file.h5: train/x, row 17' for a row of x or y."""
        return self.layout.place(row, of)

    def where(self, of: str) -> str:
        """'file.h5: train/x'"""
        return self.layout.place(0, of).removesuffix(", row 0")


class FileRows:
    """The inputs or targets of a split, read when they are asked for."""

    def __init__(self, layout: Layout, of: str) -> None:
        self._reader, self._of, self.dtype = Reader(layout), of, layout.dtype(of)
        self.shape = (layout.rows, layout.width(of))
        self._ahead = max(1, BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize))
        self._first, self._held = 0, np.empty((0, self.shape[1]), self.dtype)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(self.shape[0])
        return self.read(first, last, self.shape[0])

    def read(self, first: int, last: int, until: int) -> NDArray[Any]:
        """Rows first … last - 1; those before `until` that follow are read along, for they will be asked for next."""
        if first < self._first or last > self._first + len(self._held):
            end = max(last, min(first + self._ahead, until))
            self._held = np.empty((end - first, self.shape[1]), self.dtype)
            self._reader.read(self._of, first, end, self._held)
            self._first = first
        return self._held[first - self._first : last - self._first]


def read_ahead_bytes(data: Split) -> int:
    """Memory for rows of a split that stays in its files, where they are read one after another (see `FileRows`)."""
    of = ["x", *(["y"] if data.layout.y_name and not data.layout.is_labelled else [])]
    widths = [_row_bytes(data.layout, one) for one in of]
    return sum(min(data.layout.rows, max(1, BLOCK_BYTES // width)) * width for width in widths)


def data_files(paths: Sequence[str]) -> list[str]:
    """The files to open: the given ones, or the digits data set that comes with the package.

    Raises DataError where a pattern stands for no file, UsageError where a file is named twice, or where `paths` are
    those of a run that had none.
    """
    if list(paths) == [IN_MEMORY]:
        raise UsageError("the network was trained on arrays in memory, not on files: name the DATA")
    files = matching(paths)
    check_once(files)
    return files or [str(digits_path())]


def digits_path() -> Path:
    """Where digits.h5 is: inside the installed package, or in datasets/ of a checkout."""
    installed = Path(__file__).parent.parent / DIGITS
    return installed if installed.exists() else installed.parent.parent / "datasets" / DIGITS


def locate(comm: Communicator, paths: Sequence[str], splits: Sequence[str], asked: Asked) -> dict[str, Layout]:
    """The layouts of some splits, found by rank 0 from the files' headers.  Raises DataError, agreed by all ranks."""

    def look() -> dict[str, Layout]:
        return {split: check_kinds(layout) for split, layout in find_splits(paths, splits, asked).items()}

    return from_first(comm, look)


def read_split(
    comm: Communicator,
    paths: Sequence[str],
    split: str,
    x: str,
    y: str | None,
    *,
    labels: Labels | None = None,
    trust_links: bool = False,
    memory: float = inf,
    pulse: Pulse = lambda phase: None,
) -> Split:
    """Finds a split and reads it, see `read_layout`."""
    layout = locate(comm, paths, [split], Asked(x, y, trust_links))[split]
    return read_layout(comm, layout, labels=labels, memory=memory, pulse=pulse)


def read_layout(
    comm: Communicator,
    layout: Layout,
    *,
    labels: Labels | None = None,
    memory: float = inf,
    pulse: Pulse = lambda phase: None,
) -> Split:
    """Reads a split, once for each node, and checks it; without labels or targets where they were not asked for.

    What takes more than `memory` bytes stays in its files.  `labels`: those that are known; otherwise those that are
    found.  `pulse` is called again and again.  Raises DataError, agreed by all ranks.
    """
    in_memory = _held_bytes(layout) * _copies(comm, layout) <= memory
    data = _load(comm, Split(layout, NOTHING, in_memory=in_memory), "x", pulse)
    if not layout.y_name:
        return data
    return _with_labels(comm, data, labels, pulse) if layout.is_labelled else _load(comm, data, "y", pulse)


def read_labels(comm: Communicator, layout: Layout) -> Split:
    """A split without its rows, but with the labels, where it has some.  Raises DataError, agreed by all ranks."""
    data = Split(layout, NOTHING, in_memory=False)
    return _with_labels(comm, data, None, lambda phase: None) if layout.is_labelled else data


def _with_labels(comm: Communicator, data: Split, labels: Labels | None, pulse: Pulse) -> Split:
    """The split with the classes of all rows; `labels`: those that are known."""
    layout = data.layout
    classes = comm.node_array((layout.rows,), np.dtype(np.int32))
    start, stop = shard(layout.rows, classes.part, classes.parts)
    found, which = agree(comm, lambda: _read_labels(layout, start, stop, pulse))
    known = labels or union(comm.allgather(found))
    classes.array[start:stop] = agree(comm, lambda: _number(known, layout, found, which, start))
    classes.fence()
    return replace(data, y=classes.array, labels=known, classes=classes.array)


def foresee_split(comm: Communicator, layout: Layout, *, memory: float) -> Split:
    """What `read_layout` will make of a split, without anything read: two labels stand for the unknown ones."""
    copies = _copies(comm, layout)
    why_not = "too little memory to share" if copies > 1 else ""
    labels = (0, 1) if layout.is_labelled else None
    return Split(layout, NOTHING, None, labels, why_not, in_memory=_held_bytes(layout) * copies <= memory)


def reading_bytes(data: Split, parts: int) -> int:
    """Memory that `read_split` takes for a moment, where each rank reads one of so many parts of what is held.

    Rows that stay in their files are checked in blocks; labels have two numbers, of 8 and 4 bytes, before they are put
    where they belong.
    """
    numbers = -(-len(data) // parts) * (8 + 4) if data.is_labelled else 0
    if data.in_memory:
        return numbers
    of = ["x", *(["y"] if data.layout.y_name and not data.is_labelled else [])]
    return max(numbers, *(_room_rows(data.layout, one) * _row_bytes(data.layout, one) for one in of))


def _room_rows(layout: Layout, of: str) -> int:
    """Rows that are read and checked together, where they do not stay."""
    return max(layout.chunk_rows(of), BLOCK_BYTES // _row_bytes(layout, of))


def _row_bytes(layout: Layout, of: str) -> int:
    return layout.width(of) * layout.dtype(of).itemsize


def _copies(comm: Communicator, layout: Layout) -> int:
    """How many copies of a split a node would hold, on the node where these are most."""
    return max(comm.allgather(comm.node_copies(_held_bytes(layout))))


def _held_bytes(layout: Layout) -> int:
    return layout.rows * layout.row_bytes()


def _load(comm: Communicator, data: Split, of: str, pulse: Pulse) -> Split:
    """Reads and checks all of x or y; where it does not stay in memory, what remains are the extremes."""
    layout = data.layout
    rows, width, dtype = layout.rows, layout.width(of), layout.dtype(of)
    held = layout.held(of)
    if (
        data.in_memory
        and held is not None
        and held.dtype == dtype
        and max(map(len, comm.allgather(comm.node_ranks()))) == 1
    ):
        agree(comm, lambda: _check_held(layout, of, held))
        return replace(data, x=held) if of == "x" else replace(data, y=held)
    if data.in_memory:
        loaded = comm.node_array((rows, width), dtype)
        agree(comm, lambda: _fill(layout, of, loaded.array, *shard(rows, loaded.part, loaded.parts), pulse))
        loaded.fence()
        data = replace(data, why_not_shared=data.why_not_shared or loaded.why_not)
        return replace(data, x=loaded.array) if of == "x" else replace(data, y=loaded.array)

    extremes = Extremes(width)

    def check() -> None:
        room = np.empty((_room_rows(layout, of), width), dtype)
        with Reader(layout) as reader:
            for first, last in aligned_pieces(*shard(rows, comm.rank, comm.size), len(room), layout.chunk_rows(of)):
                pulse(f"checking {of}")
                _read_checked(reader, of, first, last, room[: last - first])
                extremes.add(room[: last - first])

    agree(comm, check)
    files = {**data.files, of: FileRows(layout, of)}
    return replace(data, files=files, extremes={**data.extremes, of: extremes.agree(comm)})


def _check_held(layout: Layout, of: str, array: NDArray[Any]) -> None:
    """An array of the caller, which is used where it is."""
    for first, last in pieces(0, len(array), max(1, BLOCK_BYTES // (array.itemsize * array.shape[1]))):
        _check_finite(layout, of, array[first:last], first)


def _fill(layout: Layout, of: str, array: NDArray[Any], start: int, stop: int, pulse: Pulse) -> None:
    """Reads rows start … stop - 1 of x or y to where they belong."""
    with Reader(layout) as reader:
        chunk = layout.chunk_rows(of)
        longest = max(chunk, BLOCK_BYTES // (array.itemsize * array.shape[1]))
        for first, last in aligned_pieces(start, stop, longest, chunk):
            pulse(f"reading {of}")
            _read_checked(reader, of, first, last, array[first:last])


def _read_checked(reader: Reader, of: str, first: int, last: int, out: NDArray[Any]) -> None:
    reader.read(of, first, last, out)
    _check_finite(reader.layout, of, out, first)


def _check_finite(layout: Layout, of: str, rows: NDArray[Any], first: int) -> None:
    """Raises DataError where a number is not.  `first`: the number of the first of these rows."""
    row = first_not_finite(rows)
    if row is not None:
        at = int((~np.isfinite(rows[row])).argmax())
        where, column = layout.place(first + row, of, at), layout.column_name(of, at)
        raise DataError(f"{where}: {rows[row, at]} in the data, in {column}; remove or replace such rows")


def _read_labels(layout: Layout, start: int, stop: int, pulse: Pulse) -> tuple[list[Any], NDArray[np.int64]]:
    """The labels of these rows, each once, and which of them each row has."""
    dtype, width = layout.dtype("y"), layout.width("y")
    numbers: dict[Any, int] = {}
    if width > 1:  # also a column that is 0 in all rows is a class
        numbers = {label: i for i, label in enumerate(layout.names("y") or range(width))}
    which = np.empty(stop - start, np.int64)
    with Reader(layout) as reader:
        for first, last in pieces(start, stop, max(1, LABEL_ROWS // width)):
            pulse("reading labels")
            values = np.empty((last - first, width), dtype)
            reader.read("y", first, last, values)
            labels = values.ravel() if width == 1 else _from_one_hot(layout, values, first)
            if labels.dtype.kind == "f":
                labels = _whole(layout, labels, first)
            which[first - start : last - start] = _numbered(labels, numbers)
    for label, i in numbers.items():
        if label == "" or (dtype.kind == "u" and label > np.iinfo(np.int64).max):
            row = start + int((which == i).argmax())
            what = "an empty string" if label == "" else f"label {label}"
            most = "" if label == "" else f" (labels go up to {np.iinfo(np.int64).max})"
            raise DataError(f"{layout.place(row, 'y')}: {what}, which is no label{most}; remove or replace such rows")
    return list(numbers), which


def _from_one_hot(layout: Layout, values: NDArray[Any], first: int) -> NDArray[Any]:
    """The label of each row of 0s with one 1: the name of its column, or its number.  `first`: of the first row."""
    good = ((values == 0) | (values == 1)).all(axis=1) & (values.sum(axis=1, dtype=np.float64) == 1)
    if not good.all():
        row = int((~good).argmax())
        raise DataError(
            f"{layout.place(first + row, 'y')}: {values[row].tolist()}; several columns are the label of a class where "
            "one of them is 1 and the others are 0; for numbers that are targets: --task targets"
        )
    numbers, names = values.argmax(axis=1), layout.names("y")
    labels: NDArray[Any] = np.array(names, object)[numbers] if names else numbers
    return labels


def _whole(layout: Layout, values: NDArray[Any], first: int) -> NDArray[np.int64]:
    """Labels that are stored as floats.  `first`: the row of the first one."""
    good = (np.abs(values) < 2.0**53) & (values % 1 == 0)
    if not good.all():
        row = int((~good).argmax())
        raise DataError(
            f"{layout.place(first + row, 'y')}: {values[row]}; labels of classes are whole numbers or text "
            "(for numbers that are targets: --task targets)"
        )
    return values.astype(np.int64)


def _numbered(labels: NDArray[Any], numbers: dict[Any, int]) -> NDArray[np.int64]:
    """The number of each label; new ones get the next."""
    if labels.dtype.kind == "O":  # a look-up for each is faster than to sort strings
        return np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels), np.int64, len(labels))
    found, which = np.unique(labels, return_inverse=True)
    return np.array([numbers.setdefault(label, len(numbers)) for label in found.tolist()], np.int64)[which]


def _number(
    labels: Labels, layout: Layout, found: list[Any], which: NDArray[np.int64], start: int
) -> NDArray[np.int32]:
    """The classes 0 … K-1 of rows."""
    numbers = {label: i for i, label in enumerate(labels)}
    for i, label in enumerate(found):
        if label not in numbers:
            row = start + int((which == i).argmax())
            raise DataError(
                f"{layout.place(row, 'y')}: label {label!r}, but the network knows the classes {in_words(labels)}"
            )
    return np.array([numbers[label] for label in found], np.int32)[which]


def check_classes(data: Split) -> None:
    """Raises DataError where labels cannot be those of classes: one only, or hardly two samples of any."""
    assert data.labels is not None
    K, N = len(data.labels), len(data)
    if K == 1:
        raise DataError(
            f"{data.place(0, 'y')}: all {N} labels are {data.labels[0]!r}; a classifier needs two classes or more"
        )
    if K > 1000 and 2 * K > N:
        raise DataError(
            f"{data.where('y')}: {K} different labels among {N} samples; integers and strings are the labels of "
            "classes; store real targets as floating-point numbers"
        )
