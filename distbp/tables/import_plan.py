"""What `distbp import` makes of its sources: decided after the first pass, for all formats alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from distbp.data.conventions import is_default_fill
from distbp.data.names import quoted
from distbp.errors import DataError, UsageError
from distbp.tables.choice import Asked, Choice, choose, few
from distbp.tables.hdf5_table import HDF5Table
from distbp.tables.import_targets import (
    ClassLabels,
    NoTargets,
    OneHotClasses,
    Question,
    Targets,
    decide,
    wants_text,
)
from distbp.tables.missing import check_finite, check_missing, dropped, unmarked
from distbp.tables.one_hot import Encoder, OneHot, Plain, encoder_of, said
from distbp.tables.row_stream import Rows, side_by_side, stream
from distbp.tables.row_table import RowTable
from distbp.tables.stored_type import DType, check_written, stored_type
from distbp.tables.survey import ColumnSurvey, Progress, TableSurvey, Wanted, survey
from distbp.tables.table import Table
from distbp.tables.test_rows import TestRows
from distbp.tables.written_names import check_different


@dataclass(frozen=True)
class SplitTables:
    """The tables of a split; `labels`: those of --y-from, or None where inputs and labels are in the same ones."""

    inputs: list[Table]
    labels: list[Table] | None = None

    @property
    def names(self) -> str:
        """Of the first few of all tables."""
        found = [table.name for table in (*self.inputs, *(self.labels or ()))]
        return few(found)


@dataclass(frozen=True)
class Policies:
    """What the user wants done.  `words`: texts that mean "missing"; `memory`: bytes."""

    task: str = "auto"
    on_missing: str = "refuse"
    words: frozenset[str] = frozenset()
    dtype: str = "auto"
    tests: TestRows = field(default_factory=TestRows)
    cut: str = ""  # the split that test rows are taken of
    memory: float = float("inf")


@dataclass(frozen=True)
class Part:
    """Rows of a split of the sources that become a split of the data set; `rows`: shape (rows,), True for these."""

    source: str
    rows: NDArray[np.bool_]


@dataclass
class Plan:
    """All that the second pass needs.  `order`: which of the encoded numbers are inputs, in that order; None: all."""

    choice: Choice
    inputs: list[Encoder]
    order: list[int] | None
    targets: Targets
    dtype: DType
    parts: dict[str, Part]
    notes: list[str]
    means: NDArray[np.float64] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, as they are written; () where they are only numbers of places."""
        if not any(encoder.is_named for encoder in self.inputs) and len(self.inputs) == 1:
            return ()
        return self._ordered([name for encoder in self.inputs for name in encoder.names])

    @property
    def units(self) -> tuple[str, ...]:
        return self._ordered([unit for encoder in self.inputs for unit in encoder.units])

    def _ordered(self, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(words if self.order is None else [words[i] for i in self.order])

    @cached_property
    def encoded_width(self) -> int:
        """Numbers of a row before they are put in order."""
        return sum(len(encoder.names) for encoder in self.inputs)

    @property
    def width(self) -> int:
        return self.encoded_width if self.order is None else len(self.order)

    def rows(self, tables: SplitTables, words: frozenset[str]) -> Iterator[tuple[Rows, Rows | None]]:
        """Blocks of the inputs and of y."""
        x, y = tuple(column.name for column in self.choice.x), tuple(column.name for column in self.choice.y)
        text = frozenset(encoder.about.name for encoder in self.inputs if encoder.as_text)
        if tables.labels is None:
            for both in stream(tables.inputs, x + y, text | self.targets.as_text, words):
                of_y = Rows(both.first, both.values[len(x) :])
                yield Rows(both.first, both.values[: len(x)]), of_y if y else None
            return
        inputs, labels = stream(tables.inputs, x, text, words), stream(tables.labels, y, self.targets.as_text, words)
        yield from side_by_side(inputs, labels, tables.names)


def make_plan(sources: Mapping[str, SplitTables], asked: Asked, policies: Policies, progress: Progress) -> Plan:
    """Looks at the columns, and decides.  Raises DataError, UsageError, TooLargeError."""
    return _Planner(sources, asked, policies, progress).plan()


class _Planner:
    """The first pass, and one decision after another."""

    def __init__(
        self, sources: Mapping[str, SplitTables], asked: Asked, policies: Policies, progress: Progress
    ) -> None:
        self._sources, self._asked, self._policies, self._progress = sources, asked, policies, progress
        first = next(iter(sources.values()))
        self._first, self._labels = first.inputs[0], (first.labels[0] if first.labels else None)
        self._choice = choose(self._first, self._labels, asked)
        like = asked.like.categories(self._first) if asked.like and not asked.x else {}
        self._known = like
        self._task = policies.task
        if asked.like and self._task == "auto":
            self._task = "targets" if asked.like.labels is None else "classes"  # as that network has it
        self._categorical = self._choice.categorical | frozenset(like)
        self._x = tuple(column.name for column in self._choice.x)
        self._y = tuple(column.name for column in self._choice.y)
        if isinstance(self._first, HDF5Table | RowTable) and self._x:
            self._first.check_overlap(self._x, () if self._labels else self._y)
        self._learnt = "train" if "train" in sources else next(iter(sources))
        self._of_x: dict[str, TableSurvey] = {}
        self._of_y: dict[str, TableSurvey] = {}

    def plan(self) -> Plan:
        self._look()
        x, y, tests = self._all(self._x), self._all(self._y, of_y=True), self._all(self._choice.tests)
        check_finite([*x, *y])
        kept = self._kept()
        check_missing(x, [*y, *tests], self._policies.on_missing, is_named=bool(self._asked.x))
        notes = [dropped({s: int(np.count_nonzero(~rows)) for s, rows in kept.items()}, [*x, *y, *tests])]
        inputs = self._encoders()
        self._check_widths(inputs)
        targets = self._targets()
        columns = [(one, [self._of_x[split].columns[one.about.name] for split in self._sources]) for one in inputs]
        for tables in self._sources.values():
            check_written(
                tables.inputs,
                [s for one, found in columns if isinstance(one, Plain) for s in found],
                self._policies.words,
            )
        dtype, of_type = stored_type(columns, self._policies.dtype, self._first)
        parts = self._parts(kept, targets)
        order = self._order(inputs)
        plan = Plan(self._choice, inputs, order, targets, dtype, parts, [])
        check_different(plan.names)
        plan.notes = [
            note
            for note in (
                *(*notes, *said(inputs), *of_type, targets.note, *self._of_rows(inputs)),
                *unmarked([*x, *y]),
                *self._together(),
                *self._told(),
            )
            if note
        ]
        self._fill(plan)
        return plan

    def _wanted(self, names: Sequence[str], text: frozenset[str], *, gaps: bool) -> Wanted:
        coded = self._categorical | frozenset(self._choice.tests) | frozenset(self._y)
        coded &= frozenset(names)
        return Wanted(tuple(dict.fromkeys(names)), text, coded, self._policies.words, gaps, self._policies.memory)

    def _look(self) -> None:
        y, task, gaps = self._y, self._task, self._policies.on_missing == "drop"
        as_text = frozenset(name for name in self._choice.tests if name not in self._x) | self._categorical
        label_table = self._labels or self._first
        of_y = frozenset(y) if len(y) == 1 and wants_text(label_table, y[0], task) else frozenset()
        for split, tables in self._sources.items():
            names = (*self._x, *self._choice.tests, *(() if tables.labels else y))
            text = as_text | (frozenset() if tables.labels else of_y)
            self._of_x[split] = survey(tables.inputs, self._wanted(names, text, gaps=gaps), self._progress)
            self._of_y[split] = self._of_x[split]
            if tables.labels:
                self._of_y[split] = survey(tables.labels, self._wanted(y, of_y, gaps=gaps), self._progress)
            if self._of_y[split].rows != self._of_x[split].rows:
                raise DataError(
                    f"{tables.names}: {self._of_y[split].rows} rows of labels or targets, and {self._of_x[split].rows} "
                    "of inputs; each sample has one of both"
                )
        self._look_again(of_y)

    def _look_again(self, of_y: frozenset[str]) -> None:
        """Columns that are text in one split and numbers in another; labels that are too many to be any."""
        for name in self._x:
            found = self._all((name,))
            if any(one.has_text for one in found) and any(one.has_numbers and one.is_written for one in found):
                self._resurvey(name, as_text=True, of_y=False)
        for name in of_y if self._task == "auto" else ():
            if any(one.distinct.is_over for one in self._all((name,), of_y=True)):
                self._resurvey(name, as_text=False, of_y=True)

    def _resurvey(self, name: str, *, as_text: bool, of_y: bool) -> None:
        text = frozenset((name,)) if as_text else frozenset()
        for split, tables in self._sources.items():
            side = tables.labels if of_y and tables.labels else tables.inputs
            again = survey(side, self._wanted((name,), text, gaps=False), self._progress)
            (self._of_y if of_y else self._of_x)[split].columns.update(again.columns)

    def _all(self, names: Sequence[str], *, of_y: bool = False) -> list[ColumnSurvey]:
        """What was found in these columns, in all splits."""
        found = self._of_y if of_y else self._of_x
        return [found[split].columns[name] for split in self._sources for name in names]

    def _kept(self) -> dict[str, NDArray[np.bool_]]:
        """The rows of each split that are not left out."""
        kept = {}
        for split in self._sources:
            x, y = self._of_x[split], self._of_y[split]
            rows = np.ones(x.rows, np.bool_)
            if x.gaps is not None and y.gaps is not None:
                rows &= ~(x.gaps | y.gaps)
            if not rows.any():
                names = [quoted(one.name) for one in (*x.columns.values(), *y.columns.values()) if one.missing]
                option = "" if self._asked.x else " with --drop"
                raise DataError(
                    f"{self._sources[split].names}: each row of the split {split} has a missing value (in "
                    f"{few(list(dict.fromkeys(names)))}); leave out such columns{option}"
                )
            kept[split] = rows
        return kept

    def _encoders(self) -> list[Encoder]:
        inputs: list[Encoder] = []
        for about in self._choice.x:
            if about.name in self._known:
                inputs.append(OneHot(about, self._known[about.name], whose=self._like_name))
                continue
            found = {split: one.columns[about.name] for split, one in self._of_x.items()}
            inputs.append(encoder_of(about, found, self._learnt, categorical=about.name in self._categorical))
        return inputs

    @property
    def _like_name(self) -> str:
        return self._asked.like.name if self._asked.like else ""

    def _check_widths(self, inputs: Sequence[Encoder]) -> None:
        for encoder in inputs:
            if not isinstance(encoder, Plain):
                continue
            for split, found in self._of_x.items():
                width = found.columns[encoder.about.name].width
                if width != len(encoder.names):
                    other = next(s for s, one in self._of_x.items() if one.columns[encoder.about.name].width != width)
                    raise DataError(
                        f"{self._sources[split].names}: {encoder.about.name} has {width} numbers a row in the split "
                        f"{split}, and {len(encoder.names)} in {other}; expected as many in each"
                    )
                if width == 0:
                    raise DataError(f"{self._sources[split].names}: {encoder.about.name} has no numbers in its rows")

    def _targets(self) -> Targets:
        if not self._y:
            return NoTargets()
        tables = [table for one in self._sources.values() for table in (one.labels or one.inputs)]
        surveys = [self._all((name,), of_y=True) for name in self._y]
        return decide(Question(self._choice.y, surveys, tables, self._policies.words), self._task)

    def _order(self, inputs: Sequence[Encoder]) -> list[int] | None:
        if self._asked.like is None or self._asked.x:
            return None
        return self._asked.like.order([name for encoder in inputs for name in encoder.names])

    def _parts(self, kept: Mapping[str, NDArray[np.bool_]], targets: Targets) -> dict[str, Part]:
        """The splits of the data set."""
        tests, parts = self._policies.tests, {}
        codes = {split: self._codes(split, targets) for split in self._sources}
        for split, rows in kept.items():
            if tests and split == self._policies.cut:
                chosen = tests.draw(rows, self._of_x[split].columns, codes[split])
                parts["train"], parts["test"] = Part(split, rows & ~chosen), Part(split, chosen)
            else:
                parts[split] = Part(split, rows)
        learnt = "train" if "train" in parts else next(iter(parts))
        self._check_labels(parts, learnt, codes, targets)
        return parts

    def _codes(self, split: str, targets: Targets) -> NDArray[np.int32] | None:
        """The class of each row, numbered alike in all splits; None where there are none."""
        if isinstance(targets, ClassLabels):
            found = self._of_y[split].columns[self._y[0]]
            numbers = [targets.number(value) for value in found.distinct.numbers]
            return np.array([*numbers, -1], np.int32)[np.concatenate(found.codes)]
        if isinstance(targets, OneHotClasses):
            tables = self._sources[split]
            rows = stream(tables.labels or tables.inputs, self._y, targets.as_text, self._policies.words)
            return np.concatenate([targets.codes(some.first, some.values) for some in rows])
        return None

    def _check_labels(
        self,
        parts: Mapping[str, Part],
        learnt: str,
        codes: Mapping[str, NDArray[np.int32] | None],
        targets: Targets,
    ) -> None:
        """Raises DataError where a split has labels that the training rows never have; counts the classes."""
        of_learnt = codes[parts[learnt].source]
        if of_learnt is None or not isinstance(targets, ClassLabels | OneHotClasses):
            return
        known = np.unique(of_learnt[parts[learnt].rows])
        targets.classes = len(known)
        for name, part in parts.items():
            own = codes[part.source]
            assert own is not None
            strange = np.setdiff1d(own[part.rows], known)
            if len(strange):
                labels = [repr(targets.labels[i]) for i in strange.tolist()]
                row = int(np.flatnonzero(part.rows & (own == strange[0]))[0])
                place = self._of_y[part.source].columns[self._y[0]].place(row)
                raise DataError(
                    f"{place}: the split {name} has labels that {learnt} never has: {few(labels)}; a network cannot "
                    f"learn them from {learnt}: leave out such rows, or choose the test rows in another way"
                )

    def _of_rows(self, inputs: Sequence[Encoder]) -> list[str]:
        """Warnings of inputs that follow the row number."""
        found = []
        for encoder in inputs:
            if isinstance(encoder, Plain):
                of = self._of_x[self._learnt].columns[encoder.about.name].rows_followed.found()
                found += [
                    f"warning: {quoted(encoder.names[i])} {how}: if it is an index and no input, leave it out with "
                    f"--drop {quoted(encoder.about.name)}"
                    for i, how in of.items()
                ]
        return found if len(found) <= 5 else [*found[:4], f"warning: and {len(found) - 4} more such inputs"]

    def _together(self) -> list[str]:
        """What the first table says of inputs and targets together."""
        if not isinstance(self._first, HDF5Table) or self._labels:
            return []
        return self._first.notes_on(self._x, self._y)

    def _told(self) -> list[str]:
        """What the readers have decided."""
        gaps = {one.name for one in (*self._all(self._x), *self._all(self._y, of_y=True)) if one.missing}
        notes = [
            f"{quoted(column.name)}: {note}"
            for column in (*self._choice.x, *self._choice.y)
            for note in column.notes
            if column.name in gaps or not is_default_fill(note)
        ]
        tables = [table for one in self._sources.values() for table in (*one.inputs, *(one.labels or ()))]
        for table in tables:
            own = getattr(table, "notes", ())
            notes += [f"{table.name}: {'; '.join(own)}"] if own else []
        return notes if len(notes) <= 12 else [*notes[:11], f"and {len(notes) - 11} more notes of the readers"]

    def _fill(self, plan: Plan) -> None:
        """Means of the training rows, in place of what is missing."""
        missing = [one for one in self._all(self._x) if one.missing]
        if not missing or self._policies.on_missing != "mean":
            return
        learnt = plan.parts.get("train", next(iter(plan.parts.values())))
        plan.means = training_means(plan, self._sources[learnt.source], learnt.rows, self._policies.words)
        if plan.dtype.kind != "f":
            plan.dtype = np.result_type(plan.dtype, np.float32)
        counts: dict[str, int] = {}
        for one in missing:
            counts[one.name] = counts.get(one.name, 0) + one.missing
        words = few([f"{count} of {quoted(name)}" for name, count in counts.items()])
        plan.notes.insert(0, f"missing values are the mean of the training rows: {words}")


def training_means(
    plan: Plan, tables: SplitTables, rows: NDArray[np.bool_], words: frozenset[str]
) -> NDArray[np.float64]:
    """The mean of each encoded number of a row where it is there, over the training rows, shape (width,)."""
    sums, counts = np.zeros(plan.encoded_width), np.zeros(plan.encoded_width)
    done = 0
    text = frozenset(encoder.about.name for encoder in plan.inputs if encoder.as_text)
    for block in stream(tables.inputs, tuple(column.name for column in plan.choice.x), text, words):
        chosen = rows[done : done + len(block)]
        done += len(block)
        at = 0
        for encoder, values in zip(plan.inputs, block.values, strict=True):
            to = at + len(encoder.names)
            numbers = encoder.encode(block.first, values)[chosen]
            there = np.ones(numbers.shape, np.bool_)
            if values.missing is not None:
                there &= ~values.missing[chosen]
            sums[at:to] += np.where(there, numbers, 0).sum(axis=0, dtype=np.float64)
            counts[at:to] += there.sum(axis=0)
            at = to
    if not counts.all():
        names = [name for encoder in plan.inputs for name in encoder.names]
        raise DataError(
            f"{tables.names}: {quoted(names[int(counts.argmin())])} has no value in any training row, so there is no "
            "mean; leave it out with --drop"
        )
    return sums / counts


def split_to_cut(tests: TestRows, splits: Sequence[str], chosen: Sequence[str]) -> str:
    """The split that test rows are taken of: train, the only one, or the one of --split.  Raises UsageError."""
    if not tests:
        return ""
    cut = "train" if "train" in splits else ""
    if len(splits) == 1:
        cut = splits[0]
    elif not cut and len(chosen) == 1:
        cut = chosen[0]
    if not cut:
        raise UsageError(
            f"{tests.option}: of which split? There are {', '.join(splits)}; name one of them with --split"
        )
    if "test" in splits and cut != "test":
        raise UsageError(f"{tests.option}: there are sources for the test split already; leave one of them out")
    return cut
