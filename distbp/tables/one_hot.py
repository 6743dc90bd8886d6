"""How the columns of the sources become numbers: as they are, true and false as 1 and 0, categories as one-hot columns.

A column of text is one of categories if it has at most 2 distinct values, or at most 100 and three rows or more for
each on average; with --categorical up to 10,000 are taken.  Its columns are named `column=value`, in sorted order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.data.names import quoted
from distbp.errors import DataError
from distbp.tables.choice import few
from distbp.tables.distinct import Value, meant
from distbp.tables.row_stream import Place
from distbp.tables.source_files import is_number, shown
from distbp.tables.survey import ColumnSurvey
from distbp.tables.table import TableColumn, Values
from distbp.tables.text_numbers import why_no_number

FEW_VALUES = 100
ROWS_A_VALUE = 3
MOST_VALUES = 10_000  # with --categorical
TRUE_FALSE = {"true": 1, "false": 0}


class Encoder(Protocol):
    """How a column becomes numbers.

    `names`: of the numbers of a row; `is_named`: whether they are more than the number of a place.
    `as_text`: whether the column is wanted as it is written.
    """

    about: TableColumn
    names: tuple[str, ...]
    is_named: bool
    units: tuple[str, ...]
    as_text: bool

    def encode(self, first: Place, values: Values) -> NDArray[Any]:
        """Numbers, shape (rows, width); what stands where a value is missing means nothing.  Raises DataError."""


class Plain:
    """Numbers as they are."""

    as_text = False

    def __init__(self, about: TableColumn, width: int) -> None:
        self.about = about
        self.is_named = width == 1 or len(about.names) == width
        if len(about.names) == width:
            self.names = about.names
        else:
            self.names = (about.name,) if width == 1 else tuple(f"{about.name}[{i}]" for i in range(width))
        self.units = (about.units,) * width

    def encode(self, first: Place, values: Values) -> NDArray[Any]:
        if values.is_text:
            there = [] if values.missing is None else values.missing.ravel().tolist()
            if all(there) and there:  # a block in which all is missing
                return np.full(values.array.shape, np.nan)
            raise DataError(f"{first}: column {self.about.name!r} was numbers when it was read first; it has changed")
        return values.array.view(np.uint8) if values.array.dtype.kind == "b" else values.array


class TrueFalse:
    """The words true and false, in any case, as 1 and 0."""

    is_named = as_text = True

    def __init__(self, about: TableColumn) -> None:
        self.about = about
        self.names: tuple[str, ...] = (about.name,)
        self.units: tuple[str, ...] = ("",)

    def encode(self, first: Place, values: Values) -> NDArray[Any]:
        if not values.is_text:
            return Plain(self.about, 1).encode(first, values)
        found = [TRUE_FALSE.get(text.strip().lower(), 2) for text in values.array[:, 0].tolist()]
        numbers = np.array(found, np.uint8)[:, None]
        wrong = numbers > 1 if values.missing is None else (numbers > 1) & ~values.missing
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{first + row}: column {self.about.name!r} is {shown(values.array[row, 0])}, expected true or false"
            )
        return numbers


class OneHot:
    """A column for each value, which is 1 where the row has it, else 0."""

    is_named = as_text = True

    def __init__(self, about: TableColumn, values: Sequence[str], *, whose: str) -> None:
        """`whose`: where these values come from, for messages."""
        self.about, self._whose = about, whose
        self._numbers = {value: i for i, value in enumerate(values)}
        self._texts: dict[bool, dict[str, int]] = {}
        self.names = tuple(f"{about.name}={value}" for value in values)
        self.units = ("",) * len(values)

    def encode(self, first: Place, values: Values) -> NDArray[Any]:
        column = values.array[:, 0]
        missing = np.zeros(len(column), np.bool_) if values.missing is None else values.missing[:, 0]
        if values.is_text:
            known = self._texts.setdefault(first.table.is_text, {})
            texts = column.tolist()
            for text in dict.fromkeys(texts):
                if text not in known:
                    known[text] = self._number(text, written=first.table.is_text)
            which = np.fromiter((known[text] for text in texts), np.int64, len(texts))
        else:
            found, inverse = np.unique(column[~missing], return_inverse=True)
            numbers = [self._numbers.get(value_name(value), -1) for value in found.tolist()]
            which = np.zeros(len(column), np.int64)
            which[~missing] = np.array(numbers, np.int64)[inverse] if len(found) else 0
        unknown = (which < 0) & ~missing
        if unknown.any():
            row = int(unknown.argmax())
            raise DataError(
                f"{first + row}: column {self.about.name!r} is {shown(str(column[row]))}, which is none of the "
                f"values of {self._whose}: {_few(list(self._numbers))}"
            )
        there = np.flatnonzero(~missing)
        encoded = np.zeros((len(column), len(self._numbers)), np.uint8)
        encoded[there, which[there]] = 1
        return encoded

    def _number(self, text: str, *, written: bool) -> int:
        return self._numbers.get(value_name(meant(text) if written else text.strip()), -1)


def value_name(value: Value) -> str:
    """What a value is called in the name of its column: 3 for 3.0 and True as 1."""
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else repr(value)


def is_true_false(values: Mapping[Value, int]) -> bool:
    """Whether all values are the words true and false."""
    return bool(values) and all(isinstance(value, str) and value.lower() in TRUE_FALSE for value in values)


def tally(surveys: Sequence[ColumnSurvey]) -> dict[Value, int]:
    """How often each value occurs in all splits."""
    found: dict[Value, int] = {}
    for survey in surveys:
        for value, count in survey.distinct.tally().items():
            found[value] = found.get(value, 0) + count
    return found


def encoder_of(about: TableColumn, surveys: Mapping[str, ColumnSurvey], learnt: str, *, categorical: bool) -> Encoder:
    """How a column of inputs becomes numbers.

    surveys: of each split; `learnt`: the split whose values are taken for categories.  Raises DataError.
    """
    found = list(surveys.values())
    if categorical or any(survey.has_text for survey in found):
        if any(survey.width > 1 for survey in found):
            raise DataError(f"{found[0].place(0)}: {about.name!r} is {found[0].width} texts a row; expected one")
        values = tally(found)
        if not categorical and is_true_false(values):
            return TrueFalse(about)
        if not categorical:
            _check_is_text(about.name, found, values)
            _check_no_numbers(about.name, found, values)
        return _one_hot(about, surveys, learnt, values, categorical=categorical)
    return Plain(about, max(survey.width for survey in found))


def _check_is_text(name: str, surveys: Sequence[ColumnSurvey], values: Mapping[Value, int]) -> None:
    """Raises DataError where most of a column is numbers: then the text in it is a mistake."""
    numbers = sum(count for value, count in values.items() if not isinstance(value, str) or is_number(value))
    over = any(survey.distinct.is_over for survey in surveys)
    if 2 * numbers <= sum(values.values()) and not over:
        return
    for survey in surveys:
        for value, number in survey.distinct.numbers.items():
            if isinstance(value, str) and not is_number(value):
                place = survey.place(survey.distinct.first[number])
                ways = f" ({why_no_number(value)})" if why_no_number(value) else ""
                ways += "; or leave the column out with --drop, or take each value for a category with --categorical"
                if 2 * numbers > sum(values.values()):
                    raise DataError(f"{place}: column {name!r} is {shown(value)}, expected a number{ways}")
                raise DataError(f"{place}: column {name!r} is text, {_too_many(name)}")


def _check_no_numbers(name: str, surveys: Sequence[ColumnSurvey], values: Mapping[Value, int]) -> None:
    """Raises DataError where all of a column are numbers, though not as they are read: categories would be a guess."""
    texts = [value for value in values if isinstance(value, str) and not is_number(value)]
    reasons = [why_no_number(value) for value in texts]
    if len(values) < 2 or not all("--decimal" in reason or "--thousands" in reason for reason in reasons):
        return
    if not texts and any(survey.is_written for survey in surveys):
        return
    reason = reasons[0] if reasons else "they are numbers that are stored as text: store them as numbers"
    raise DataError(
        f"{surveys[0].place(0)}: column {name!r} is text ({_few(sorted(map(value_name, values)))}); {reason}; or take "
        f"each value for a category with --categorical {quoted(name)}"
    )


def _too_many(name: str) -> str:
    return (
        f"and has too many different values for one column each; leave it out with --drop {quoted(name)}, or take it "
        f"all the same with --categorical {quoted(name)} (at most {MOST_VALUES})"
    )


def _one_hot(
    about: TableColumn,
    surveys: Mapping[str, ColumnSurvey],
    learnt: str,
    values: Mapping[Value, int],
    *,
    categorical: bool,
) -> Encoder:
    name, K, rows = about.name, len({value_name(value) for value in values}), sum(values.values())
    first = next(iter(surveys.values())).place(0)
    over = any(survey.distinct.is_over for survey in surveys.values())
    if categorical and (over or K > MOST_VALUES):
        raise DataError(
            f"{first.table.name}: column {name!r} has {'more than ' * over}{K} different values; --categorical takes "
            f"at most {MOST_VALUES}; leave it out with --drop {quoted(name)}"
        )
    if not categorical and not (K <= 2 or (K <= FEW_VALUES and rows >= ROWS_A_VALUE * K)):
        shown_values = _few(sorted({value_name(value) for value in values}))
        reason = next((why for value in values if (why := why_no_number(value_name(value)))), "")
        mend = f"; {reason}" if reason else ""
        raise DataError(f"{first}: column {name!r} is text ({shown_values}), {_too_many(name)}{mend}")
    known = sorted(surveys[learnt].distinct.numbers, key=lambda value: (isinstance(value, str), value))
    names = tuple(dict.fromkeys(value_name(value) for value in known))
    for split, survey in surveys.items():
        for value, number in survey.distinct.numbers.items():
            if value_name(value) not in names:
                raise DataError(
                    f"{survey.place(survey.distinct.first[number])}: column {name!r} is {shown(value_name(value))} in "
                    f"the split {split}, which the split {learnt} never has; the network could not learn it: leave out "
                    "such rows, or the column with --drop"
                )
    return OneHot(about, names, whose=f"the split {learnt}")


def said(inputs: Sequence[Encoder]) -> list[str]:
    """What was made of text, in words for the user."""
    one_hot = [f"{quoted(one.about.name)} ({len(one.names)})" for one in inputs if isinstance(one, OneHot)]
    flags = [quoted(one.about.name) for one in inputs if isinstance(one, TrueFalse)]
    found = [f"a column for each value of {few(one_hot)}"] if one_hot else []
    return found + ([f"true is 1 and false is 0 in {few(flags)}"] if flags else [])


def _few(values: Sequence[str]) -> str:
    shown_values = [shown(value) for value in values]
    return ", ".join(shown_values if len(shown_values) <= 8 else [*shown_values[:6], "…", shown_values[-1]])
