"""What stands behind a name of an HDF5 file, as the values that its author meant: a data set, or a coded group.

`open_stored` knows the conventions by which libraries write what HDF5 has no type for (`distbp.data.conventions`,
`distbp.data.coded_groups`); everything above it sees an array of numbers or strings, with missing values marked.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Stored(Protocol):
    """An array in a file.  What describes it is known without reading values.

    shape, chunks: of the array as it is read, its axes in the order of `dimensions`.
    dtype: of what `read` gives, in this machine's byte order; object for strings.
    dimensions: names of the axes, "" where the file has none.
    columns: names of the numbers of a row where the file has them (attribute `columns`), else ().
    notes: what was decided, in words for the user ("unpacked: 0.01 x stored + 280").
    is_plain: whether the values are those that HDF5 gives, with nothing decoded and nothing missing.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    dimensions: tuple[str, ...]
    units: str
    columns: tuple[str, ...]
    notes: tuple[str, ...]
    is_plain: bool

    def read(self, index: tuple[int | slice, ...]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The values at an index, one entry for each axis (numbers, and slices with a step above 0), as NumPy has it.

        The second array is True where a value is missing, None where none of them is.  What stands at a missing place
        is NaN for floats, and means nothing otherwise.  Raises DataError, or what h5py raises about a damaged file.
        """


class _Plain:
    def __init__(self, dataset: Any, field: str | None, where: str) -> None:
        import h5py

        from distbp.errors import DataError

        self._dataset, self._field, self._where = dataset, field, where
        dtype = dataset.dtype if field is None else dataset.dtype[field]
        self.shape = (*dataset.shape, *dtype.shape)
        dtype = dtype.base
        if h5py.check_string_dtype(dtype) is not None:
            dtype = np.dtype("O")
        elif dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise DataError(f"{where} is of type {dtype}; expected integers or real numbers")
        self.dtype = dtype.newbyteorder("=")
        self.chunks = dataset.chunks
        self.dimensions = ("",) * len(self.shape)
        self.units = ""
        columns = dataset.attrs.get("columns")
        self.columns = tuple(c.decode() for c in columns.tolist()) if columns is not None else ()
        self.notes: tuple[str, ...] = ()
        self.is_plain = True

    def read(self, index: Any) -> Any:
        source = self._dataset if self._field is None else self._dataset.fields(self._field)
        return np.asarray(source[index]), None


def open_stored(file: Any, path: str, item: Any, field: str | None = None) -> Stored:
    """Opens."""
    return _Plain(item, field, f"{path}: {item.name.lstrip('/')}{'.' + field if field else ''}")


def is_column(item: Any) -> bool:
    """Whether."""
    return False


def why_not_data(item: Any, name: str) -> str:
    """Why."""
    return ""
