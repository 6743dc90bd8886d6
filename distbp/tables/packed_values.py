"""What the attributes of a netCDF variable say about its values: packed, missing, unsigned (CF and NUG conventions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT_FILL = {  # of netCDF's library, for what was never written; bytes have none
    "i2": -32767,
    "i4": -2147483647,
    "i8": -9223372036854775806,
    "u2": 65535,
    "u4": 4294967295,
    "u8": 18446744073709551614,
    "f4": float(np.float32(9.969209968386869e36)),
    "f8": 9.969209968386869e36,
}
TIMES = (" since ",)


@dataclass(frozen=True)
class Packed:
    """How the values of a variable are meant.

    `dtype`: as they are stored.  `has_default_fill`: whether netCDF's library wrote them, which has values of its own
    for what was never written.
    """

    attributes: Mapping[str, Any]
    dtype: np.dtype[Any]
    has_default_fill: bool = True

    @property
    def units(self) -> str:
        """The attribute `units`."""
        units = self.attributes.get("units", "")
        return units if isinstance(units, str) else ""

    @property
    def result(self) -> np.dtype[Any]:
        """The type of the values that `unpack` gives."""
        return np.dtype(np.float64) if self._is_scaled else self._stored

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done, in words."""
        found = []
        if self._is_scaled:
            scale, offset = self._number("scale_factor", 1.0), self._number("add_offset", 0.0)
            found.append(f"unpacked: {scale:g} x stored + {offset:g}")
        if self._stored != self.dtype:
            found.append("unsigned")
        return tuple(found)

    def unpack(self, stored: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The values, and where they are missing."""
        stored = stored.view(self._stored)
        missing = self._missing(stored)
        if not self._is_scaled:
            return stored, missing
        values = stored * np.float64(self._number("scale_factor", 1.0)) + np.float64(self._number("add_offset", 0.0))
        limits = self._limits(packed=False)
        if limits is not None:
            outside = (values < limits[0]) | (values > limits[1])
            missing = outside if missing is None else missing | outside
        return values, missing if missing is not None and missing.any() else None

    @property
    def _stored(self) -> np.dtype[Any]:
        unsigned = str(self.attributes.get("_Unsigned", "")).lower() == "true"
        return np.dtype(f"u{self.dtype.itemsize}") if unsigned and self.dtype.kind == "i" else self.dtype

    @property
    def _is_scaled(self) -> bool:
        return self.dtype.kind in "iuf" and ("scale_factor" in self.attributes or "add_offset" in self.attributes)

    def _number(self, name: str, otherwise: float) -> float:
        numbers = self._numbers(name)
        return float(numbers[0]) if len(numbers) else otherwise

    def _numbers(self, name: str) -> NDArray[Any]:
        """The numbers of an attribute, which are in arrays; those of text, where there should be numbers, are none."""
        if name not in self.attributes:
            return np.zeros(0)
        found = np.atleast_1d(np.asarray(self.attributes[name]))
        return found if found.dtype.kind in "iuf" else np.zeros(0)

    def _missing(self, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where a stored value says that there is none."""
        marks = [*self._marks("_FillValue"), *self._marks("missing_value")]
        default = DEFAULT_FILL.get(f"{self.dtype.kind}{self.dtype.itemsize}")
        if "_FillValue" not in self.attributes and self.has_default_fill and default is not None:
            marks.append(self.dtype.type(default))
        if self.dtype == np.int64 and any(word in self.units for word in TIMES):
            marks.append(np.iinfo(np.int64).min)  # what xarray writes for a time that is missing
        found = np.zeros(stored.shape, bool)
        for mark in marks:
            found |= np.isnan(stored) if mark != mark else stored == mark
        limits = self._limits(packed=True)
        if limits is not None:
            found |= (stored < limits[0]) | (stored > limits[1])
        return found if found.any() else None

    def _marks(self, name: str) -> list[Any]:
        numbers = self._numbers(name)
        if self._stored != self.dtype and numbers.dtype == self.dtype:
            numbers = numbers.view(self._stored)
        if self.dtype.kind == "f":
            numbers = numbers.astype(self.dtype)
        return list(numbers)

    def _limits(self, *, packed: bool) -> tuple[Any, Any] | None:
        """The least and the largest valid value: of stored values, or of unpacked ones (floats for integers)."""
        numbers = self._numbers("valid_range")
        low, high = (
            (numbers[:1], numbers[1:2])
            if len(numbers) == 2
            else (self._numbers("valid_min"), self._numbers("valid_max"))
        )
        of_unpacked = (
            self._is_scaled and self.dtype.kind in "iu" and (*low, *high) and np.result_type(low, high).kind == "f"
        )
        if (not len(low) and not len(high)) or bool(of_unpacked) == packed:
            return None
        if self._stored != self.dtype and not of_unpacked:
            low, high = (ends.view(self._stored) if ends.dtype == self.dtype else ends for ends in (low, high))
        return low[0] if len(low) else -np.inf, high[0] if len(high) else np.inf
