"""Names that take the same numbers of an array: what is to be learnt would be an input, or an input counted twice."""

from __future__ import annotations

from itertools import combinations

from distbp.data.layout import Column, Layout
from distbp.data.selection import Selection
from distbp.errors import UsageError


def check_overlap(layout: Layout) -> None:
    """Raises UsageError where two columns of a split have numbers of one array in common, in one and the same sample.

    A step in time and the one behind it, as in x[:, :-1] and x[:, 1:] along the samples, are different numbers.
    """
    part = layout.parts[0]
    arrays: dict[tuple[str, str | None], list[Column]] = {}
    for column in part.columns:
        if column.constant is None:
            arrays.setdefault((column.dataset, column.field), []).append(column)
    for one, other in (pair for columns in arrays.values() for pair in combinations(columns, 2)):
        if _overlap(one, other):
            if one in part.x and other in part.y:
                why = "what is to be learnt would be an input; leave it out of one of them"
                raise UsageError(f"{one.name} in --x and {other.name} in --y have numbers in common: {why}")
            option = "--x" if one in part.x else "--y"
            raise UsageError(f"{option}: {one.name} and {other.name} have numbers in common; take each once")


def _overlap(one: Column, other: Column) -> bool:
    a, b = _selection(one), _selection(other)
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
