"""Which columns are inputs, which are labels or targets, and which are left out and why.

Where x is there, and is more than one number or stands alone beside y, it is x and y.  Otherwise all columns are inputs
but y, what the reader knows not to be data, an index that a program has saved with the data (a column without a name,
or `Unnamed: 0` and `__index_level_0__`, which is what pandas calls it), and sample_weight.  Nothing else is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from distbp.counted import counted
from distbp.data.choice import LABEL_NAMES, no_data_by_name
from distbp.data.names import Name, parse, quoted
from distbp.errors import DataError, UsageError
from distbp.tables.like import Like
from distbp.tables.table import Table, TableColumn

MOST_SHOWN = 20

Word = str | Name  # how a user names a column


@dataclass(frozen=True)
class Asked:
    """What the user has said about columns.  `tests`: those that say which rows are for testing, with their option."""

    x: tuple[Word, ...] = ()
    y: tuple[Word, ...] = ()
    drop: tuple[Word, ...] = ()
    categorical: tuple[Word, ...] = ()
    tests: tuple[tuple[str, str], ...] = ()
    unlabelled: bool = False
    like: Like | None = None


@dataclass(frozen=True)
class Choice:
    """Names of columns.  `tests` need not be inputs; `left`: name and reason of each that is left out."""

    x: tuple[TableColumn, ...]
    y: tuple[TableColumn, ...]
    tests: tuple[str, ...]
    categorical: frozenset[str]
    left: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """'inputs: a, b; y: c; left out: d (--drop)'"""
        words = [f"inputs: {few([quoted(column.name) for column in self.x])}"]
        if self.y:
            words.append(f"y: {few([quoted(column.name) for column in self.y])}")
        if self.left:
            words.append(f"left out: {few([f'{quoted(name)} ({why})' for name, why in self.left])}")
        return "; ".join(words)


def few(names: Sequence[str]) -> str:
    """Names in a line; of more than 20 the first and the last ones, and how many there are."""
    if len(names) <= MOST_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: MOST_SHOWN - 2])}, … {names[-1]} ({len(names)} in all)"


def choose(table: Table, labels: Table | None, asked: Asked) -> Choice:
    """The columns to take.  table: the first of the sources; `labels`: the first of those of --y-from.

    Raises UsageError where the user has to say more, DataError where a column is not there.
    """
    named = _found(table, asked.x, "--x")  # what is wrong with these is said first
    drop = _found(table, asked.drop, "--drop")
    categorical = _found(table, asked.categorical, "--categorical")
    left = {column.name: "--drop" for column in drop}
    y = _labels(table, labels, asked, left)
    own = frozenset(column.name for column in y) if labels is None else frozenset()
    x = _inputs(table, asked, named, own, left, separate=labels is not None)
    taken = frozenset(column.name for column in x)
    both = [column.name for column in drop if column.name in taken | own]
    if both:
        raise UsageError(f"--drop {quoted(both[0])}: is named as --x or --y too; take it out of one of them")
    stray = [column.name for column in categorical if column.name not in taken]
    if stray:
        raise UsageError(f"--categorical {quoted(stray[0])}: is not among the inputs; take it out, or name it in --x")
    return Choice(
        x if named else tuple(table.column(column.name) for column in x),
        tuple((labels or table).column(column.name) for column in y),
        tuple(dict.fromkeys(name for name, _ in asked.tests)),
        frozenset(column.name for column in categorical),
        tuple((name, why) for name, why in left.items() if name not in taken | own),
    )


def _found(table: Table, words: Sequence[Word], option: str) -> tuple[TableColumn, ...]:
    """The columns that the user names.  Raises DataError where there is none, UsageError where one is named twice."""
    known = {column.name: column for column in table.columns}
    found = []
    for word in words:
        is_quoted = isinstance(word, Name) and word.quoted
        if is_quoted and str(word) not in known:
            raise DataError(f"{table.name}: no column {str(word)!r}; it has {few([quoted(name) for name in known])}")
        found.append(table.column(str(word)))
    name, count = Counter(column.name for column in found).most_common(1)[0] if found else ("", 0)
    if count > 1:
        raise UsageError(f"{option}: names {quoted(name)} {count} times; name each column once")
    return tuple(found)


def _labels(table: Table, labels: Table | None, asked: Asked, left: dict[str, str]) -> tuple[TableColumn, ...]:
    """The columns with the labels or targets."""
    if asked.unlabelled:
        return ()
    source = labels or table
    if asked.y:
        return _found(source, asked.y, "--y")
    if asked.like is not None and asked.like.y:
        return asked.like.targets(source)
    candidates = _data(source, left)
    named = [column for column in candidates if column.name.lower() in LABEL_NAMES]
    if labels is not None:
        return tuple(named if len(named) == 1 else candidates)
    x = [column for column in candidates if column.name.lower() == "x"]
    y = [column for column in named if column.name.lower() == "y"]
    if len(x) == len(y) == 1:
        others = [column.name for column in candidates if column.name.lower() not in ("x", "y")]
        if others and not is_array(table, x[0]):
            raise _coordinates(table, others)
        return tuple(y)
    if len(named) != 1:
        raise UsageError(
            f"{table.name}: which column has the labels or targets? Name it with --y; there are "
            f"{few([_with_reason(column) for column in table.columns])}"
        )
    return tuple(named)


def _with_reason(column: TableColumn) -> str:
    """A column, and why it is not data."""
    return f"{quoted(column.name)} ({column.not_data})" if column.not_data else quoted(column.name)


def _coordinates(table: Table, others: Sequence[str]) -> UsageError:
    return UsageError(
        f"{table.name}: x and y stand beside {few([quoted(name) for name in others])}, and each has one number a row: "
        "they may be coordinates; name the inputs with --x, and the labels or targets with --y"
    )


def _inputs(
    table: Table,
    asked: Asked,
    named: tuple[TableColumn, ...],
    y: frozenset[str],
    left: dict[str, str],
    *,
    separate: bool,
) -> tuple[TableColumn, ...]:
    """The columns that are inputs: those that were `named`, or others; why others are not goes to `left`.

    y: names of the columns with the labels or targets; `separate`: these are in another table.
    """
    x: tuple[TableColumn, ...]
    if named:
        x, why = named, "not in --x"
        both = [column.name for column in x if column.name in y]
        if both:
            raise UsageError(f"{quoted(both[0])} is in --x and in --y; the network would learn its own input")
    elif asked.like is not None:
        x, why = asked.like.inputs(table), f"no input of {asked.like.name}"
    else:
        x, why = _default(table, asked, y, left, separate=separate)
    partly = [(word if isinstance(word, Name) else Name(word)).path for word in (*asked.x, *asked.y)]
    taken = y | {column.name for column in x}
    for column in table.columns:
        if column.name not in taken and not any(fnmatchcase(column.name, path) for path in partly):
            left.setdefault(column.name, column.not_data or why)
    if not x:
        beside = f" beside {few([quoted(name) for name in y])}" if y else ""
        others = [f"{quoted(name)} ({why})" for name, why in left.items() if name not in y]
        there = f"; there are {few(others)}" if others else ""
        raise DataError(f"{table.name}: no column is left for the inputs{beside}{there}")
    return x


def _default(
    table: Table, asked: Asked, y: frozenset[str], left: dict[str, str], *, separate: bool
) -> tuple[tuple[TableColumn, ...], str]:
    """The inputs where the user has not said which, and why other columns are not."""
    for name, option in asked.tests:
        left.setdefault(name, option)
    candidates = _of_one_length(table, [column for column in _data(table, left) if column.name not in y], y, left)
    unclear = [column for column in candidates if column.name.lower() in LABEL_NAMES]
    x = [column for column in candidates if column.name.lower() == "x"]
    is_x = len(x) == 1 and (candidates == x or is_array(table, x[0]))
    if is_x:
        return tuple(x), f"{quoted(x[0].name)} is there"
    if unclear and asked.unlabelled:
        for column in unclear:
            left[column.name] = "--unlabelled"
        candidates = [column for column in candidates if column.name not in left]
    elif unclear and separate:
        raise UsageError(
            f"{table.name}: has {few([quoted(column.name) for column in unclear])}, and --y-from is there too; if it "
            "is an input, name all of them with --x, if not, leave it out with --drop"
        )
    return tuple(candidates), ""


def _of_one_length(
    table: Table, candidates: list[TableColumn], y: frozenset[str], left: dict[str, str]
) -> list[TableColumn]:
    """Those with as many rows as y; why others are no inputs goes to `left`.

    What is called x is kept, and all where none is left: the reader says more about rows that are not as many.
    """
    target = next((column for column in table.columns if column.name in y and column.rows is not None), None)
    if target is None:
        return candidates
    others = [one for one in candidates if one.rows not in (None, target.rows) and one.name.lower() != "x"]
    if len(others) == len(candidates):
        return candidates
    left.update({one.name: f"{counted(one.rows or 0, 'row')}, where {target.name} has {target.rows}" for one in others})
    return [one for one in candidates if one not in others]


def _data(table: Table, left: dict[str, str]) -> list[TableColumn]:
    """The columns that are data, as far as is known; why others are not goes to `left`."""
    for column in table.columns:
        why = column.not_data or no_data_by_name(column.name)
        if why:
            left.setdefault(column.name, why)
    return [column for column in table.columns if column.name not in left]


def is_array(table: Table, column: TableColumn) -> bool:
    """Whether a column has more than one number a row."""
    if table.is_text:
        return False
    first = next(iter(table.blocks([column.name])), None)
    if first is None:
        raise DataError(f"{table.name}: has no rows; a split needs at least one sample")
    return bool(first[0].array.shape[1] > 1)


def words(text: str, option: str) -> tuple[Name, ...]:
    """The value of an option that may be left out.  Raises DataError."""
    return parse(text, option) if text else ()
