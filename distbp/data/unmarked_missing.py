"""Values that may say "no value" though nothing in the file says so: the least integer of a type, and labels like nan.

R writes the least number of int32 and of int64 for NA, without a mark (package hdf5r), and so does NumPy for a time
that is not known.  That is told, not decided: it could be data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from distbp.data.labels import in_words
from distbp.data.missing_words import MISSING_WORDS
from distbp.data.scaling import Scaling, extremes_of
from distbp.data.split import Split
from distbp.ranks.communicator import Communicator
from distbp.ranks.stop import Pulse

LEAST = tuple(int(np.iinfo(kind).min) for kind in (np.int32, np.int64))
ADVICE = "the least number of its type, which R and others write for a missing value; if it is one, leave out such rows"


def unmarked_missing(comm: Communicator, data: Split, scaling: Scaling, pulse: Pulse = lambda phase: None) -> list[str]:
    """A sentence for each thing that was found in the inputs and labels of a split; `scaling`: that of the inputs.

    All ranks call this, and get the same.  Raises DataError, agreed, for rows that cannot be read.
    """
    found = list(about_labels(data.labels or (), data.where("y") if data.layout.y_name else ""))
    columns = _suspects(data, scaling)
    if columns:
        low = (data.extremes.get("x") or extremes_of(comm, data.rows("x"), pulse)).low
        found += [
            f"{data.where('x')}: {data.layout.column_name('x', at)} has {least}, {ADVICE}"
            for at, least in columns
            if low[at] == least
        ]
    return found if len(found) <= 5 else [*found[:4], f"{len(found) - 4} more columns have such values"]


def about_labels(labels: Sequence[int | str], where: str) -> Iterator[str]:
    """What is odd about the labels of classes."""
    for least in LEAST:
        if least in labels and len(labels) > 1:
            yield f"{where}: a class is {least}, {ADVICE}"
    words = tuple(str(label) for label in labels if label in MISSING_WORDS)
    if words:
        yield (
            f"{where}: a class is {in_words(words)}; if that means that the label is missing, leave out such rows: "
            "distbp import --on-missing drop"
        )


def _suspects(data: Split, scaling: Scaling) -> list[tuple[int, int]]:
    """Columns of x that are stored as such integers and could reach the least one, by their mean and spread."""
    found, at = [], 0
    for column in data.layout.parts[0].x:
        dtype = np.dtype(column.dtype)
        if dtype.kind == "i" and (least := int(np.iinfo(dtype).min)) in LEAST and not column.is_decoded:
            found += [(place, least) for place in range(at, at + column.width)]
        at += column.width
    if scaling.is_none or "x" in data.layout.order:
        return found
    reach = scaling.shift - scaling.spread * np.sqrt(len(data))  # no value of N is further from their mean
    return [(at, least) for at, least in found if reach[at] <= least]
