"""Which columns of a table are the inputs and which the labels or targets, where the user has not named them.

The same rule for `distbp train`, `distbp import` and `distbp inspect`:

    y: the column called y; otherwise the only one called label, labels, target, targets or class, in any case
    x: the column called x; otherwise all others that are data
    no data: what the file shows to be something else (a dimension without values, …); an index that a program has saved
       with the data (a column without a name, `Unnamed: 0` and `__index_level_0__` of pandas); and sample_weight

Where x and y hold one number a row each and other such columns are beside them, however long, they may be coordinates,
and the user is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distbp.counted import counted
from distbp.data.names import quoted
from distbp.data.parts_of_names import by_part
from distbp.errors import UsageError

LABEL_NAMES = ("y", "label", "labels", "target", "targets", "class")
WEIGHTS = ("sample_weight", "sample_weights")
INDEX = re.compile(r"\s*|Unnamed: [0-9]+(_level_[0-9]+)?|__index_level_[0-9]+__")
SHOWN = 20


@dataclass(frozen=True)
class Candidate:
    """A column: `not_data`, why it is no input unless it is named, or ""; `is_single`: it holds one number a row.

    `rows`: how many there are, None where that is not known before it is read.
    """

    name: str
    not_data: str = ""
    is_single: bool = True
    rows: int | None = None


@dataclass(frozen=True)
class Choice:
    """The names of the inputs, and of the labels or targets; and of those that are neither, each with the reason."""

    x: tuple[str, ...]
    y: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    def left_out_in_words(self) -> str:
        """'id (not x), time (dimension scale)', or "" where nothing was left out."""
        shown = [f"{quoted(name)} ({why})" for name, why in self.left_out]
        return ", ".join(shown if len(shown) <= SHOWN else [*shown[: SHOWN - 2], "…", shown[-1]])


def no_data_by_name(name: str) -> str:
    """Why a column is no input unless the user names it, as far as its name says it; or ""."""
    if INDEX.fullmatch(name):
        return "an index" if name.strip() else "a column without a name, an index"
    return "weights of the samples" if name.lower() in WEIGHTS else ""


def is_meant(name: str) -> bool:
    """Whether a column of this name is x or y, so that it is refused and not left out where it cannot be used."""
    return name == "x" or name.lower() in LABEL_NAMES


def choose(
    where: str,
    candidates: Sequence[Candidate],
    x: Sequence[str] = (),
    y: Sequence[str] = (),
    drop: Sequence[str] = (),
    *,
    unlabelled: bool = False,
) -> Choice:
    """The columns that are taken.  `x`, `y`, `drop`: what the user has named; `unlabelled`: there is to be no y.

    `where` names the table in messages.  Raises UsageError where that cannot be said without a guess, or where names
    contradict one another.
    """
    names = [one.name for one in candidates]
    candidates = [replace(one, not_data=one.not_data or no_data_by_name(one.name)) for one in candidates]
    check_given(x, y, drop)
    unknown = next((name for name in drop if name not in names), None)
    if unknown is not None:
        raise UsageError(f"--drop: {where} has no column {quoted(unknown)}; it has {words(names)}")
    data = [one for one in candidates if not one.not_data and one.name not in drop]
    targets = () if unlabelled else tuple(y) or (_target(where, data, names),)
    check_given(x, targets, drop)
    if not x and not y and not unlabelled:
        _check_coordinates(where, data, targets[0])
    whatever_length = tuple(one.name for one in data if one.name not in targets)
    candidates = _of_one_length(candidates, targets)
    data = [one for one in candidates if not one.not_data and one.name not in drop]
    inputs = tuple(x)
    if not inputs and "x" in whatever_length:  # whoever looks at it says more about rows that are not as many
        inputs = ("x",)
    why = "not named" if x else "x is there" if inputs else ""
    inputs = inputs or tuple(one.name for one in data if one.name not in targets)
    inputs = inputs or whatever_length
    if not inputs:
        there = _all(candidates)
        raise UsageError(f"{where}: no column is left for the inputs beside {words(targets)}; there are {there}")
    left_out = [
        (one.name, "--drop" if one.name in drop else one.not_data or why)
        for one in candidates
        if one.name not in (*inputs, *targets)
    ]
    return Choice(inputs, targets, tuple(left_out))


def _all(candidates: Sequence[Candidate]) -> str:
    """All columns, with the reason why one is no data."""
    shown = [quoted(one.name) + (f" ({one.not_data})" if one.not_data else "") for one in candidates]
    return ", ".join(shown if len(shown) <= SHOWN else [*shown[: SHOWN - 2], "…", shown[-1]]) or "none"


def _of_one_length(candidates: Sequence[Candidate], targets: Sequence[str]) -> list[Candidate]:
    """The columns; those that have another number of rows than the targets are marked."""
    rows = next((one.rows for one in candidates if one.name in targets and one.rows is not None), None)
    return [
        replace(one, not_data=f"{counted(one.rows or 0, 'row')}, {targets[0]} has {rows}")
        if rows is not None and one.rows not in (None, rows) and not one.not_data
        else one
        for one in candidates
    ]


def words(names: Sequence[str]) -> str:
    """Names as they can be given to an option, with commas between them; not all where they are many."""
    shown = [quoted(name) for name in (names if len(names) <= SHOWN else [*names[: SHOWN - 2], names[-1]])]
    return ", ".join(shown if len(names) <= SHOWN else [*shown[:-1], "…", shown[-1]])


def check_given(x: Sequence[str], y: Sequence[str], drop: Sequence[str] = ()) -> None:
    """Raises UsageError where the names that were given contradict one another."""
    for option, given in (("--x", x), ("--y", y), ("--drop", drop)):
        twice = next((name for i, name in enumerate(given) if name in given[:i]), None)
        if twice is not None:
            raise UsageError(f"{option}: {quoted(twice)} stands twice; each column is taken once")
    both = next((name for name in x if name in y), None)
    if both is not None:
        raise UsageError(
            f"{quoted(both)} is in --x and in --y: what is to be learnt would be an input; leave it out of one of them"
        )
    for option, given in (("--x", x), ("--y", y)):
        dropped = next((name for name in given if name in drop), None)
        if dropped is not None:
            raise UsageError(f"{quoted(dropped)} is in --drop and in {option}; leave it out of one of them")


def _target(where: str, data: Sequence[Candidate], names: Sequence[str]) -> str:
    """The one column whose name says that it is the labels or targets."""
    found = [one.name for one in data if one.name == "y"]
    found = found or [one.name for one in data if one.name.lower() in LABEL_NAMES]
    if len(found) != 1:
        of_parts = ", ".join(by_part(names))
        advice = f"; if these are the parts {of_parts}, distbp import makes a split of each" if of_parts else ""
        there = words(names) or "none"
        raise UsageError(
            f"{where}: which column has the labels or targets? Name it with --y; there are {there}{advice}"
        )
    return found[0]


def _check_coordinates(where: str, data: Sequence[Candidate], target: str) -> None:
    """Raises UsageError where x and y may be two of several coordinates or quantities."""
    by_name = {one.name: one for one in data}
    if "x" not in by_name or target != "y" or not (by_name["x"].is_single and by_name["y"].is_single):
        return
    others = [one.name for one in data if one.name not in ("x", "y")]
    if others:  # also of another length, as the third of three axes has
        raise UsageError(
            f"{where}: x and y hold one number a row each, and beside them are {words(others)}: they may be "
            "coordinates. Say what is to be learnt from what, such as --x x --y y"
        )
