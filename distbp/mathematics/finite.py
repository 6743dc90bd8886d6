"""Numbers that are none: where the first infinity or NaN is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def first_not_finite(rows: NDArray[Any]) -> int | None:
    """The first row, of shape (N, columns), with a value that is not finite; None where all are."""
    if rows.dtype.kind != "f":
        return None
    bad = ~np.isfinite(rows).all(axis=1)
    return int(bad.argmax()) if bad.any() else None
