"""Rows as the data hold them become numbers of the computation: converted and scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.scaling import Scaling


class ScaledRows:
    """(value - shift) · (1 / spread) for rows of dtype `source`, in `dtype`."""

    def __init__(self, scaling: Scaling, source: np.dtype[Any], dtype: DTypeLike) -> None:
        self.is_scaled = not scaling.is_none
        # The shift is subtracted in a type that holds the source exactly: 1e9 + 0.1 must not be rounded before it.
        wide = np.result_type(source, np.dtype(dtype))
        self._dtype = np.dtype(dtype)
        self._shift = scaling.shift.astype(wide)
        self._factor = (1.0 / scaling.spread).astype(dtype)

    def fill(self, rows: NDArray[Any], out: NDArray[Any]) -> None:
        """Fills `out` from `rows`; both have the shape (m, columns), and may be the same array."""
        if self.is_scaled:
            np.subtract(rows, self._shift, out, casting="same_kind")
            np.multiply(out, self._factor, out)
        elif rows is not out:
            np.copyto(out, rows, casting="unsafe")

    def is_copy(self, rows: NDArray[Any]) -> bool:
        """Whether `fill` would only copy rows that lie in memory as the result does."""
        return not self.is_scaled and rows.dtype == self._dtype and rows.flags.c_contiguous and rows.flags.aligned
