"""What stands behind a name of an HDF5 file, as the values that its author meant: a data set, or a coded group.

`open_stored` knows the conventions by which libraries write what HDF5 has no type for (`distbp.data.conventions`,
`distbp.data.coded_groups`); everything above it sees an array of numbers or strings, with missing values marked.
"""

from __future__ import annotations

from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.coded_groups import is_column, open_group
from distbp.data.conventions import open_dataset
from distbp.data.names_beside import names_beside
from distbp.data.not_data import why_not_data

__all__ = ["Stored", "is_column", "open_stored", "why_not_data"]


class Stored(Protocol):
    """An array in a file.  What describes it is known without reading values, as long as the file is open.

    shape, chunks: of the array as it is read, its axes in the order of `dimensions`.
    dtype: of what `read` gives, in this machine's byte order; object for strings.
    dimensions: names of the axes, "" where the file has none.
    units: of all values, "" where the file has none.
    column_units: of each number of a row, where the file has them (attribute `units` with a text for each), else ().
    columns: names of the numbers of a row where the file has them (attribute `columns`), else ().
    notes: what was decided, in words for the user ("unpacked: 0.01 x stored + 280").
    is_plain: whether the values are those that HDF5 gives, with nothing decoded and nothing missing.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    notes: tuple[str, ...]
    is_plain: bool

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the axes."""

    @property
    def units(self) -> str:
        """The unit of all values."""

    @property
    def column_units(self) -> tuple[str, ...]:
        """The unit of each number of a row."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The name of each number of a row."""

    def read(self, index: tuple[int | slice, ...]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The values at an index, one entry for each axis (numbers, and slices with a step above 0), as NumPy has it.

        The second array is True where a value is missing, None where none of them is.  What stands at a missing place
        is NaN for floats, and means nothing otherwise.  Raises DataError, or what h5py raises about a damaged file.
        """


def open_stored(file: h5py.File, path: str, item: h5py.Dataset | h5py.Group, field: str | None = None) -> Stored:
    """What stands in a data set, in a field of a table, or in a group that is one column.

    `path`: the file's name in messages.  Raises DataError where it is no array of numbers or strings.
    """
    found = open_group(path, item) if isinstance(item, h5py.Group) else open_dataset(path, item, field)
    if field is None:
        found.beside = lambda: _fitting(names_beside(path, item), found.shape)
    return found


def _fitting(names: tuple[str, ...], shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of columns, if they are as many as these."""
    return names if len(names) == shape[-1] else ()
