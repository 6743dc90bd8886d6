"""Labels or targets? What integers and floating-point numbers look like, from their distinct values alone.

Integers are labels of classes, unless they look like quantities; floats are targets, unless they look like labels.
Where a column looks like the other thing, nothing is assumed: `--task classes` or `--task targets` says what it is.

Integers look like quantities if there are more than 2 distinct ones, and one of these holds:

    1. more than half of the distinct values are those of one or two samples             (prices, identifiers)
    2. there are fewer than 10 samples for each on average, and gaps: max - min + 1 > 2K (dates, counts)
    3. there are more than 1000 of them
    4. there are more than 20 of them, and the least is neither 0 nor 1                  (years, ages)
    5. there are more than 20 of them, and a fifth are those of one or two samples       (rings of a shell, rentals)

At most 10 that count from 0 or 1 without a gap are labels, however few samples there are.  Floats look like labels if
there are at most 20 distinct ones, all of them whole, between -100 and 100.  So iris (3 classes of 50), digits (10 of
about 180), wine quality (7, from 3 to 9), letters (26 from 0) and CIFAR-100 are labels; the rings of abalone (28
values, 7 of them of one or two samples), ages from 17 to 90, years, and house values in hundreds of dollars are asked
about.  Ages from 0 that all occur often cannot be told from 100 classes: they are taken for labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FEW_SAMPLES = 2
SAMPLES_A_CLASS = 10
MOST_CLASSES = 1000
MANY_CLASSES = 20
SURELY_CLASSES = 10
MOST_FLOAT_LABELS = 20
LARGEST_FLOAT_LABEL = 100


def looks_like_quantities(counts: Mapping[int, int]) -> str:
    """Why integers look like quantities, in words that follow their name; "" if they look like labels.

    `counts`: of each distinct integer the number of samples that have it.
    """
    K, N = len(counts), sum(counts.values())
    if K <= 2:
        return ""
    low, high = min(counts), max(counts)
    if low in (0, 1) and high - low + 1 == K and K <= SURELY_CLASSES:
        return ""
    rare = sum(1 for count in counts.values() if count <= FEW_SAMPLES)
    found = f"has {K} different whole numbers from {low} to {high} in {N} rows"
    if 2 * rare > K or (K > MANY_CLASSES and 5 * rare >= K):
        return f"{found}, {rare} of them in one or two rows only"
    if N < SAMPLES_A_CLASS * K and high - low + 1 > 2 * K:
        return f"{found}, with gaps between them, and fewer than {SAMPLES_A_CLASS} rows for each"
    if K > MOST_CLASSES or (K > MANY_CLASSES and low not in (0, 1)):
        return found
    return ""


def looks_like_labels(values: Iterable[float]) -> bool:
    """Whether the distinct values of a floating-point column are few, small and whole."""
    found: set[float] = set()
    for value in values:
        if not (abs(value) <= LARGEST_FLOAT_LABEL and value == int(value)):
            return False
        found.add(value)
        if len(found) > MOST_FLOAT_LABELS:
            return False
    return bool(found)
