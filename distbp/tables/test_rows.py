"""Which rows become the split test: a drawn part, those with some values, or the last ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.data.names import Name, parse, quoted
from distbp.errors import DataError, UsageError
from distbp.tables.distinct import Value
from distbp.tables.one_hot import value_name
from distbp.tables.source_files import is_number, shown
from distbp.tables.survey import ColumnSurvey
from distbp.tables.table import Table


@dataclass(frozen=True)
class TestRows:
    """What the user has said.  `where`: for each column the values of test rows; all columns have to have one of them.

    `fraction`: drawn of each class alike, or of the groups of the column `group`; `last`: fraction at the end.
    """

    __test__ = False  # no test of pytest's

    fraction: float = 0.0
    seed: int = 0
    where: Mapping[str, tuple[str, ...]] | None = None
    last: float = 0.0
    group: str = ""

    def __post_init__(self) -> None:
        given = [
            name
            for name, value in (
                ("--test-fraction", self.fraction),
                ("--test-where", self.where),
                ("--test-last", self.last),
            )
            if value
        ]
        if len(given) > 1:
            raise UsageError(f"{given[0]} and {given[1]}: expected one of them; each says which rows are for testing")
        if self.group and not self.fraction:
            raise UsageError(
                "--test-group: goes with --test-fraction, which says how much of the groups is for testing"
            )

    def __bool__(self) -> bool:
        return bool(self.fraction or self.where or self.last)

    @property
    def option(self) -> str:
        """The option that was given."""
        return "--test-where" if self.where else "--test-last" if self.last else "--test-fraction"

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """The columns that are needed, each with its option."""
        group = [(self.group, "--test-group")] if self.group else []
        return (*((name, "--test-where") for name in self.where or ()), *group)

    def draw(
        self, kept: NDArray[np.bool_], columns: Mapping[str, ColumnSurvey], classes: NDArray[np.int32] | None
    ) -> NDArray[np.bool_]:
        """Which of the rows that are `kept` are for testing; all arrays have shape (rows,).

        columns: those named in `columns`; `classes`: the class of each row, None where there are none.
        Raises UsageError where a split would have no rows.
        """
        test = np.zeros(len(kept), np.bool_)
        test[kept] = self._of_kept(kept, columns, classes)
        return test

    def _of_kept(
        self, kept: NDArray[np.bool_], columns: Mapping[str, ColumnSurvey], classes: NDArray[np.int32] | None
    ) -> NDArray[np.bool_]:
        rows = int(np.count_nonzero(kept))
        if self.where:
            chosen = self._where(kept, self.where, columns)
        elif self.last:
            chosen = np.arange(rows) >= rows - round(self.last * rows)
        elif self.group:
            chosen = self._groups(_codes(columns[self.group], self.group)[kept])
        else:
            chosen = self._drawn(rows, None if classes is None else classes[kept])
        if chosen.all() or not chosen.any():
            part = "train" if chosen.all() else "test"
            raise UsageError(f"{self._words()}: of {rows} rows, a split would have none: {part}")
        return chosen

    def _words(self) -> str:
        if self.where:
            return "--test-where " + ",".join(f"{name}={value}" for name, vs in self.where.items() for value in vs)
        return f"{self.option} {self.last or self.fraction:g}"

    def _drawn(self, rows: int, classes: NDArray[np.int32] | None) -> NDArray[np.bool_]:
        """That fraction of each class, or of all rows where there are no classes."""
        rng, chosen = np.random.default_rng(self.seed), np.zeros(rows, np.bool_)
        groups = [np.arange(rows)]
        if classes is not None:
            order = np.argsort(classes, kind="stable")
            groups = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
        for group in groups:
            chosen[rng.permutation(group)[: round(self.fraction * len(group))]] = True
        return chosen

    def _groups(self, codes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whole groups, drawn until there are as many rows as wanted, as nearly as groups allow."""
        counts = np.bincount(codes)
        wanted, taken = self.fraction * len(codes), 0
        chosen = np.zeros(len(counts), np.bool_)
        for group in np.random.default_rng(self.seed).permutation(np.flatnonzero(counts)).tolist():
            if abs(taken + counts[group] - wanted) <= abs(taken - wanted):
                chosen[group], taken = True, taken + counts[group]
        return chosen[codes]

    def _where(
        self, kept: NDArray[np.bool_], where: Mapping[str, tuple[str, ...]], columns: Mapping[str, ColumnSurvey]
    ) -> NDArray[np.bool_]:
        chosen = np.ones(np.count_nonzero(kept), np.bool_)
        for name, values in where.items():
            distinct = columns[name].distinct
            known = list(distinct.numbers)
            fits = [any(_is_same(one, value) for value in values) for one in known]
            absent = [value for value in values if not any(_is_same(one, value) for one in known)]
            if absent and not distinct.is_over:
                there = sorted({value_name(one) for one in known})
                shown_values = ", ".join(there if len(there) <= 12 else [*there[:10], "…", there[-1]])
                raise UsageError(
                    f"--test-where {quoted(name)}={absent[0]}: no row has that value; there are {shown_values}"
                )
            chosen &= np.append(np.array(fits, np.bool_), False)[_codes(columns[name], name)[kept]]
        return chosen


def _codes(survey: ColumnSurvey, name: str) -> NDArray[np.int32]:
    if survey.width > 1:
        raise UsageError(f"{quoted(name)} has {survey.width} values a row; expected a column with one")
    if survey.distinct.is_over:
        raise UsageError(f"{quoted(name)} has too many different values to say which rows are for testing")
    return np.concatenate(survey.codes)


def _is_same(value: Value, text: str) -> bool:
    """Whether a value is what a user means: numbers are compared as numbers."""
    if isinstance(value, str):
        return value == text or (is_number(value) and is_number(text) and float(value) == float(text))
    return is_number(text) and float(text) == value


def parse_where(option: str, table: Table) -> dict[str, tuple[str, ...]]:
    """COLUMN=VALUE,… by column: the longest name of a column that has an = behind it.  Raises UsageError."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in parse(option, "--test-where") if option else ():
        column, value = _pair(entry, table)
        found[column] = (*found.get(column, ()), value)
    return found


def _pair(entry: Name, table: Table) -> tuple[str, str]:
    text, columns = entry.text, [column.name for column in table.columns]
    for i in reversed(range(len(text))):
        if text[i] == "=" and text[:i].strip() in columns:
            return text[:i].strip(), text[i + 1 :].strip()
    column, _, value = text.partition("=")
    if value:
        with suppress(DataError):  # what is no name of a column may still mean one, such as @group
            return table.column(column.strip()).name, value.strip()
    if "=" not in text:
        raise UsageError(f"--test-where {shown(text)}: expected COLUMN=VALUE")
    raise UsageError(f"--test-where {shown(text)}: no column {shown(text.split('=')[0])}; there are {_few(columns)}")


def _few(names: Sequence[str]) -> str:
    shown_names = [quoted(name) for name in names]
    return ", ".join(shown_names if len(shown_names) <= 12 else [*shown_names[:10], "…", shown_names[-1]])
