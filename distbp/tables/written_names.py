"""Names and units of columns, as the attributes `columns` and `units` that a data set carries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.names import quoted
from distbp.errors import DataError

LARGE = 60_000  # bytes: a larger attribute needs the newer of HDF5's ways to store them


def check_different(names: Sequence[str]) -> None:
    """Raises DataError where two inputs have one name."""
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise DataError(f"{count} inputs are called {quoted(name)}; leave out one of the columns with --drop")


def attributes(names: Sequence[str], units: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays of UTF-8 strings of fixed length, one for each column; none where nothing is known."""
    found = {}
    for name, texts in (("columns", names), ("units", units)):
        if any(texts):
            found[name] = np.array([text.encode() for text in texts])
    return found


def are_large(names: Sequence[str], units: Sequence[str]) -> bool:
    """Whether an attribute is too large for the older of HDF5's ways to store them."""
    return any(array.nbytes > LARGE for array in attributes(names, units).values())
