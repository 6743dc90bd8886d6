"""Zarr directories of version 2 and 3 as tables: arrays as columns, read chunk by chunk; the library Zarr reads.

What xarray writes beside the values is known: names of axes, coordinates, units, packed and missing values.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.conventions import TIME, DecodedArray, missing_times, number_steps
from distbp.errors import DataError
from distbp.tables.given_attributes import GivenAttributes
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
    raw = _ZarrArray(f"{path}: {name}", array)
    given = dict(array.attrs)
    names = getattr(array.metadata, "dimension_names", None) or given.get("_ARRAY_DIMENSIONS") or ()
    dimensions = tuple(str(one or "") for one in names) if len(names) == len(raw.shape) else ()
    attributes = GivenAttributes(raw.name, _marks(array, given, raw.dtype))
    is_number = not raw.problem and raw.dtype.kind in "iuf"
    steps = number_steps(attributes, raw.dtype, missing_times(attributes, raw.dtype)) if is_number else []
    not_data = raw.problem
    if dimensions == (name.rpartition("/")[2],):
        not_data = f"coordinate of the dimension {dimensions[0]}"
    elif TIME.match(attributes.text("units")):
        not_data = "times"
    stored = DecodedArray(raw, steps, (), attributes, lambda: dimensions)
    return stored_column(name, stored, file=path, not_data=not_data, problem=raw.problem)


class _ZarrArray:
    """The values of an array before anything is decoded."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self._array = name, array
        stored = np.dtype(array.dtype)
        self.problem = "" if stored.kind in "OT" else why_no_data(stored)
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(object) if stored.kind in "OTSU" else np.dtype(stored.str.replace(">", "="))
        self.chunks: tuple[int, ...] | None = tuple(array.chunks)
        if prod(self.chunks) * max(1, stored.itemsize) > 2 * LARGEST_ROW:
            self.problem = f"is stored in chunks of {self.chunks}, each of more than 2 GiB"

    def read(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        try:
            stored = np.asarray(self._array[index])
        except Exception as error:  # whatever its readers meet in a damaged chunk
            raise DataError(f"{self.name}: cannot be read by Zarr: {error}") from None
        if stored.dtype.kind not in "OT":
            return plain(stored, self.name)
        texts = stored.astype(object)
        wrong = next((text for text in texts.reshape(-1).tolist() if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"{self.name}: holds {type(wrong).__name__}, expected strings or numbers")
        return texts


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
