"""Names of the axes of a data set: those of its dimension scales, as netCDF and h5py attach them, or its labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import h5py

from distbp.data.attributes import Attributes

NOT_A_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


def dimension_names(attributes: Attributes, dataset: h5py.Dataset) -> tuple[str, ...]:
    """The name of each axis, "" where it has none.

    References to scales are compared with the addresses of what is in the groups above; none of them is opened.
    """
    rank = len(dataset.shape)
    if not attributes.names:
        return ("",) * rank
    names = list(attributes.texts("DIMENSION_LABELS"))
    names = names if len(names) == rank else [""] * rank
    addresses = attributes.first_objects("DIMENSION_LIST")
    if len(addresses) == rank and any(addresses):
        found = _names_above(dataset, set(addresses))
        names = [found.get(address, name) for address, name in zip(addresses, names, strict=True)]
    elif attributes.text("CLASS") == "DIMENSION_SCALE" and rank == 1:
        names = [(dataset.name or "").rpartition("/")[2]]
    elif "unitSI" in attributes.names and not any(names):
        names = list(_of_mesh(attributes.beside(dataset.parent), rank))
    return tuple(names)


def _of_mesh(mesh: Attributes, rank: int) -> tuple[str, ...]:
    """openPMD: the group of a mesh names the axes of its components."""
    names = mesh.texts("axisLabels")
    if len(names) != rank:
        return ("",) * rank
    return names[::-1] if mesh.text("dataOrder") == "F" else names


def _names_above(dataset: h5py.Dataset, wanted: set[int]) -> dict[int, str]:
    """Names of the objects at these addresses, in the data set's group or in one above it."""
    found: dict[int, str] = {}
    for group in _groups_above(dataset):
        for name in group:
            link = group.id.links.get_info(os.fsencode(name))
            if link.type == h5py.h5l.TYPE_HARD and link.u in wanted:
                found.setdefault(link.u, name)
        if found.keys() >= wanted - {0}:
            break
    return found


def _groups_above(item: Any) -> Iterator[h5py.Group]:
    while item.name not in (None, "/"):
        item = item.parent
        yield item
