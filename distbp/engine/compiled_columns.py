"""How the compiled step reads rows of numbers: their type, and how they are scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.scaling import Scaling
from distbp.engine.native.plan import TYPES, ColumnsPlan


def columns_plan(
    source: np.dtype[Any], scaling: Scaling, dtype: np.dtype[Any]
) -> tuple[ColumnsPlan, list[NDArray[Any]]]:
    """The plan for rows of type `source` that become numbers of type `dtype`, and the arrays that it points to.

    The shift is subtracted in a type that holds the source exactly, as `ScaledRows` does it.
    """
    plan = ColumnsPlan(type=TYPES.index(source.str[1:]), width=len(scaling.shift))
    if scaling.is_none:
        return plan, []
    shift = np.array(scaling.shift.astype(np.result_type(source, dtype)), order="C")
    factor = np.array((1.0 / scaling.spread).astype(dtype), order="C")
    plan.shift, plan.factor = shift.ctypes.data, factor.ctypes.data
    return plan, [shift, factor]


def is_known(source: np.dtype[Any]) -> bool:
    """Whether the compiled step reads values of this type where they lie."""
    return source.isnative and source.str[1:] in TYPES


def nearest_known(source: np.dtype[Any]) -> np.dtype[Any]:
    """The type to which real numbers of any type are converted before the compiled step reads them."""
    native = source.newbyteorder("=")
    if native.str[1:] in TYPES:
        return native
    return np.dtype({"?": np.uint8, "I": np.int64, "L": np.float64}.get(native.char, np.float64))
