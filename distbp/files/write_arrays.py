"""Arrays and attributes written to a new HDF5 file: plain ones, as `distbp.files.plain_hdf5` reads them.

The low-level functions of h5py are called, which take a third of the time that `create_dataset` takes; most of a
checkpoint of a small network is that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.files.forgiving_file import ForgivingFile

IN_MEMORY = 2**20  # bytes of arrays up to which a file is put together in memory, and then written at once


def write_hdf5(path: Path, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> None:
    """Writes a new file; there must be none under this name.

    Raises OSError, or what else h5py may raise about a disk: RuntimeError, ValueError.
    """
    with ForgivingFile(path) as disk:
        if sum(array.nbytes for array in arrays.values()) <= IN_MEMORY:
            disk.write(_image(path, arrays, attributes))
            return
        with h5py.File(disk, "w", libver=("v108", "v110")) as file:
            for data, array in _make_arrays(file.id, arrays):
                data.write(h5py.h5s.ALL, h5py.h5s.ALL, array, stored_type(array.dtype))
            _write_attributes(file.id, attributes)


def _image(path: Path, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> bytearray:
    """The bytes of a file with this content.  To HDF5 it has the name `path`, for no two files may have one name.

    The arrays are copied to their places here, which takes less time than to have HDF5 compare their types.
    """
    file = h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fapl=_access_in_memory())
    try:
        made = _make_arrays(file, arrays)
        _write_attributes(file, attributes)
        h5py.h5f.flush(file)
        image = bytearray(file.get_file_image())
        for data, array in made:
            begin = data.get_offset()
            image[begin : begin + array.nbytes] = array.tobytes()
        return image
    finally:
        file.close()


def _make_arrays(file: Any, arrays: Mapping[str, NDArray[Any]]) -> list[tuple[Any, NDArray[Any]]]:
    """Makes room for each array under its name, such as /group/array, in a file of h5py's low level, and the groups.

    Returns what is to be filled, and with what: contiguous arrays.
    """
    made: list[tuple[Any, NDArray[Any]]] = []
    groups: dict[str, Any] = {"": file}
    for name, array in arrays.items():
        group, _, last = name.rpartition("/")
        if group not in groups:
            groups[group] = h5py.h5g.create(file, group.encode(), _groups_between())
        kind = stored_type(array.dtype)
        space = h5py.h5s.create_simple(array.shape) if array.ndim else _scalar()
        data = h5py.h5d.create(groups[group], last.encode(), kind, space, _plain())
        if array.size:
            made.append((data, np.asarray(array, order="C")))
    return made


def _write_attributes(file: Any, values: Mapping[str, Any]) -> None:
    """Writes attributes of a file of h5py's low level: whole numbers, and bytes of fixed length."""
    for name, value in values.items():
        array = np.asarray(value)
        h5py.h5a.create(file, name.encode(), stored_type(array.dtype), _scalar()).write(array)


@lru_cache(maxsize=64)
def stored_type(dtype: np.dtype[Any]) -> Any:
    """The type of numbers, strings of fixed length, or records of these, in a file."""
    return h5py.h5t.py_create(dtype)


@lru_cache(maxsize=1)
def _scalar() -> Any:
    return h5py.h5s.create(h5py.h5s.SCALAR)


@lru_cache(maxsize=1)
def _plain() -> Any:
    """How arrays are stored: each has its place at once, which is not filled before it is written.

    No times are stored, so that the same content gives the same file.
    """
    plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plain.set_obj_track_times(False)
    return plain


@lru_cache(maxsize=1)
def _groups_between() -> Any:
    """Groups above a new one are made, too."""
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    return links


@lru_cache(maxsize=1)
def _access_in_memory() -> Any:
    """A file in memory, which is written nowhere, and whose parts are closed with it."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(2**16, False)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    return access
