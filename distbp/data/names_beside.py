"""Names of the columns of a matrix that stand in an array beside it.

AnnData      X, layers/NAME and raw/X: the index of var, the genes
10x          a matrix whose columns are cells: features/id
pandas       block0_values: block0_items (HDFStore, fixed format)
"""

from __future__ import annotations

import re
from typing import Any

import h5py

from distbp.data.attributes import Attributes
from distbp.data.categories import below
from distbp.data.plain_array import PlainArray

_BLOCK = re.compile(r"(block[0-9]+)_values")


def names_beside(path: str, item: h5py.Dataset | h5py.Group) -> tuple[str, ...]:
    """The names, in the order in which they are stored; () where there are none, or where two are the same.

    `path`: the file's name in messages.  Raises DataError where they are damaged.
    """
    found, field = _beside(path, item)
    if not isinstance(found, h5py.Dataset) or found.shape is None or len(found.shape) != 1:
        return ()
    array = PlainArray(path, found, field)
    if not array.is_text:
        return ()
    names = tuple(array.read((slice(None),)).tolist())
    return names if len(set(names)) == len(names) and all(names) else ()


def may_have_names(name: str) -> bool:
    """Whether names of its columns may stand beside a data set that is called so."""
    *above, last = name.split("/")
    return last == "X" or above[-1:] == ["layers"] or bool(_BLOCK.fullmatch(last))


def _beside(path: str, item: h5py.Dataset | h5py.Group) -> tuple[Any, str | None]:
    """The data set with the names, and the field of it; None where there is none."""
    if isinstance(item, h5py.Group) and "barcodes" in item and "features" in item:
        return below(item, "features/id"), None
    name = str(item.name or "")
    if not may_have_names(name):
        return None, None
    block = _BLOCK.fullmatch(name.rpartition("/")[2])
    if block:
        return below(item.parent, f"{block[1]}_items"), None
    return _of_var(path, item.parent if name.endswith("/X") else item.parent.parent)


def _of_var(path: str, group: h5py.Group) -> tuple[Any, str | None]:
    """The index of the columns of an AnnData group."""
    var = below(group, "var")
    if isinstance(var, h5py.Group):
        return below(var, Attributes(path, var).text("_index") or "_index"), None
    return var, "index"
