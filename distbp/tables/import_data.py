"""`distbp import`: tables in other formats, written as an HDF5 data set that trains fast.

The sources are read twice, in blocks: first to see what is in the columns, from which it is decided what they become
(`distbp.tables.import_plan`), and then to write them.  The file appears when it is complete.  Where the system does
not let it be written, and may do so a moment later, it is written anew from its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.data_file import matching
from distbp.data.layout import CLASSES, TARGETS
from distbp.data.same_files import check_once
from distbp.errors import DataError, RunError, TooLargeError, UsageError
from distbp.files.new_file import FAILURES
from distbp.files.output import check_out
from distbp.files.write_patience import failure, written_whole
from distbp.ranks.node_memory import free_bytes, in_units
from distbp.tables.choice import Asked, Word
from distbp.tables.import_plan import Plan, Policies, SplitTables, make_plan, split_to_cut
from distbp.tables.import_targets import RealTargets
from distbp.tables.like import names_of
from distbp.tables.missing import POLICIES
from distbp.tables.one_hot import OneHot
from distbp.tables.remembered_table import RememberedTable, Room
from distbp.tables.row_stream import Rows
from distbp.tables.same_sources import check_apart, check_ending
from distbp.tables.sources import SourceOptions, open_sources
from distbp.tables.survey import Progress
from distbp.tables.table import Table
from distbp.tables.test_rows import TestRows, parse_where
from distbp.tables.text_options import DEFAULT_MISSING, TextOptions
from distbp.tables.written_names import are_large, attributes

CHUNK_BYTES = 2**20  # of a compressed data set: large enough to unpack fast, small enough to read ahead
PIECE_BYTES = 2**25  # of inputs, encoded at a time
GIB = 2.0**30


@dataclass(frozen=True)
class ImportOptions:
    """How to import: the options of the command, under their names.

    x, y, drop, categorical: names of columns; a `Name` that is quoted is taken literally.  `y_from`: sources of labels
    or targets.  `like`: a checkpoint or run directory.  `splits`: of files that have some; (): all.
    `header`: None: found by looking.  `memory`: GiB for what is kept while the sources are read; 0: half of what is
    free.
    """

    x: tuple[Word, ...] = ()
    y: tuple[Word, ...] = ()
    drop: tuple[Word, ...] = ()
    categorical: tuple[Word, ...] = ()
    y_from: tuple[str, ...] = ()
    like: str = ""
    unlabelled: bool = False
    task: str = "auto"
    test_fraction: float = 0.0
    test_where: str = ""
    test_last: float = 0.0
    test_group: str = ""
    seed: int = 0
    splits: tuple[str, ...] = ()
    each: bool = False
    trust_links: bool = False
    dtype: str = "auto"
    compression: str = "none"
    overwrite: bool = False
    missing_words: tuple[str, ...] = DEFAULT_MISSING
    on_missing: str = "refuse"
    header: bool | None = None
    delimiter: str = "auto"
    decimal: str = "."
    thousands: str = ""
    encoding: str = "auto"
    format: str = "auto"
    memory: float = 0.0

    @property
    def sources(self) -> SourceOptions:
        """How sources are read."""
        text = TextOptions(
            delimiter=self.delimiter,
            header=self.header,
            decimal=self.decimal,
            thousands=self.thousands,
            encoding=self.encoding,
            missing_words=self.missing_words,
            format=self.format,
        )
        return SourceOptions(
            text=text,
            splits=self.splits,
            trust_links=self.trust_links,
            names=tuple(map(str, (*self.x, *(() if self.y_from else self.y)))),
            each=self.each,
        )


@dataclass(frozen=True)
class Imported:
    """What was written: rows, columns and y of each split, in words; `notes`: what was decided, for the user."""

    splits: dict[str, int]
    width: int
    dtype: str
    y: str
    notes: tuple[str, ...] = ()


def import_data(
    train: Sequence[str],
    test: Sequence[str],
    out: Path,
    options: ImportOptions,
    progress: Progress = lambda stage, rows: None,
) -> Imported:
    """Writes `out`.  `test`: sources of a split "test".  Raises DataError, UsageError, RunError or TooLargeError."""
    train, test, y_from = matching(train), matching(test), matching(options.y_from)
    network = Path(options.like)
    like = sorted(network.glob("*.h5")) if network.is_dir() else [network]
    check_out(out, [*train, *test, *y_from, *(like if options.like else ())], overwrite=options.overwrite)
    check_ending(str(out))
    _check_options(test, options)
    check_once(train)
    check_once(test)
    tables = open_sources(train, test, options.sources, arrays="x" if y_from or options.unlabelled else "pair")
    check_apart(train, test, tables)
    sources = _with_labels(tables, train, test, y_from, options)
    return import_tables(sources, out, options, progress)


def _check_options(test: Sequence[str], options: ImportOptions) -> None:
    """Raises UsageError for options that cannot be meant."""
    for name, value, allowed in (
        ("--task", options.task, ("auto", "classes", "targets")),
        ("--on-missing", options.on_missing, POLICIES),
        ("--dtype", options.dtype, ("auto", "float32", "float64")),
    ):
        if value not in allowed:
            raise UsageError(f"{name} {value}: expected one of {', '.join(allowed)}")
    if options.unlabelled and (options.y or options.y_from):
        raise UsageError(
            "--unlabelled: there is --y or --y-from too, which name labels or targets; take one of them away"
        )
    if options.like and options.categorical:
        raise UsageError("--categorical: the categories are those of --like; leave one of them out")
    given = [o for o, v in (("--test-where", options.test_where), ("--test-last", options.test_last)) if v]
    if test and (given or options.test_fraction):
        raise UsageError(
            f"{given[0] if given else '--test-fraction'}: there are sources for the test split already; leave one of "
            "them out"
        )


def _with_labels(
    tables: dict[str, list[Table]],
    train: Sequence[str],
    test: Sequence[str],
    y_from: Sequence[str],
    options: ImportOptions,
) -> dict[str, SplitTables]:
    """The tables of each split with those of --y-from: as many as there are sources, in the same order."""
    if not y_from:
        return {split: SplitTables(found) for split, found in tables.items()}
    check_once(y_from)
    if len(y_from) == len(train) + len(test):
        of_train, of_test = y_from[: len(train)], y_from[len(train) :]
    elif not test:
        of_train, of_test = y_from, []
    else:
        raise UsageError(
            f"--y-from: {len(y_from)} sources of labels or targets, and {len(train)} for training and {len(test)} for "
            "testing; name one for each of these, in their order"
        )
    names = tuple(map(str, options.y))
    labels = open_sources(of_train, of_test, replace(options.sources, names=names), arrays="y")
    if labels.keys() != tables.keys():
        raise UsageError(
            f"--y-from: has the splits {', '.join(labels)}, and the inputs have {', '.join(tables)}; expected the same"
        )
    return {split: SplitTables(found, labels[split]) for split, found in tables.items()}


def import_tables(
    sources: Mapping[str, SplitTables],
    out: Path,
    options: ImportOptions,
    progress: Progress = lambda stage, rows: None,
) -> Imported:
    """Writes `out` from tables; without `options.overwrite` a file that is there stays.

    Raises what `import_data` raises.
    """
    first = next(iter(sources.values())).inputs[0]
    tests = TestRows(
        options.test_fraction,
        options.seed,
        {first.column(name).name: values for name, values in parse_where(options.test_where, first).items()},
        options.test_last,
        first.column(options.test_group).name if options.test_group else "",
    )
    asked = Asked(
        options.x,
        options.y,
        options.drop,
        options.categorical,
        tests.columns,
        options.unlabelled,
        names_of(options.like) if options.like else None,
    )
    memory = options.memory * GIB or free_bytes() / 2
    policies = Policies(
        options.task,
        options.on_missing,
        frozenset(options.missing_words),
        options.dtype,
        tests,
        split_to_cut(tests, list(sources), options.splits),
        memory,
    )
    sources = _remembered(sources, Room(memory / 2))
    plan = make_plan(sources, asked, policies, progress)
    return _Writing(sources, plan, options, memory, progress).write(out)


def _remembered(sources: Mapping[str, SplitTables], room: Room) -> dict[str, SplitTables]:
    """Tables of text are parsed once, if there is room for what they hold."""

    def kept(tables: list[Table]) -> list[Table]:
        return [RememberedTable(table, room) if table.is_text else table for table in tables]

    return {
        split: SplitTables(kept(one.inputs), None if one.labels is None else kept(one.labels))
        for split, one in sources.items()
    }


class _Writing:
    """The second pass."""

    def __init__(
        self,
        sources: Mapping[str, SplitTables],
        plan: Plan,
        options: ImportOptions,
        memory: float,
        progress: Progress,
    ) -> None:
        self._sources, self._plan, self._options, self._progress = sources, plan, options, progress
        row = plan.encoded_width * plan.dtype.itemsize + 8
        if row > memory:
            raise TooLargeError(
                f"a row has {plan.encoded_width} inputs, {in_units(row)}, and --memory is {in_units(memory)}"
            )
        self._piece = max(1, int(min(PIECE_BYTES, memory / 4) // row))
        self._seen = np.zeros(plan.encoded_width, np.bool_)  # of one-hot columns: in a training row
        self._shown = 0  # rows that `progress` was told of

    def write(self, out: Path) -> Imported:
        """Writes the file under its name when it is whole."""
        plan = self._plan
        notes = [plan.choice.describe(), *plan.notes]
        try:
            written_whole(out, self._write_content, notes.append, overwrite=self._options.overwrite)
        except FAILURES as error:
            raise RunError(f"{out}: cannot be written: {failure(error)}") from None
        written = {split: int(np.count_nonzero(part.rows)) for split, part in plan.parts.items()}
        notes += self._unseen()
        return Imported(written, plan.width, str(plan.dtype), plan.targets.describe(), tuple(notes))

    def _write_content(self, temporary: Path) -> None:
        """Writes the whole file, from its beginning."""
        plan = self._plan
        is_large = are_large(plan.names, plan.units) or are_large(plan.targets.names, plan.targets.units)
        words: dict[str, Any] = {"libver": ("v108", "v110")} if is_large else {}
        if self._shown:
            self._progress("writing", -self._shown)
            self._shown = 0
        with h5py.File(temporary, "x", locking=False, **words) as file:
            for split in plan.parts:
                self._create(file, split)
            for source in self._sources:
                self._write_source(file, source)

    def _create(self, file: h5py.File, split: str) -> None:
        """Creates its data sets: contiguous, which trains fastest; or compressed, in chunks of a mebibyte."""
        plan, options = self._plan, self._options
        rows, width, dtype = int(np.count_nonzero(plan.parts[split].rows)), plan.width, plan.dtype
        packed: dict[str, Any] = {}
        if options.compression != "none":
            chunk = min(rows, max(1, CHUNK_BYTES // max(1, width * dtype.itemsize)))
            packed = {"chunks": (chunk, width), "compression": options.compression, "shuffle": True}
        x = file.create_dataset(f"{split}/x", (rows, width), dtype, track_times=False, **packed)
        x.attrs.update(attributes(plan.names, plan.units))
        if plan.choice.y:
            targets = plan.targets
            shape = (rows, targets.width) if targets.width else (rows,)
            kind = h5py.string_dtype() if targets.dtype.kind == "O" else targets.dtype
            y = file.create_dataset(f"{split}/y", shape, kind, track_times=False)
            y.attrs.update(attributes(targets.names, targets.units))
            y.attrs["task"] = np.bytes_(TARGETS if isinstance(targets, RealTargets) else CLASSES)

    def _write_source(self, file: h5py.File, source: str) -> None:
        parts = {split: part for split, part in self._plan.parts.items() if part.source == source}
        done, written = 0, dict.fromkeys(parts, 0)
        length = len(next(iter(parts.values())).rows)
        for x, y in self._plan.rows(self._sources[source], frozenset(self._options.missing_words)):
            if done + len(x) > length:
                break
            for start in range(0, len(x), self._piece):
                stop = min(start + self._piece, len(x))
                inputs = self._encoded(x.cut(start, stop))
                labels = self._plan.targets.encode(*_of(y.cut(start, stop))) if y else None
                for split, part in parts.items():
                    rows = part.rows[done + start : done + stop]
                    if split == self._learnt:
                        self._seen |= (inputs[rows] != 0).any(axis=0)
                    self._put(file[split], written[split], rows, inputs, labels)
                    written[split] += int(np.count_nonzero(rows))
            done += len(x)
            self._shown += len(x)
            self._progress("writing", len(x))
        if done != length:
            raise DataError(
                f"{self._sources[source].names}: had {length} rows when it was read first, and now another number; it "
                "was changed meanwhile"
            )

    def _put(
        self,
        group: h5py.Group,
        at: int,
        rows: NDArray[np.bool_],
        inputs: NDArray[Any],
        labels: NDArray[Any] | None,
    ) -> None:
        count = int(np.count_nonzero(rows))
        if not count:
            return
        x = inputs if count == len(rows) else inputs[rows]
        group["x"][at : at + count] = x if self._plan.order is None else x[:, self._plan.order]
        if labels is not None:
            group["y"][at : at + count] = labels[rows]

    def _encoded(self, rows: Rows) -> NDArray[Any]:
        """The inputs as numbers, shape (rows, width)."""
        plan = self._plan
        if len(plan.inputs) == 1 and rows.values[0].missing is None:
            found = plan.inputs[0].encode(rows.first, rows.values[0])
            return self._converted(rows, found, 0)
        out = np.empty((len(rows), plan.encoded_width), plan.dtype)
        at = 0
        for encoder, values in zip(plan.inputs, rows.values, strict=True):
            to = at + len(encoder.names)
            found = encoder.encode(rows.first, values)
            missing = values.missing
            if missing is not None:
                if plan.means is None and self._options.on_missing != "drop":
                    raise DataError(f"{rows.first}: {encoder.about.name!r} has missing values now; it was changed")
                fill = plan.means[at:to] if plan.means is not None else 0
                found = np.where(missing, fill, found)
            out[:, at:to] = self._converted(rows, found, at)
            at = to
        return out

    def _converted(self, rows: Rows, found: NDArray[Any], at: int) -> NDArray[Any]:
        """In the type that is stored.  Raises DataError where a number is too large for it."""
        with np.errstate(over="ignore"):
            stored = found.astype(self._plan.dtype, copy=False)
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            row, column = (int(one[0]) for one in np.nonzero(~np.isfinite(stored)))
            names = [name for encoder in self._plan.inputs for name in encoder.names]
            raise DataError(
                f"{rows.first + row}: column {names[at + column]!r}: {found[row, column]:g} is too large for "
                f"{self._plan.dtype}; import it with --dtype float64"
            )
        return stored

    @property
    def _learnt(self) -> str:
        return "train" if "train" in self._plan.parts else next(iter(self._plan.parts))

    def _unseen(self) -> list[str]:
        """One-hot columns that are 0 in all training rows."""
        at, names = 0, []
        for encoder in self._plan.inputs:
            if isinstance(encoder, OneHot) and not self._options.like:
                names += [n for i, n in enumerate(encoder.names) if not self._seen[at + i]]
            at += len(encoder.names)
        return [f"no row of {self._learnt} has {', '.join(names[:12])}"] if names else []


def _of(rows: Rows) -> tuple[Any, Any]:
    return rows.first, rows.values
