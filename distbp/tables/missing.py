"""Missing values: refused, left out with their rows, or replaced by the mean of the training rows; for all formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distbp.counted import counted
from distbp.data.names import parse, quoted
from distbp.data.unmarked_missing import ADVICE
from distbp.errors import DataError
from distbp.tables.choice import few
from distbp.tables.survey import ColumnSurvey

POLICIES = ("refuse", "drop", "mean")


def check_finite(surveys: Sequence[ColumnSurvey]) -> None:
    """Raises DataError where a value is infinite, whatever the policy."""
    for survey in surveys:
        if survey.infinite is not None:
            raise DataError(
                f"{survey.infinite}: not finite: column {survey.name!r} is infinite there; remove or replace such rows"
            )


def check_missing(
    inputs: Sequence[ColumnSurvey], others: Sequence[ColumnSurvey], policy: str, *, is_named: bool
) -> None:
    """Raises DataError where values are missing that the policy does not allow to be.

    inputs: of all splits; `others`: of labels, targets, and columns that say which rows are for testing.  `is_named`:
    whether the user has named the inputs.
    """
    if policy == "drop":
        return
    found = [survey for survey in ([*inputs, *others] if policy == "refuse" else others) if survey.missing]
    ways = "leave out such rows with --on-missing drop"
    if any(survey in inputs for survey in found):
        column = "such a column by not naming it in --x" if is_named else "such a column with --drop NAME"
        ways += f", or {column}, or take the mean of the column with --on-missing mean"
    elif policy == "mean":
        ways = f"a label, a target or a mark of a test row has no mean: {ways}"
    if found:
        raise DataError(f"values are missing: {'; '.join(_counted(survey) for survey in found[:10])}; {ways}")


def unmarked(surveys: Sequence[ColumnSurvey]) -> list[str]:
    """Columns that have the least integer of their type: nothing says that it means no value, but R writes it so."""
    found = [
        f"warning: {quoted(survey.name)} has {least}, {ADVICE} ({counted(count, 'value')}, the first in {place})"
        for survey in surveys
        if survey.least
        for place, least, count in [survey.least]
    ]
    return found if len(found) <= 5 else [*found[:4], f"warning: and {len(found) - 4} more such columns"]


def _counted(survey: ColumnSurvey) -> str:
    places = " and ".join(map(str, survey.places))
    values = "value" if survey.missing == 1 else "values"
    return f"{quoted(survey.name)}: {survey.missing} {values} ({'the first in ' * (survey.missing > 1)}{places})"


def dropped(rows: Mapping[str, int], surveys: Sequence[ColumnSurvey]) -> str:
    """How many rows of each split are left out, in words; "" if none is."""
    some = {split: count for split, count in rows.items() if count}
    if not some:
        return ""
    names = list(dict.fromkeys(quoted(survey.name) for survey in surveys if survey.missing))
    counts = ", ".join(f"{counted(count, 'row')} of {split}" for split, count in some.items())
    return f"left out for missing values: {counts} (in {few(names)})"


def words_of(option: str) -> tuple[str, ...]:
    """The value of --missing-words: words with commas between, in quotes where they have one; nothing is one too."""
    return ("", *(str(name) for name in parse(option, "--missing-words"))) if option.strip(" ,") else ("",)
