"""Labels of classes: the integers or strings of a data set that stand for the classes 0 … K-1, in sorted order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = tuple[int, ...] | tuple[str, ...]

SHOWN = 12


def union(found: Iterable[Sequence[Any]]) -> Labels:
    """All labels that were found anywhere, each once."""
    return tuple(sorted({label for some in found for label in some}))


def in_words(labels: Labels) -> str:
    """0 … 9; or 'cat', 'dog', 'mouse'"""
    if list(labels) == list(range(len(labels))):
        return f"0 … {len(labels) - 1}"
    shown = [repr(label) for label in labels]
    return ", ".join(shown if len(shown) <= SHOWN else [*shown[: SHOWN - 2], "…", shown[-1]])


def to_array(labels: Labels) -> NDArray[Any]:
    """For a file: int64, or UTF-8 strings of fixed length."""
    if isinstance(labels[0], int):
        return np.array(labels, np.int64)
    return np.array([str(label).encode() for label in labels])


def from_array(array: NDArray[Any]) -> Labels:
    """What `to_array` has made.  Raises ValueError for anything else."""
    if array.ndim != 1 or not (array.dtype == np.int64 or array.dtype.kind == "S"):
        raise ValueError(f"{array.dtype} {array.shape} are no labels")
    labels = [label.decode() if isinstance(label, bytes) else label for label in array.tolist()]
    if not labels or sorted(set(labels)) != labels:
        raise ValueError("labels are sorted, each once")
    return tuple(labels)
