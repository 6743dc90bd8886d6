"""Labels or targets: what the columns of y are, by `--task` and `distbp.data.task`, and how they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.counted import counted
from distbp.data.names import quoted
from distbp.data.task import looks_like_labels, looks_like_quantities
from distbp.errors import DataError, UsageError
from distbp.tables.choice import few
from distbp.tables.distinct import DIGITS, Value, meant
from distbp.tables.one_hot import Encoder, Plain, TrueFalse, is_true_false, tally
from distbp.tables.row_stream import Place, stream
from distbp.tables.source_files import is_number, shown
from distbp.tables.survey import MOST_TEXTS, ColumnSurvey
from distbp.tables.table import Table, TableColumn, Values

MOSTLY = 0.9  # of the rows are numbers: then text among them is a mistake
LARGEST = 2**63 - 1


class Targets(Protocol):
    """How y is stored.

    `as_text`: names of columns that are wanted as they are written; `note`: for the user, or "".
    `dtype`: object for strings; `width`: of a row, 0 for labels.
    """

    dtype: np.dtype[Any]
    width: int
    as_text: frozenset[str]
    names: tuple[str, ...]
    units: tuple[str, ...]
    note: str

    def encode(self, first: Place, values: Sequence[Values]) -> NDArray[Any]:
        """(rows,) integers or strings, or (rows, n_F) floats.  Raises DataError."""

    def describe(self) -> str:
        """'3 classes of kind', '2 targets: drag, lift'"""


class NoTargets:
    """A table without labels or targets."""

    dtype, width = np.dtype(np.float64), 0
    as_text: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    note = ""

    def encode(self, first: Place, values: Sequence[Values]) -> NDArray[Any]:
        raise AssertionError("there is no y")

    def describe(self) -> str:
        return "without labels or targets"


class ClassLabels:
    """One column of labels: integers, or text."""

    note, width = "", 0

    def __init__(self, about: TableColumn, values: Mapping[Value, int], *, are_texts: bool) -> None:
        self.about, self._are_texts = about, are_texts
        self.dtype = np.dtype(object if are_texts else np.int64)
        self.as_text = frozenset((about.name,))
        self.names: tuple[str, ...] = (about.name,)
        self.units: tuple[str, ...] = (about.units,)
        self._known: dict[bool, dict[str, int | str]] = {}
        self._numbers: dict[int | str, int] = {}
        for value in values:
            self._numbers.setdefault(self.label(value), len(self._numbers))
        self.labels = list(self._numbers)
        self.classes = len(self.labels)  # that some row has which is not left out

    def number(self, value: Value) -> int:
        """Which of `labels` a value is."""
        return self._numbers[self.label(value)]

    def label(self, value: Value) -> int | str:
        """What a value is stored as."""
        if not self._are_texts:
            return int(value)
        return value if isinstance(value, str) else str(int(value))

    def encode(self, first: Place, values: Sequence[Values]) -> NDArray[Any]:
        column, missing = values[0].array[:, 0], values[0].missing
        if missing is None:
            return self._encoded(first, column, range(len(column)))
        there = np.flatnonzero(~missing[:, 0])
        found = np.full(len(column), self.labels[0], self.dtype)  # rows that are left out: any label will do
        found[there] = self._encoded(first, column[there], there.tolist())
        return found

    def _encoded(self, first: Place, column: NDArray[Any], rows: Sequence[int]) -> NDArray[Any]:
        """The labels of rows in which none is missing."""
        if column.dtype.kind == "O":
            written, texts = first.table.is_text, column.tolist()
            known = self._known.setdefault(written, {})
            for text in dict.fromkeys(texts):
                if text not in known:
                    place = first + rows[texts.index(text)]
                    known[text] = self._label(place, meant(text) if written else text.strip())
            return np.array([known[text] for text in texts], self.dtype)
        if self._are_texts:
            return np.array([str(int(value)) for value in column.tolist()], object)
        return column.astype(np.int64)

    def _label(self, place: Place, value: Value) -> int | str:
        if isinstance(value, str) and not self._are_texts:
            raise DataError(f"{place}: {self.about.name!r} is {shown(value)}, and was a whole number when read first")
        return self.label(value)

    def describe(self) -> str:
        return f"{counted(self.classes, 'class', 'classes')} of {quoted(self.about.name)}"


class OneHotClasses:
    """Columns of 0 and 1, of which each row has one 1: its class is named by that column."""

    note, width, dtype = "", 0, np.dtype(object)

    def __init__(self, columns: Sequence[Encoder]) -> None:
        self._columns = columns
        self.labels = [name for column in columns for name in column.names]
        self.classes = len(self.labels)  # that some row has which is not left out
        self.as_text = frozenset(column.about.name for column in columns if column.as_text)
        self.names: tuple[str, ...] = ()
        self.units: tuple[str, ...] = ()

    def codes(self, first: Place, values: Sequence[Values]) -> NDArray[np.int32]:
        """Which column each row has its 1 in.  Raises DataError."""
        flags = np.concatenate([c.encode(first, v) for c, v in zip(self._columns, values, strict=True)], axis=1)
        missing = np.zeros(len(flags), np.bool_)
        for one in values:
            if one.missing is not None:
                missing |= one.missing.any(axis=1)
        wrong = (~((flags == 0) | (flags == 1)).all(axis=1) | ((flags == 1).sum(axis=1) != 1)) & ~missing
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{first + row}: {few([quoted(name) for name in self.labels])} are "
                f"{shown(str(flags[row].tolist()))}; for --task classes one of them is 1 in each row, all others 0"
            )
        return np.where(missing, -1, (flags == 1).argmax(axis=1)).astype(np.int32)

    def encode(self, first: Place, values: Sequence[Values]) -> NDArray[Any]:
        return np.array(self.labels, object)[self.codes(first, values)]

    def describe(self) -> str:
        return f"{counted(self.classes, 'class', 'classes')}, named by the columns"


class RealTargets:
    """Regression targets."""

    def __init__(self, columns: Sequence[Encoder], dtype: np.dtype[Any], note: str) -> None:
        self._columns, self.dtype, self.note = columns, dtype, note
        self.as_text = frozenset(column.about.name for column in columns if column.as_text)
        is_named = any(column.is_named for column in columns)
        self.names = tuple(name for column in columns for name in column.names) if is_named else ()
        self.units = tuple(unit for column in columns for unit in column.units) if is_named else ()
        self.width = sum(len(column.names) for column in columns)

    def encode(self, first: Place, values: Sequence[Values]) -> NDArray[Any]:
        found = [column.encode(first, one) for column, one in zip(self._columns, values, strict=True)]
        with np.errstate(over="ignore"):
            return np.concatenate([one.astype(self.dtype, copy=False) for one in found], axis=1)

    def describe(self) -> str:
        names = few([quoted(column.about.name) for column in self._columns])
        return f"{self.width} target{'s' * (self.width > 1)}: {names}"


@dataclass(frozen=True)
class Question:
    """What is known of y.  columns, surveys: for each column, of all splits; `tables`: of all splits."""

    columns: Sequence[TableColumn]
    surveys: Sequence[Sequence[ColumnSurvey]]
    tables: Sequence[Table]
    words: frozenset[str]

    @property
    def name(self) -> str:
        """The columns, as a user writes them."""
        return ",".join(quoted(column.name) for column in self.columns)

    def ask(self, why: str) -> UsageError:
        """The refusal to guess."""
        return UsageError(
            f"{self.tables[0].name}: {self.name} {why}; are these labels of classes, or targets of a regression? Say "
            "it with --task classes or --task targets"
        )


def wants_text(table: Table, name: str, task: str) -> bool:
    """Whether y, one column of a table of text, is to be looked at as it is written: it may be labels."""
    if not table.is_text or task == "targets":
        return False
    if task == "classes":
        return True
    first = next(iter(table.blocks([table.column(name).name])), None)
    if first is None:
        return False
    values = first[0]
    there = values.array if values.missing is None else values.array[~values.missing]
    return values.is_text or bool((there == np.floor(there)).all())


def decide(question: Question, task: str) -> Targets:
    """What y is.  `task`: auto, classes or targets.  Raises DataError; UsageError where the user has to say it."""
    for about, of_column in zip(question.columns, question.surveys, strict=True):
        widths = sorted({survey.width for survey in of_column})
        if len(widths) > 1:
            raise DataError(
                f"{question.tables[0].name}: {about.name!r} has {widths[0]} numbers a row in one split, and "
                f"{widths[-1]} in another"
            )
    width = sum(max(survey.width for survey in surveys) for surveys in question.surveys)
    if width == 1 and task != "targets":
        found = _one_column(question, task)
        if found is not None:
            return found
    if width > 1 and task == "classes":
        return _one_hot_classes(question)
    return _targets(question, one=width == 1, task=task)


def _one_column(question: Question, task: str) -> Targets | None:
    """Labels; None for targets."""
    about, surveys = question.columns[0], question.surveys[0]
    values = tally(surveys)
    texts = [value for value in values if isinstance(value, str)]
    fraction = next((survey.fraction for survey in surveys if survey.fraction), None)
    over = any(survey.distinct.is_over for survey in surveys)
    is_float = any(dtype.kind == "f" for survey in surveys for dtype in survey.types)
    if task == "classes":
        if fraction:
            raise DataError(
                f"{fraction[0]}: {about.name} is {fraction[1]!r}; labels are whole numbers or text (--task classes)"
            )
        if over:
            raise DataError(
                f"{question.tables[0].name}: {about.name!r} has more than {MOST_TEXTS} different values, too many for "
                "labels (--task classes)"
            )
        return _labels(about, surveys, values, texts)
    if over or fraction:
        return None
    if not texts:
        if is_float:
            if looks_like_labels(float(value) for value in values):
                raise question.ask(f"is of a floating-point type, and has whole numbers only: {_some(values)}")
            return None
        why = looks_like_quantities({int(value): count for value, count in values.items()})
        if why:
            raise question.ask(why)
        return _labels(about, surveys, values, texts)
    if all(DIGITS.fullmatch(text) for text in texts):  # 007: a name
        return _labels(about, surveys, values, texts)
    return None if all(is_number(text) for text in texts) else _words(question, values, texts)


def _words(question: Question, values: Mapping[Value, int], texts: Sequence[str]) -> Targets:
    """Labels that are text.  Raises DataError where text is a mistake among numbers."""
    about, surveys = question.columns[0], question.surveys[0]
    words = {text for text in texts if not is_number(text)}
    numbers = sum(count for value, count in values.items() if value not in words)
    if numbers > MOSTLY * sum(values.values()):
        place, text = _first_of(surveys, words)
        raise DataError(
            f"{place}: {about.name} is {shown(text)}, and nearly all others are numbers; if it is a label: "
            "--task classes; if it means that a value is missing: --missing-words"
        )
    return _labels(about, surveys, values, texts)


def _first_of(surveys: Sequence[ColumnSurvey], words: set[str]) -> tuple[Place, str]:
    for survey in surveys:
        for value, number in survey.distinct.numbers.items():
            if value in words:
                return survey.place(survey.distinct.first[number]), str(value)
    raise AssertionError("no split has the word")


def _labels(
    about: TableColumn, surveys: Sequence[ColumnSurvey], values: Mapping[Value, int], texts: Sequence[str]
) -> Targets:
    """Labels, after a look at each."""
    for survey in surveys:
        for value, number in survey.distinct.numbers.items():
            if isinstance(value, str) and ("\0" in value or not value.isprintable()):
                place = survey.place(survey.distinct.first[number])
                raise DataError(f"{place}: {about.name!r} is {shown(value)}; expected text that can be printed")
            if not isinstance(value, str) and not texts and not -LARGEST - 1 <= value <= LARGEST:
                place = survey.place(survey.distinct.first[number])
                raise DataError(f"{place}: {about.name} is {value}, too large for a label; a target? --task targets")
    return ClassLabels(about, values, are_texts=bool(texts))


def _some(values: Mapping[Value, int]) -> str:
    shown_values = [f"{value:g}" for value in sorted(map(float, values))]
    return ", ".join(shown_values if len(shown_values) <= 8 else [*shown_values[:6], "…", shown_values[-1]])


def _flag_columns(question: Question) -> list[Encoder] | None:
    """The columns where all of them are 0 and 1, or true and false; else None."""
    found: list[Encoder] = []
    for about, surveys in zip(question.columns, question.surveys, strict=True):
        values = tally(surveys)
        if not any(survey.has_text for survey in surveys) and all(survey.is_flag for survey in surveys):
            found.append(Plain(about, max(survey.width for survey in surveys)))
        elif is_true_false(values) and not any(survey.distinct.is_over for survey in surveys):
            found.append(TrueFalse(about))
        else:
            return None
    return found


def _one_hot_classes(question: Question) -> Targets:
    columns = _flag_columns(question)
    if columns is None:
        raise DataError(
            f"{question.tables[0].name}: {question.name} are several columns; for --task classes expected one column "
            "of labels, or columns of 0 and 1 of which each row has one 1"
        )
    return OneHotClasses(columns)


def _targets(question: Question, *, one: bool, task: str) -> Targets:
    flags = None if one else _flag_columns(question)
    if flags is not None:
        note = ""
        if task == "auto":
            note = (
                f"{question.name}: columns of 0 and 1 are targets, one for each (several labels a row); if each row "
                "has one 1, --task classes makes classes of them"
            )
        return RealTargets(flags, np.dtype(np.float64), note)
    encoders: list[Encoder] = []
    types: list[np.dtype[Any]] = []
    for about, surveys in zip(question.columns, question.surveys, strict=True):
        if any(survey.has_text for survey in surveys):
            values = tally(surveys)
            if is_true_false(values):
                encoders.append(TrueFalse(about))
                types.append(np.dtype(np.float64))
                continue
            place, text = _first_no_number(question, about.name)
            raise DataError(f"{place}: {about.name} is {shown(text)}; targets are finite numbers")
        encoders.append(Plain(about, max(survey.width for survey in surveys)))
        kinds = [dtype for survey in surveys for dtype in survey.types]
        types += [dtype if dtype.kind == "f" else np.dtype(np.float64) for dtype in kinds] or [np.dtype(np.float64)]
        _check_exact(question, surveys)
    return RealTargets(encoders, np.result_type(*types), "")


def _check_exact(question: Question, surveys: Sequence[ColumnSurvey]) -> None:
    for survey in surveys:
        if survey.lowest < -(2**53) or survey.highest > 2**53:
            raise DataError(
                f"{question.tables[0].name}: {survey.name!r} has whole numbers up to "
                f"{max(abs(survey.lowest), abs(survey.highest))}, which floating-point targets would round; expected "
                "at most 2^53"
            )


def _first_no_number(question: Question, name: str) -> tuple[Place, str]:
    for rows in stream(question.tables, (name,), frozenset((name,)), question.words):
        values = rows.values[0]
        if values.is_text:
            for row, text in enumerate(values.array[:, 0].tolist()):
                if (values.missing is None or not values.missing[row, 0]) and not is_number(text):
                    return rows.first + row, text
    raise DataError(f"{question.tables[0].name}: {name!r} has text in it; targets are finite numbers")
