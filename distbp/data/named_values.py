"""Whole numbers that stand for names: the members of an HDF5 enum, the flags of netCDF, truth values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.undecodable import Undecodable

SHOWN = 8  # names in a note
TABLE = 2**16  # widest range of numbers for which a table is made


@dataclass(frozen=True)
class NamedValues:
    """Names of numbers; `missing`: numbers that stand for no value."""

    names: Mapping[int, Any]
    missing: frozenset[int] = frozenset()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def dtype(self) -> np.dtype[Any]:
        """object for names, bool for truth values."""
        is_truth = all(isinstance(name, bool) for name in self.names.values())
        return np.dtype(bool) if is_truth else np.dtype(object)

    def decode(
        self, values: NDArray[Any], missing: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The name of each number, and where there is none.  Raises Undecodable."""
        numbers = np.array(sorted(self.names), values.dtype.type if values.dtype.kind != "b" else np.uint8)
        nothing = False if self.dtype == np.bool_ else ""
        names = np.array([*(self.names[int(number)] for number in numbers), nothing], self.dtype)
        places = _places(values, numbers)
        for number in self.missing:
            gone = values == number
            if gone.any():
                missing = gone if missing is None else missing | gone
        unknown = places == len(numbers)
        if missing is not None:
            unknown &= ~missing
        if unknown.any():
            at = int(unknown.reshape(-1).argmax())
            raise Undecodable(
                f"{values.reshape(-1)[at]} is stored, which has no name; the names are {shown(self.names)}; leave the "
                "column out, or mend the file",
                at,
            )
        return names[places.reshape(-1)].reshape(
            values.shape
        ), missing if missing is not None and missing.any() else None


def shown(names: Mapping[int, Any]) -> str:
    """0 = no, 1 = yes, …"""
    each = [f"{number} = {name}" for number, name in sorted(names.items())]
    return ", ".join(each if len(each) <= SHOWN else [*each[: SHOWN - 1], "…"])


def _places(values: NDArray[Any], numbers: NDArray[Any]) -> NDArray[np.intp]:
    """Of each value its place among sorted numbers; their count where it is none of them."""
    count = len(numbers)
    if count and int(numbers[-1]) - int(numbers[0]) < TABLE and values.size > TABLE:
        first = int(numbers[0])
        table = np.full(int(numbers[-1]) - first + 3, count, np.intp)
        table[[int(number) - first + 1 for number in numbers]] = np.arange(count)
        clipped = np.clip(values.astype(np.int64), first - 1, int(numbers[-1]) + 1)
        return table[clipped - (first - 1)]
    places = np.searchsorted(numbers, values)
    known = np.minimum(places, max(count - 1, 0))
    return np.where(numbers[known] == values, known, count) if count else places
