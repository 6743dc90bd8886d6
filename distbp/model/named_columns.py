"""Columns with names: frames of pandas and Polars, tables of Arrow, xarray, structured arrays, and dictionaries.

None of these libraries is imported.  An object is known by what it offers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError


@dataclass(frozen=True)
class NamedColumns:
    """Columns that have names.  `column(i)` returns the values of a column, one for each sample."""

    names: tuple[str, ...]
    column: Callable[[int], Any]

    def array(self, order: Sequence[int]) -> tuple[NDArray[Any], bool]:
        """The columns in this order, shape (N, columns), and True if there is one sample without an axis of samples.

        The dtype is one that holds all columns.  Raises DataError for columns that hold no numbers.
        """
        columns = [_numbers(self.column(i), self.names[i]) for i in order]
        shapes = {column.shape for column in columns}
        if len(shapes) > 1 or len(next(iter(shapes))) > 1:
            found = ", ".join(f"{self.names[i]} {column.shape}" for i, column in zip(order, columns, strict=True))
            raise DataError(f"x: expected columns of one length, with a number for each sample; got {found[:400]}")
        return np.stack([np.atleast_1d(column) for column in columns], axis=1), next(iter(shapes)) == ()


def named_columns(x: Any) -> NamedColumns | None:
    """The columns of an object whose columns have names; None for any other."""
    if isinstance(x, np.ndarray | np.void):
        fields = x.dtype.names
        return NamedColumns(fields, lambda i: x[fields[i]]) if fields else None
    if isinstance(x, Mapping) and not hasattr(x, "data_vars"):
        names, columns = [str(name) for name in x], list(x.values())
        return NamedColumns(tuple(names), columns.__getitem__) if names else None
    if hasattr(x, "data_vars"):  # xarray.Dataset
        keys = list(x.data_vars)
        return NamedColumns(tuple(map(str, keys)), lambda i: x[keys[i]].values) if keys else None
    if hasattr(x, "column_names") and hasattr(x, "column"):  # pyarrow.Table
        return NamedColumns(tuple(x.column_names), lambda i: x.column(i).to_numpy())
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):  # pandas.DataFrame, polars.DataFrame
        return _of_frame(x)
    if hasattr(x, "dims") and hasattr(x, "coords"):  # xarray.DataArray
        return _of_data_array(x)
    return _of_series(x) if hasattr(x, "index") and hasattr(x, "to_numpy") else None


def _of_frame(x: Any) -> NamedColumns | None:
    names = _texts(x.columns)
    if names is None:
        return None
    return NamedColumns(names, lambda i: x.iloc[:, i] if hasattr(x, "iloc") else x[x.columns[i]])


def _of_data_array(x: Any) -> NamedColumns | None:
    """Of an array whose last axis has names as its coordinate."""
    names = _texts(x.coords[x.dims[-1]].values) if x.dims and x.dims[-1] in x.coords else None
    values = x.values
    return None if names is None or values.ndim > 2 else NamedColumns(names, lambda i: values[..., i])


def _of_series(x: Any) -> NamedColumns | None:
    """Of a row of a frame, pandas.Series: its index holds the names of the columns."""
    names = _texts(x.index)
    return None if names is None else NamedColumns(names, lambda i: np.asarray(x.iloc[i]))


def _texts(labels: Any) -> tuple[str, ...] | None:
    """Labels of columns as names; None if they only count the columns, or if there are none."""
    found = list(labels)
    if not found or not any(isinstance(label, str) for label in found):
        return None
    return tuple(map(str, found))


def _numbers(column: Any, name: str) -> NDArray[Any]:
    """The values of a column; missing ones are NaN.  Raises DataError if they are no numbers."""
    array = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    if array.dtype.kind == "O" and getattr(getattr(column, "dtype", None), "kind", "") in tuple("biuf"):
        array = column.to_numpy(dtype=np.float64, na_value=np.nan)  # a type of pandas that knows missing values
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        array = np.ma.filled(array.astype(np.float64), np.nan)
    if array.dtype.kind not in "biuf":
        raise DataError(f"x, column {name!r}: the values are of type {array.dtype}; expected real numbers")
    return np.asarray(array, np.uint8 if array.dtype.kind == "b" else None)
