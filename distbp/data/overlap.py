"""Names that take the same numbers of an array: what is to be learnt would be an input, or an input counted twice."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

from distbp.data.layout import Column, Layout
from distbp.data.selection import Selection
from distbp.errors import UsageError


@dataclass(frozen=True)
class Taken:
    """What a name takes: `selection` of the array `array`."""

    name: str
    array: Hashable
    selection: Selection


def check_overlap(layout: Layout) -> None:
    """See `check_taken`, for the columns of a split."""
    x, y = (
        [Taken(one.name, (one.alias or one.dataset, one.field), _selection(one)) for one in columns if not one.constant]
        for columns in (layout.parts[0].x, layout.parts[0].y)
    )
    check_taken(x, y)


def check_taken(x: Sequence[Taken], y: Sequence[Taken]) -> None:
    """Raises UsageError where two names take the same numbers of an array, in one and the same sample.

    A step in time and the one behind it, as in x[:, :-1] and x[:, 1:] along the samples, are different numbers.
    """
    arrays: dict[Hashable, list[tuple[Taken, bool]]] = {}
    for one, is_y in (*((one, False) for one in x), *((one, True) for one in y)):
        arrays.setdefault(one.array, []).append((one, is_y))
    pairs = (pair for taken in arrays.values() for pair in combinations(taken, 2))
    for (one, of_y), (other, is_y) in pairs:
        if not _overlap(one.selection, other.selection):
            continue
        if is_y and not of_y:
            why = "what is to be learnt would be an input; leave it out of one of them"
            raise UsageError(f"{one.name} in --x and {other.name} in --y have numbers in common: {why}")
        option = "--y" if of_y else "--x"
        raise UsageError(f"{option}: {one.name} and {other.name} have numbers in common; take each once")


def _overlap(a: Selection, b: Selection) -> bool:
    if a.samples != b.samples:
        return False  # not the same samples
    return all(
        entry == b.index[axis] if axis in a.samples else _meet(entry, b.index[axis])
        for axis, entry in enumerate(a.index)
    )


def _selection(column: Column) -> Selection:
    """What of the array a column is, also where it is all of it."""
    whole = tuple(slice(0, length, 1) for length in (column.rows, *column.shape))
    return column.selection or Selection(whole, (0,))


def _meet(one: int | slice, other: int | slice) -> bool:
    """Whether two entries of an index have a place of the axis in common."""
    a, b = _range(one), _range(other)
    return any(place in b for place in a)


def _range(entry: int | slice) -> range:
    """The places that it stands for."""
    return range(entry, entry + 1) if isinstance(entry, int) else range(entry.start, entry.stop, entry.step)
