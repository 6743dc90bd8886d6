"""What a caller trains on: the paths of data files, or arrays and frames (x, y)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.given_arrays import Samples
from distbp.errors import DataError, UsageError
from distbp.model.named_columns import named_columns


def paths_of(data: Any) -> list[str] | None:
    """The paths, if data are one or several of them, or None; otherwise None stands for something else."""
    if isinstance(data, str | os.PathLike):
        return [os.fsdecode(data)]
    is_list = isinstance(data, list | tuple) and len(data) > 0
    if is_list and all(isinstance(one, str | os.PathLike) for one in data):
        return [os.fsdecode(one) for one in data]
    return None


def samples_of(data: Any, who: str) -> Samples:
    """The samples of a pair (x, y).  `who` is what the caller calls it.  Raises DataError or UsageError."""
    if not isinstance(data, list | tuple) or len(data) != 2:
        got = f"{len(data)} objects" if isinstance(data, list | tuple) else type(data).__name__
        raise UsageError(f"{who}: expected paths of data files, or arrays (x, y); got {got}")
    x, x_names = _array(data[0], f"{who}: x")
    y, y_names = _array(data[1], f"{who}: y")
    return Samples(x, y, x_names, y_names)


def _array(given: Any, who: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The values, and the names of the columns where they have some.  Raises DataError."""
    if hasattr(given, "toarray"):
        raise DataError(f"{who} is a {type(given).__name__}; expected an array with all its values: x.toarray()")
    is_column = getattr(given, "ndim", None) == 1 and hasattr(given, "to_numpy")  # a pandas.Series
    named = None if is_column else named_columns(given)
    if named:
        return named.array(range(len(named.names)))[0], named.names
    name = getattr(given, "name", None) if is_column else None
    names = (name,) if isinstance(name, str) and name else ()
    return _values(given.to_numpy() if hasattr(given, "to_numpy") else given, who), names


def _values(given: Any, who: str) -> NDArray[Any]:
    """An array of numbers, or of strings as Python objects.  Raises DataError."""
    try:
        array = np.asanyarray(given)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"{who} is no array of numbers or labels: {error}") from None
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        row = int(np.argwhere(np.ma.getmaskarray(array))[0][0])
        raise DataError(f"{who}, row {row}: a value is missing (masked); remove or replace such rows")
    found: NDArray[Any] = np.asarray(array)
    if found.dtype.kind in "US":
        found = found.astype(np.str_).astype(object)
    elif found.dtype.kind == "T":  # NumPy's strings of any length
        found = found.astype(object)
    return _of_objects(found, who) if found.dtype.kind == "O" else found


def _of_objects(array: NDArray[Any], who: str) -> NDArray[Any]:
    """Strings, or the numbers that Python objects are.  Raises DataError."""
    values: Sequence[Any] = array.ravel().tolist()
    if all(isinstance(value, str) for value in values):
        return array
    kinds = (str,) if any(isinstance(value, str) for value in values) else (int, float, np.number, np.bool_)
    for place, value in enumerate(values):
        if not isinstance(value, kinds):
            row = place // max(1, len(values) // max(1, len(array)))
            raise DataError(f"{who}, row {row}: {value!r}; expected numbers, or strings that are labels, in all rows")
    found = np.array(values)
    if found.dtype.kind not in "biuf":
        raise DataError(f"{who}: numbers and strings, or numbers of more than 8 bytes; expected one kind of values")
    return found.reshape(array.shape)
