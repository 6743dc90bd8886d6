"""Arrays and attributes written to a new HDF5 file: plain ones, as `distbp.files.plain_hdf5` reads them.

The low-level functions of h5py are called, which take a third of the time that `create_dataset` takes; most of a
checkpoint of a small network is that.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


def write_arrays(file: h5py.File, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes each array under its name, such as /group/array; groups are made as they are needed."""
    plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plain.set_obj_track_times(False)  # the same content gives the same file
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    groups: dict[str, Any] = {"": file.id}
    for name, array in arrays.items():
        group, _, last = name.rpartition("/")
        if group not in groups:
            groups[group] = h5py.h5g.create(file.id, group.encode(), links)
        kind = stored_type(array.dtype)
        space = h5py.h5s.create_simple(array.shape) if array.ndim else _scalar()
        data = h5py.h5d.create(groups[group], last.encode(), kind, space, plain)
        if array.size:
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.asarray(array, order="C"), kind)


def write_attributes(file: h5py.File, values: Mapping[str, Any]) -> None:
    """Writes attributes of the file: whole numbers, and bytes of fixed length."""
    for name, value in values.items():
        array = np.asarray(value)
        kind = h5py.h5t.py_create(array.dtype)
        h5py.h5a.create(file.id, name.encode(), kind, _scalar()).write(array)


@lru_cache(maxsize=64)
def stored_type(dtype: np.dtype[Any]) -> Any:
    """The type of numbers, strings of fixed length, or records of these, in a file."""
    return h5py.h5t.py_create(dtype)


def _scalar() -> Any:
    return h5py.h5s.create(h5py.h5s.SCALAR)
