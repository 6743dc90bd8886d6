"""Inputs as a user has them become rows of numbers, in the order in which the network knows its inputs."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.counted import counted
from distbp.data.layout import column_order, few
from distbp.errors import DataError
from distbp.mathematics.finite import first_not_finite
from distbp.model.named_columns import named_columns
from distbp.model.variables import Variables

KINDS = frozenset("biuf")
WORDS = {
    "O": "Python objects; expected real numbers, all of a size that NumPy has",
    "c": "complex numbers; expected real numbers",
    "M": "times; expected real numbers",
    "m": "durations; expected real numbers",
}


class Rows(NamedTuple):
    """x, shape (N, n_1).  `is_single` is True if it was one sample without an axis of samples."""

    x: NDArray[Any]
    is_single: bool


def as_rows(x: Any, inputs: Variables) -> Rows:
    """The rows of x.  Raises DataError for anything that does not fit the inputs."""
    if type(x) is np.ndarray and x.dtype.kind in KINDS:  # without a detour for what comes most often
        return _shaped(x, inputs)
    if type(x) is not np.ndarray or x.dtype.names is not None:
        named = named_columns(x)
        if named is not None:
            order = column_order(named.names, inputs.names, "x", "the network was trained on")
            if order is None and len(named.names) != inputs.count:
                raise DataError(
                    f"x has {counted(len(named.names), 'column')} ({few(named.names)}), but the network has "
                    f"{counted(inputs.count, 'input')}"
                )
            return Rows(*named.array(range(inputs.count) if order is None else order))
        x = _array(x)
    if x.dtype.kind not in KINDS:
        raise DataError(f"x holds {WORDS.get(x.dtype.kind, f'values of type {x.dtype}; expected real numbers')}")
    return _shaped(x, inputs)


def _array(x: Any) -> NDArray[Any]:
    """Lists, tuples, numbers, and what else NumPy makes an array of.  Raises DataError."""
    if hasattr(x, "toarray"):
        raise DataError(f"x is a {type(x).__name__}; expected an array with all its values: x.toarray()")
    try:
        array = np.asanyarray(x)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"x is no array of numbers: {error}") from None
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        where = ", ".join(str(axis[0]) for axis in np.nonzero(np.ma.getmaskarray(array)))
        raise DataError(f"x[{where}]: a value is missing (masked); remove or replace such rows")
    return np.asarray(array)


def _shaped(x: NDArray[Any], inputs: Variables) -> Rows:
    """As (N, n_1).  Raises DataError."""
    n, shape = inputs.count, x.shape
    if shape == (n,) and n > 1:
        return Rows(x.reshape(1, n), True)
    if len(shape) == 2 and shape[1] == n:
        return Rows(x, False)
    if x.ndim == 1 and n == 1:
        return Rows(x.reshape(-1, 1), False)
    if x.ndim == 0 and n == 1:
        return Rows(x.reshape(1, 1), True)
    if x.ndim > 2 and prod(x.shape[1:]) == n:
        return Rows(x.reshape(len(x), n), False)
    named = f" ({few(inputs.names)})" if inputs.names else ""
    alone = "; for one sample: x.reshape(1, -1)" if x.ndim > 1 and x.size == n else ""
    raise DataError(
        f"x has the shape {x.shape}, but the network has {counted(n, 'input')}{named}: "
        f"expected (N, {n}) for N samples, {f'({n},)' if n > 1 else '()'} for one, or (N, …) with {n} numbers for each "
        f"sample{alone}"
    )


def check_finite(x: NDArray[Any], inputs: Variables, first: int) -> None:
    """Raises DataError that names the first row and column of x with a value that is not finite.

    `first` is the number of the first of these rows in all of x.
    """
    row = first_not_finite(x)
    if row is None:
        return
    at = int((~np.isfinite(x[row])).argmax())
    column = repr(inputs.names[at]) if inputs.names else f"column {at}"
    raise DataError(f"x, row {first + row}: {x[row, at]} in {column}; remove or replace such rows")
