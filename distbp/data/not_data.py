"""What is known to be no data: what libraries put into files for themselves, and what has no rows."""

from __future__ import annotations

from typing import Any

import h5py

from distbp.data.attributes import Attributes
from distbp.data.dimension_names import NOT_A_VARIABLE

PANDAS = "pandas_type"  # an attribute of its groups


def why_not_data(item: h5py.Dataset | h5py.Group, name: str) -> str:
    """Why a data set or group is known not to be data ("dimension scale"); "" where nothing is known against it.

    `name`: under which it would be a column; behind the last point of it may be a field of a table.
    """
    inside = str(item.name or "")
    steps = inside.strip("/").split("/")
    if any(step.startswith("_i_") for step in steps):
        return "index of PyTables"
    if any(step.startswith("#") and step.endswith("#") for step in steps):
        return "internal to MATLAB"
    if "__categories" in steps:
        return "categories of another column"
    if not isinstance(item, h5py.Dataset):
        return ""
    attributes = Attributes(item.file.filename, item)
    return _of_shape(item, attributes) or _of_type(item, attributes) or _of_place(item, attributes, steps, name)


def _of_shape(dataset: h5py.Dataset, attributes: Attributes) -> str:
    if attributes.text("CLASS") == "DIMENSION_SCALE":
        is_bare = attributes.text("NAME").startswith(NOT_A_VARIABLE)
        return "netCDF dimension without a variable" if is_bare else "dimension scale"
    if dataset.shape is None or 0 in dataset.shape or "MATLAB_empty" in attributes.names:
        return "empty"
    return "a single value" if dataset.shape == () else ""


def _of_type(dataset: h5py.Dataset, attributes: Attributes) -> str:
    kind = dataset.id.get_type()
    if kind.get_class() == h5py.h5t.REFERENCE:
        is_cell = attributes.text("MATLAB_class") == "cell"
        return "object references" + (" (a cell array of MATLAB)" if is_cell else "")
    is_pickled = kind.get_class() == h5py.h5t.VLEN and attributes.text("PSEUDOATOM") == "object"
    return "pickled objects" if is_pickled else ""


def _of_place(dataset: h5py.Dataset, attributes: Attributes, steps: list[str], name: str) -> str:
    """What its group says of it."""
    group: Any = dataset.parent
    around, own = Attributes(dataset.file.filename, group), steps[-1]
    if PANDAS in around.names:
        is_index = own == "axis1" or (own == "table" and name.rpartition(".")[2] == "index")
        is_names = own == "axis0" or (own.startswith("block") and own.endswith("_items"))
        is_categories = len(steps) > 3 and steps[-2] == "meta"
        if is_categories:
            return "categories of pandas"
        return "index of pandas" if is_index else "names of columns of pandas" if is_names else ""
    if own == around.text("_index"):
        return "index of anndata"
    return ""
