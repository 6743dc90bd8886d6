"""Names and units of columns as they stand in files: arrays of UTF-8 strings of a fixed length, one for each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encoded(texts: Sequence[str]) -> NDArray[Any]:
    """Shape (columns,), dtype S…; also for names that are empty or very long."""
    return np.array([text.encode() for text in texts], dtype=f"S{max(1, *(len(text.encode()) for text in texts))}")


def decoded(array: NDArray[Any]) -> tuple[str, ...]:
    """The texts.  Raises ValueError where it is no array of such strings."""
    if array.ndim != 1 or array.dtype.kind != "S":
        raise ValueError(f"{array.dtype} {array.shape} are no names")
    return tuple(text.decode() for text in array.tolist())
