"""Data sets that are stored as one was that came before: what is known of its column holds for theirs.

A data set may consist of a hundred thousand small files of one make.  What their headers mean is worked out for the
first of them; of each other it is then enough to know that its header says the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import h5py

from distbp.data.layout import Column
from distbp.data.names_beside import may_have_names


@dataclass(frozen=True)
class Make:
    """How a data set is stored, and the column that it is: its type, and its other properties as HDF5 lists them."""

    column: Column
    type: Any
    properties: Any

    def column_of(self, file: str, dataset: str, item: h5py.Dataset) -> Column | None:
        """The column that `item` is, the data set of this name in a file; None if it is stored in another way.

        The number of rows may be another one.
        """
        stored, shape = item.id, item.shape
        if (
            shape is None
            or shape[:1] in ((), (0,))
            or shape[1:] != self.column.shape
            or h5py.h5a.get_num_attrs(stored)
            or not stored.get_type().equal(self.type)
            or not stored.get_create_plist().equal(self.properties)
        ):
            return None
        place = stored.get_offset()
        if place is None or stored.get_space_status() != h5py.h5d.SPACE_STATUS_ALLOCATED:
            return None
        return replace(self.column, file=file, dataset=dataset, rows=shape[0], offset=place)


def make_of(item: h5py.Dataset, column: Column) -> Make | None:
    """What others can be compared with; None if more than type, shape and properties decides what a column is.

    That is so where attributes may say something, where values are not those of the file itself, one after another
    from the first row on, and where names of columns may stand in an array beside the data set.
    """
    is_plain = column.offset is not None and column.is_direct and column.field is None
    if not is_plain or may_have_names(column.dataset) or h5py.h5a.get_num_attrs(item.id):
        return None
    return Make(column, item.id.get_type(), item.id.get_create_plist())
