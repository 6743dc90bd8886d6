"""Numbers as netCDF's conventions pack them: with a scale and an offset, and with values that stand for no value.

What is compared is the packed value: with `_FillValue`, each `missing_value`, and the limits of `valid_range`,
`valid_min` and `valid_max`.  The result is scale x stored + offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.attributes import Attributes
from distbp.data.undecodable import Undecodable
from distbp.errors import DataError

BLOCK = 2**15  # numbers that are decoded together, while they are in the cache

Limits = tuple[float | int | None, float | int | None]


@dataclass(frozen=True)
class PackedNumbers:
    """How numbers are stored.

    stored: their type, once `_Unsigned` has been heard.
    dtype: of what `decode` gives.
    missing: packed values that stand for none; NaN among them where it does.
    limits: the least and the largest packed value that is one.
    unpacked_limits: limits in a type that leaves open whether they are packed; see `decode`.
    """

    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    missing: tuple[Any, ...] = ()
    limits: Limits = (None, None)
    scale: float = 1.0
    offset: float = 0.0
    unpacked_limits: Limits = (None, None)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_scaled(self) -> bool:
        """Whether there is something to unpack."""
        return self.scale != 1 or self.offset != 0

    def decode(
        self, values: NDArray[Any], missing: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The numbers, NaN at missing places of floats; and where they are missing, None where nowhere.

        Raises Undecodable where a value is inside its limits if these are packed, and outside otherwise, or vice versa.
        """
        flat = np.ascontiguousarray(values).view(self.stored).reshape(-1)
        found = flat if self.dtype == self.stored else np.empty(len(flat), self.dtype)
        mask: NDArray[np.bool_] | None = None if missing is None else missing.reshape(-1)
        exact = np.empty(min(BLOCK, len(flat)), np.float64)
        for begin in range(0, len(flat), BLOCK):
            part, here = flat[begin : begin + BLOCK], slice(begin, begin + BLOCK)
            wrong = self._wrong(part)
            if self.unpacked_limits != (None, None):
                self._check_unpacked(part, wrong, begin)
            if found is not flat or self.is_scaled:
                found[here] = self._unpacked(part, exact[: len(part)])
            if wrong is not None and wrong.any():
                mask = np.zeros(len(flat), bool) if mask is None else mask
                mask[here] |= wrong
        if mask is not None and self.dtype.kind == "f":
            found[mask] = np.nan
        return found.reshape(values.shape), None if mask is None else mask.reshape(values.shape)

    def _unpacked(self, part: NDArray[Any], exact: NDArray[np.float64]) -> NDArray[Any]:
        if not self.is_scaled:
            return part
        np.multiply(part, self.scale, out=exact)
        if self.offset:
            exact += self.offset
        return exact

    def _wrong(self, part: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where these packed values stand for none."""
        found: NDArray[np.bool_] | None = None
        for one in self._comparisons(part):
            found = one if found is None else np.logical_or(found, one, out=found)
        return found

    def _comparisons(self, part: NDArray[Any]) -> Iterator[NDArray[np.bool_]]:
        if self.stored.kind == "f":
            yield np.isnan(part)
        for value in self.missing:
            if value == value:
                yield part == value
        low, high = self.limits
        if low is not None:
            yield part < low
        if high is not None:
            yield part > high

    def _check_unpacked(self, part: NDArray[Any], wrong: NDArray[np.bool_] | None, begin: int) -> None:
        """Raises Undecodable where limits mean one thing for packed values, and another for unpacked ones."""
        unpacked, (low, high) = part * self.scale + self.offset, self.unpacked_limits
        is_fill = np.isin(part, [value for value in self.missing if value == value])
        outside = np.zeros(len(part), bool)
        if low is not None:
            outside |= unpacked < low
        if high is not None:
            outside |= unpacked > high
        differs = ~is_fill & (outside != (np.zeros(len(part), bool) if wrong is None else wrong))
        if differs.any():
            i = int(differs.argmax())
            raise Undecodable(
                f"the stored {part[i]}, unpacked {unpacked[i]:g}, is {'outside' if outside[i] else 'inside'} its valid "
                "range if that is meant for unpacked values, and not if it is meant for stored ones; write valid_range "
                "(valid_min, valid_max) in the type of the stored values, or delete it",
                begin + i,
            )


def packing(attributes: Attributes, dtype: np.dtype[Any], extra: Sequence[tuple[Any, str]]) -> PackedNumbers | None:
    """How attributes say that numbers of this type are packed; None: not at all.  Raises DataError.

    extra: values that are missing for another reason, and that reason in words.

    Unpacked numbers are float32 where scale and offset both are and every stored number is exact in float32 (as CF has
    it: the type of the attributes is the type of the numbers), otherwise float64.  Each is computed in float64 and
    rounded once.  A scale of 1 with an offset of 0 leaves the type as it is.
    """
    stored, notes = _as_unsigned(attributes, dtype)
    scale, offset, unpacked = _scaling(attributes, stored)
    missing = _missing(attributes, stored)
    limits, is_open = _limits(attributes, stored, (scale, offset) != (1, 0))
    if missing:
        notes.append(f"missing where {', '.join(map(_shown, missing))} is stored")
    if limits != (None, None):
        notes.append(f"missing outside {_shown(limits[0])} … {_shown(limits[1])}, as stored")
    for value, reason in extra:
        missing.append(value)
        notes.append(f"missing where {_shown(value)} is stored ({reason})")
    if (scale, offset) != (1, 0):
        notes.append(f"unpacked: {_in_words(scale, unpacked)} x stored{_added(offset, unpacked)}")
    packed_limits = tuple(_whole(limit, stored, i) for i, limit in enumerate(limits))
    if not notes:
        return None
    return PackedNumbers(
        stored, unpacked, tuple(missing), (packed_limits[0], packed_limits[1]), scale, offset,
        limits if is_open else (None, None), tuple(notes),
    )  # fmt: skip


def _as_unsigned(attributes: Attributes, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], list[str]]:
    """The type that `_Unsigned` means."""
    said = attributes.text("_Unsigned").lower()
    if said == "true" and dtype.kind == "i":
        return np.dtype(f"u{dtype.itemsize}"), ["stored without a sign (_Unsigned)"]
    if said == "false" and dtype.kind == "u":
        return np.dtype(f"i{dtype.itemsize}"), ["stored with a sign (_Unsigned)"]
    return dtype, []


def _scaling(attributes: Attributes, stored: np.dtype[Any]) -> tuple[float, float, np.dtype[Any]]:
    """Scale, offset, and the type of what is unpacked."""
    found = [_single(attributes, name, default) for name, default in (("scale_factor", 1.0), ("add_offset", 0.0))]
    (scale, offset), types = (float(value) for value, _ in found), [dtype for _, dtype in found if dtype is not None]
    if scale == 0:
        raise DataError(f"{attributes.where('scale_factor')} is 0, so that all values would be one; expected another")
    if (scale, offset) == (1, 0):
        return 1.0, 0.0, stored
    single = np.dtype(np.float32)
    is_single = all(dtype == single for dtype in types) and np.can_cast(stored, single)
    return scale, offset, single if is_single else np.dtype(np.float64)


def _single(attributes: Attributes, name: str, default: float) -> tuple[float, np.dtype[Any] | None]:
    """The number that an attribute holds, and its type."""
    value = attributes.get(name)
    if value is None and name not in attributes.names:
        return default, None
    if not isinstance(value, np.ndarray) or len(value) != 1 or not np.isfinite(value[0]):
        shown = value.tolist() if isinstance(value, np.ndarray) else value
        raise DataError(
            f"{attributes.where(name)} is {shown!r}; expected one finite number, with which to unpack values"
        )
    return value[0], value.dtype


def _missing(attributes: Attributes, stored: np.dtype[Any]) -> list[Any]:
    """Stored values that stand for none."""
    found: list[Any] = []
    for name in ("_FillValue", "missing_value"):
        values = attributes.numbers(name)
        for value in () if values is None else values:
            one = as_stored(value, stored)
            if one is not None and not any(one == other or (one != one and other != other) for other in found):
                found.append(one)
    if stored.kind == "f" and all(value != value for value in found):
        return []  # NaN is what floats have anyway
    return found


def as_stored(value: Any, stored: np.dtype[Any]) -> Any:
    """A number of an attribute in the type of the values, None where no value can be it."""
    if stored.kind == "f":
        with np.errstate(over="ignore"):
            one = stored.type(value)
        return None if np.isinf(one) and not np.isinf(value) else one
    if value.dtype.kind in "iu" and value.dtype.itemsize == stored.itemsize:
        return value.view(stored)  # bits, so that -1 is 255 where values have no sign
    least, most = np.iinfo(stored).min, np.iinfo(stored).max
    if value != value or not least <= value <= most or int(value) != value:
        return None
    return stored.type(int(value))


def _limits(attributes: Attributes, stored: np.dtype[Any], is_scaled: bool) -> tuple[Limits, bool]:
    """The least and the largest value, and whether it is open if they are those of packed values."""
    pair = attributes.numbers("valid_range")
    ends: list[Any] = [None, None]
    if pair is not None and len(pair) == 2:
        ends = [pair[0], pair[1]]
    for i, name in enumerate(("valid_min", "valid_max")):
        one = attributes.numbers(name)
        if one is not None and len(one) == 1:
            ends[i] = one[0]
    is_open = is_scaled and stored.kind != "f" and any(end is not None and end.dtype.kind == "f" for end in ends)
    found: list[Any] = []
    for end in ends:
        if end is None or end != end:
            found.append(None)
        elif stored.kind == "f":
            found.append(float(stored.type(end)))
        elif end.dtype.kind in "iu" and end.dtype.itemsize == stored.itemsize:
            found.append(int(end.view(stored)))
        else:
            found.append(end.item())
    return (found[0], found[1]), is_open


def _whole(limit: Any, stored: np.dtype[Any], is_high: int) -> Any:
    """A limit in the type of stored numbers, None where it excludes none of them."""
    if limit is None or stored.kind == "f":
        return None if limit is None else stored.type(limit)
    least, most = np.iinfo(stored).min, np.iinfo(stored).max
    if is_high:
        return None if limit >= most else int(max(np.floor(limit), least - 1))
    return None if limit <= least else int(min(np.ceil(limit), most + 1))


def _in_words(number: float, dtype: np.dtype[Any]) -> str:
    """With the digits that its type has."""
    with np.errstate(over="ignore"):
        short = np.float32(number)
    return f"{short:.7g}" if dtype == np.float32 and short == number else f"{number:.12g}"


def _added(offset: float, dtype: np.dtype[Any]) -> str:
    return f" {'+-'[offset < 0]} {_in_words(abs(offset), dtype)}" if offset else ""


def _shown(value: Any) -> str:
    """A number as a user would write it; nothing for None."""
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float | np.floating) else str(int(value))
