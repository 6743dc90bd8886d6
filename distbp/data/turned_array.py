"""Arrays of programs that keep the first axis last: MATLAB, Octave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.plain_array import Index, PlainArray


class TurnedArray:
    """An array with its axes in reverse order."""

    def __init__(self, array: PlainArray) -> None:
        self._array, self.name = array, array.name
        self.shape, self.dtype = array.shape[::-1], array.dtype
        self.chunks = array.chunks[::-1] if array.chunks else None

    def read(self, index: Index) -> NDArray[Any]:
        return np.ascontiguousarray(self._array.read(index[::-1]).T)
