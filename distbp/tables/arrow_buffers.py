"""The buffers of Arrow's arrays as NumPy arrays.

PyArrow's own conversion imports pandas where it is installed, which takes longer than to read a file of some megabytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def numbers(array: Any, dtype: DTypeLike) -> NDArray[Any]:
    """Of an array of this type: (n,), not to be written to; what stands where it is null means nothing."""
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(data, dtype, len(array), array.offset * np.dtype(dtype).itemsize)


def booleans(array: Any) -> NDArray[np.bool_]:
    """Of an array of Booleans: (n,); what stands where it is null means nothing."""
    data = array.buffers()[1]
    return np.zeros(len(array), bool) if data is None else _bits(data, array.offset, len(array))


def nulls(array: Any) -> NDArray[np.bool_] | None:
    """Where an array is null: (n,); None: nowhere.  Not for arrays of type null, which hold nothing else."""
    return ~_bits(array.buffers()[0], array.offset, len(array)) if array.null_count else None


def _bits(data: Any, start: int, count: int) -> NDArray[np.bool_]:
    """`count` bits from `start` on, the lowest of each byte first."""
    first, last = start // 8, -(-(start + count) // 8)
    packed = np.frombuffer(data, np.uint8, last - first, first)
    bits: NDArray[np.uint8] = np.unpackbits(packed, bitorder="little")[start % 8 :][:count]
    return bits.view(np.bool_)
