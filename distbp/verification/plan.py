"""Which parts of a run are repeated: all of it, some segments by lot, or those that a bisection needs.

A segment leads from a line of audit.csv whose checkpoint is kept to the next such line.  The first line counts as kept,
for the first weights follow from the seed; and the last segment ends with the last line.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

from distbp.training.chain import Line

Segment = tuple[int, int]  # the places of its first and last line


def segments_of(lines: Sequence[Line], kept: Collection[int]) -> list[Segment]:
    """All segments, in order; `kept`: the steps of the checkpoints that can be used."""
    last = len(lines) - 1
    ends = sorted({0, last, *(place for place, line in enumerate(lines) if line.step in kept)})
    return list(pairwise(ends))


def drawn(count: int, segments: int, seed: int) -> list[int]:
    """The places of `segments` of `count` segments, each at most once, in order.

    If s segments are drawn, and a share f of all is false, one of these is among them with a probability of at least
    1 - (1 - f)^s.
    """
    return sorted(random.Random(seed).sample(range(count), min(count, segments)))


def bisected(count: int, is_true: Callable[[int], bool]) -> int | None:
    """The first false one of `count` segments, if all that follow it are false as well; None if the last one is true.

    It asks for at most ⌈log₂ count⌉ + 1 segments.  In any case the one that is returned is false, and the one before it
    is true or does not exist.
    """
    if is_true(count - 1):
        return None
    true, false = -1, count - 1
    while false - true > 1:
        middle = (true + false) // 2
        if is_true(middle):
            true = middle
        else:
            false = middle
    return false
