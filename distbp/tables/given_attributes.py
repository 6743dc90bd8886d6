"""Attributes that are in memory already: those of netCDF's classic files and of Zarr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distbp.data.attributes import Attributes, Value


class GivenAttributes(Attributes):
    """What is said of a variable; see `Attributes`.  `name`: the variable in messages."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name, self._values = name, values
        self.names = frozenset(values)

    def get(self, name: str) -> Value:
        """A text, several, or an array of one axis of numbers; None: not there, or made of something else."""
        value = self._values.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return value
        if value is None or (isinstance(value, dict | list) and not value):
            return None
        try:
            numbers = np.atleast_1d(np.asarray(value))
        except ValueError:  # lists of lists of different lengths
            return None
        return numbers if numbers.ndim == 1 and numbers.size and numbers.dtype.kind in "biuf" else None

    def where(self, name: str = "") -> str:
        """'file.nc: t2m' for messages, or 'file.nc: t2m, attribute units'."""
        return self._name + (f", attribute {name}" if name else "")
