"""Categories: whole numbers that count names, or values, which stand in a list of their own; -1 is none of them."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.attributes import Attributes
from distbp.data.data_file import member
from distbp.data.plain_array import PlainArray
from distbp.data.undecodable import Undecodable
from distbp.errors import DataError

SHOWN = 8  # categories in a note


class Categories:
    """A step of decoding: from the number of a category, counted from 0, to what it stands for.

    `values`: one axis; `missing`: which of them stand for no value.  `whose`: the program, for the note.
    """

    def __init__(self, values: NDArray[Any], missing: NDArray[np.bool_] | None, whose: str) -> None:
        self._values, self._gone = values, missing
        self.dtype: np.dtype[Any] = values.dtype
        shown = [str(value) for value in values[:SHOWN].tolist()]
        more = ", …" if len(values) > SHOWN else ""
        self.notes: tuple[str, ...] = (f"categories of {whose}: {', '.join(shown)}{more}; missing where -1 is stored",)

    def decode(
        self, values: NDArray[Any], missing: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The category of each number, and where there is none.  Raises Undecodable."""
        codes, count = values.reshape(-1).astype(np.int64), len(self._values)
        wrong = (codes < -1) | (codes >= count)
        if wrong.any():
            at = int(wrong.argmax())
            raise Undecodable(
                f"category {values.reshape(-1)[at]} is stored, and there are {count}; the file is damaged, write it "
                "again",
                at,
            )
        gone = codes < 0
        codes[gone] = 0
        if self._gone is not None and count:
            gone |= self._gone[codes]
        if missing is not None:
            gone |= missing.reshape(-1)
        decoded = self._values[codes] if count else np.zeros(codes.shape, self.dtype)
        if self.dtype.kind == "f":
            decoded[gone] = np.nan
        return decoded.reshape(values.shape), gone.reshape(values.shape) if gone.any() else None


def of_pandas(path: str, attributes: Attributes, dataset: h5py.Dataset, field: str) -> list[Categories]:
    """Those of a field of a pandas table, which keeps them in meta/FIELD/meta/table beside it."""
    if attributes.text(f"{field}_meta") != "category":
        return []
    table = below(dataset.parent, f"meta/{field}/meta/table")
    if not isinstance(table, h5py.Dataset):
        raise DataError(
            f"{attributes.where()}.{field} has numbers of categories, and the categories are not in the file; write it "
            "again with pandas"
        )
    return [Categories(_whole(PlainArray(path, table, "values")), None, "pandas")]


def of_old_anndata(path: str, attributes: Attributes, dataset: h5py.Dataset) -> list[Categories]:
    """Those of a column as anndata wrote it before 0.8: in __categories/COLUMN beside it."""
    if "categories" not in attributes.names:
        return []
    found = below(dataset.parent, f"__categories/{str(dataset.name).rpartition('/')[2]}")
    return [Categories(_whole(PlainArray(path, found)), None, "anndata")] if isinstance(found, h5py.Dataset) else []


def below(group: h5py.Group, name: str) -> Any:
    """What is there in this file, or None."""
    item: Any = group
    for step in name.split("/"):
        if not isinstance(item, h5py.Group) or not isinstance(item.get(step, getlink=True), h5py.HardLink):
            return None
        item = member(item, step)
    return item


def _whole(array: PlainArray) -> NDArray[Any]:
    if len(array.shape) != 1:
        raise DataError(f"{array.name} has the shape {array.shape}; expected a list of categories")
    return array.read((slice(None),))
