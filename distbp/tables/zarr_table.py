"""Zarr directories of version 2 and 3 as tables: arrays as columns, read chunk by chunk; the library Zarr reads.

What xarray writes beside the values is known: names of axes, coordinates, units, packed and missing values.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.packed_values import Packed
from distbp.tables.row_table import LARGEST_ROW, RowColumn, RowTable
from distbp.tables.split_names import split_columns
from distbp.tables.stored_array import plain, why_no_data
from distbp.tables.stored_rows import stored_column


def zarr_tables(path: str) -> dict[str, RowTable]:
    """The arrays of a directory, those in groups inside it included; by part where the names say so.

    Raises DataError.
    """
    try:
        import zarr
    except ImportError:
        raise DataError(f"{path}: reading Zarr needs zarr: pip install 'distbp[tables]'") from None
    if int(zarr.__version__.split(".")[0]) < 3:
        raise DataError(
            f"{path}: reading Zarr needs zarr 3, and this is {zarr.__version__}: pip install 'distbp[tables]'"
        )
    try:
        root = zarr.open(path, mode="r")
        arrays = {"x": root} if isinstance(root, zarr.Array) else _arrays(root)
        columns = [_column(path, name, array) for name, array in arrays.items()]
    except DataError:
        raise
    except Exception as error:  # whatever its readers meet in a damaged directory
        raise DataError(f"{path}: cannot be read by Zarr: {error}") from None
    return split_columns(path, columns)


def _arrays(group: Any) -> dict[str, Any]:
    found = group.members(max_depth=None)
    return {name: item for name, item in sorted(found) if hasattr(item, "shape")}


def _column(path: str, name: str, array: Any) -> RowColumn:
    stored = _ZarrArray(f"{path}: {name}", array)
    not_data = stored.problem
    if stored.dimensions == (name.rpartition("/")[2],):
        not_data = f"coordinate of the dimension {stored.dimensions[0]}"
    elif " since " in stored.units:
        not_data = "times"
    return stored_column(name, stored, file=path, not_data=not_data, problem=stored.problem)


class _ZarrArray:
    """An array; see `distbp.data.stored.Stored`."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self._array = name, array
        attributes = dict(array.attrs)
        raw = np.dtype(array.dtype)
        self._is_text = raw.kind in "OT" or raw.kind in "SU"
        self.problem = "" if raw.kind in "OT" else why_no_data(raw)
        names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS") or ()
        self.shape = tuple(array.shape)
        self.dimensions = tuple(str(one or "") for one in names) if len(names) == len(self.shape) else ()
        native = raw.newbyteorder("=") if raw.kind in "biuf" else np.dtype("S1")
        self._packed = Packed(_marks(array, attributes, raw), native, has_default_fill=False)
        self.dtype = np.dtype(object) if self._is_text else self._packed.result
        self.column_units: tuple[str, ...] = ()
        self.units, self.notes = self._packed.units, () if self._is_text else self._packed.notes
        self.chunks: tuple[int, ...] | None = tuple(array.chunks)
        self.columns: tuple[str, ...] = ()
        self.is_plain = False
        if int(np.prod(self.chunks, dtype=object)) * max(1, raw.itemsize) > 2 * LARGEST_ROW:
            self.problem = f"is stored in chunks of {self.chunks}, each of more than 2 GiB"

    def read(self, index: tuple[int | slice, ...]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The values at an index, and where they are missing."""
        try:
            stored = np.asarray(self._array[index])
        except Exception as error:  # whatever its readers meet in a damaged chunk
            raise DataError(f"{self.name}: cannot be read by Zarr: {error}") from None
        if not self._is_text:
            return self._packed.unpack(plain(stored, self.name))
        if stored.dtype.kind in "SU":
            return plain(stored, self.name), None
        texts = stored.astype(object)
        gone = np.array([not isinstance(text, str) for text in texts.reshape(-1).tolist()]).reshape(texts.shape)
        texts[gone] = ""
        return texts, gone if gone.any() else None


def _marks(array: Any, attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The attributes; with `_FillValue` where xarray keeps it: the fill value of version 2, coded in version 3."""
    found = dict(attributes)
    mark = found.get("_FillValue")
    if isinstance(mark, str) and dtype.kind == "f":
        try:
            found["_FillValue"] = struct.unpack("<d", base64.standard_b64decode(mark))[0]
        except (binascii.Error, struct.error):
            del found["_FillValue"]
    elif mark is None and "_ARRAY_DIMENSIONS" in found and array.metadata.zarr_format == 2:
        fill = array.metadata.fill_value
        if fill is not None and dtype.kind in "iuf":
            found["_FillValue"] = np.array([fill], dtype)
    return found
