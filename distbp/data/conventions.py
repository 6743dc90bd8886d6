"""Data sets as their authors meant them: what attributes and types of HDF5 say about the values that are stored.

Known are netCDF's and xarray's packing, missing values, truth values, times and flags; HDF5's enums; characters that
make strings; what MATLAB and R leave.  A data set without any of that is read as it is, and costs nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from math import prod
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.attributes import Attributes
from distbp.data.categories import of_old_anndata, of_pandas
from distbp.data.character_array import CharacterArray
from distbp.data.dimension_names import dimension_names
from distbp.data.named_values import NamedValues, shown
from distbp.data.packed_numbers import PackedNumbers, as_stored, packing
from distbp.data.plain_array import Index, PlainArray
from distbp.data.text_values import TextValues
from distbp.data.turned_array import TurnedArray
from distbp.data.undecodable import Undecodable
from distbp.errors import DataError

DEFAULT_FILL = "netCDF's default for what was never written"
NETCDF_FILL = {  # what netCDF writes where nothing was written; bytes are left out, see `_default_fill`
    "i2": -(2**15) + 1,
    "u2": 2**16 - 1,
    "i4": -(2**31) + 1,
    "u4": 2**32 - 1,
    "i8": -(2**63) + 2,
    "u8": 2**64 - 2,
    "f4": 9.969209968386869e36,
    "f8": 9.969209968386869e36,
}
MATLAB_CLASSES = {
    "double",
    "single",
    "logical",
    "char",
    *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)),
}
NETCDF_MARKS = {"DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates", "REFERENCE_LIST", "CLASS"}
TIME = re.compile(r"\s*\w+\s+since\s", re.IGNORECASE)


class Source(Protocol):
    """An array of a file before anything is decoded."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None

    def read(self, index: Index) -> NDArray[Any]:
        """The values at an index."""


class Step(Protocol):
    """One thing that is decoded."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what comes out."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done, in words."""

    def decode(
        self, values: NDArray[Any], missing: NDArray[np.bool_] | None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Values, and where they are missing."""


class DecodedArray:
    """A `Stored` array: a source, and the steps that make of it what was meant."""

    def __init__(
        self,
        source: Source,
        steps: Sequence[Step] = (),
        notes: Sequence[str] = (),
        attributes: Attributes | None = None,
        dimensions: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._source, self._steps = source, tuple(steps)
        self._attributes, self._dimensions = attributes, dimensions
        self.beside: Callable[[], tuple[str, ...]] = tuple  # names of columns that are stored beside it
        self.shape, self.chunks = source.shape, source.chunks
        self.dtype: np.dtype[Any] = steps[-1].dtype if steps else source.dtype
        self.notes = (*notes, *(note for step in steps for note in step.notes))
        self.is_plain = not self.notes and not steps and isinstance(source, PlainArray)

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """See `Stored`; it is looked for when it is asked for, like all that does not change values."""
        return self._dimensions() or ("",) * len(self.shape)

    @cached_property
    def units(self) -> str:
        texts = set(self._texts("units"))
        return texts.pop() if len(texts) == 1 else ""

    @cached_property
    def column_units(self) -> tuple[str, ...]:
        return self._of_columns("units")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        found = self._of_columns("columns")
        return found or (self.beside() if len(self.shape) == 2 else ())

    def _texts(self, name: str) -> tuple[str, ...]:
        return self._attributes.texts(name) if self._attributes else ()

    def _of_columns(self, name: str) -> tuple[str, ...]:
        """Texts that are as many as there are numbers in a row."""
        texts = self._texts(name)
        return texts if len(texts) == prod(self.shape[1:]) else ()

    def read(self, index: Index) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        values, missing = self._source.read(index), None
        for step in self._steps:
            try:
                values, missing = step.decode(values, missing)
            except Undecodable as error:
                row = _row(index, values.shape, error.at, self.shape)
                raise DataError(f"{self._source.name}, row {row}: {error}") from None
        return values, missing


def open_dataset(path: str, dataset: h5py.Dataset, field: str | None) -> DecodedArray:
    """A data set, or a field of a table.  Raises DataError."""
    array = PlainArray(path, dataset, field)
    attributes = Attributes(path, dataset)
    matlab = attributes.text("MATLAB_class")
    source, notes = _of_matlab(array, matlab, attributes) if matlab else _joined(array, attributes)
    steps = _enum(array) if array.is_enum else []
    if field is not None:  # attributes are those of the whole table
        steps = steps or list[Step](of_pandas(path, attributes, dataset, field))
        return DecodedArray(source, steps, notes)
    if attributes.names:
        steps = steps or list[Step](of_old_anndata(path, attributes, dataset))
        steps = steps or _numbers(attributes, dataset, source, matlab)
        steps = steps or (_texts(attributes) if source.dtype.kind == "O" else [])

    def dimensions() -> tuple[str, ...]:
        names = dimension_names(attributes, dataset)
        return (names[::-1] if matlab else names)[: len(source.shape)]

    return DecodedArray(source, steps, notes, attributes, dimensions)


def _row(index: Index, shape: tuple[int, ...], at: int, whole: tuple[int, ...]) -> int:
    """The row of the file in which a value was found that is the `at`-th of what was read."""
    if not index or not isinstance(index[0], slice):
        return index[0] % whole[0] if index and isinstance(index[0], int) else 0
    rows = range(*index[0].indices(whole[0]))
    return rows[at // max(1, prod(shape[1:]))]


def _joined(array: PlainArray, attributes: Attributes) -> tuple[Source, list[str]]:
    """Characters that make strings, joined."""
    if array.field is not None or array.stored != np.dtype("S1") or len(array.shape) < 2:
        return array, []
    joined = CharacterArray(array, attributes.text("_Encoding") or "utf-8")
    return joined, [f"strings of {joined.length} characters each, which are stored one by one"]


def _of_matlab(array: PlainArray, kind: str, attributes: Attributes) -> tuple[Source, list[str]]:
    """MATLAB stores the first axis last.  Raises DataError for what is nothing but MATLAB's."""
    if "MATLAB_empty" in attributes.names:
        raise DataError(f"{array.name} is an empty array of MATLAB; leave it out")
    if kind not in MATLAB_CLASSES or "MATLAB_object_decode" in attributes.names:
        raise DataError(
            f"{array.name} is of MATLAB's class {kind}, which MATLAB alone can read; store it there as double or char"
        )
    turned = TurnedArray(array)
    notes = [f"written by MATLAB ({kind}): axes are reversed, to {' × '.join(map(str, turned.shape))}"]
    if kind == "char":
        return CharacterArray(turned, "utf-16"), [*notes, "rows of characters are strings"]
    return turned, notes


def _numbers(attributes: Attributes, dataset: h5py.Dataset, source: Source, matlab: str) -> list[Step]:
    """What is said of numbers."""
    if source.dtype.kind not in "iuf":
        return []
    return number_steps(attributes, source.dtype, _more_missing(attributes, dataset, source.dtype), matlab)


def number_steps(
    attributes: Attributes, dtype: np.dtype[Any], more_missing: Sequence[tuple[Any, str]], matlab: str = ""
) -> list[Step]:
    """How numbers are unpacked, and which of them are names or truth values.  Raises DataError.

    `more_missing`: values that are missing though no attribute names them, and why.
    """
    packed = packing(attributes, dtype, more_missing)
    steps: list[Step] = [] if packed is None else [packed]
    if packed is None or not packed.is_scaled:
        steps += _truths(attributes, dtype, matlab) or _flags(attributes, dtype, packed)
    return steps


def _more_missing(attributes: Attributes, dataset: h5py.Dataset, dtype: np.dtype[Any]) -> list[tuple[Any, str]]:
    """Values that are missing though no attribute names them, and why."""
    found: list[tuple[Any, str]] = []
    default = _default_fill(attributes, dataset, dtype)
    if default is not None:
        found.append((default, DEFAULT_FILL))
    found += missing_times(attributes, dtype)
    if dtype.kind == "i" and "rhdf5-NA.OK" in attributes.names:
        is_logical = attributes.text("storage.mode") == "logical"
        if dtype.itemsize >= 4 or is_logical:
            found.append((np.iinfo(dtype).min, "R's NA"))
    elif dtype == np.int8 and attributes.text("storage.mode") == "logical":
        found.append((-128, "R's NA"))
    return found


def is_default_fill(note: str) -> bool:
    """Whether a note of a column is about netCDF's default, which all of its variables have."""
    return DEFAULT_FILL in note


def missing_times(attributes: Attributes, dtype: np.dtype[Any]) -> list[tuple[Any, str]]:
    """What xarray writes for a time that is not there."""
    is_time = TIME.match(attributes.text("units")) or _is_time(attributes.text("dtype"))
    return [(dtype.type(-(2**63)), "xarray's NaT")] if dtype == np.int64 and is_time else []


def _is_time(dtype: str) -> bool:
    return dtype.startswith(("timedelta64", "datetime64"))


def _default_fill(attributes: Attributes, dataset: h5py.Dataset, dtype: np.dtype[Any]) -> Any:
    """netCDF's fill value, where netCDF has put it at all places that were not written; otherwise None.

    netCDF says so by giving the data set this value as HDF5's own fill value.  Bytes have none here, as in netCDF's
    documentation and ncdump: each of their 256 values may be a number, and 255 in an image is one.  (netCDF4-python
    masks them all the same; xarray has no default fill values at all.)
    """
    default = NETCDF_FILL.get(dtype.str[1:])
    if default is None or not attributes.names & NETCDF_MARKS or "_FillValue" in attributes.names:
        return None
    if dataset.id.get_create_plist().fill_value_defined() != h5py.h5d.FILL_VALUE_USER_DEFINED:
        return None
    value = np.zeros((), dtype)
    dataset.id.get_create_plist().get_fill_value(value)
    return dtype.type(default) if value == dtype.type(default) else None


def _truths(attributes: Attributes, dtype: np.dtype[Any], matlab: str) -> list[Step]:
    """Numbers that are truth values: xarray's, R's and MATLAB's."""
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        return []
    for is_so, whose in (
        (attributes.text("dtype") == "bool", "xarray"),
        (attributes.text("storage.mode") == "logical", "R"),
        (matlab == "logical", "MATLAB"),
    ):
        if is_so:
            return [NamedValues({0: False, 1: True}, notes=(f"truth values of {whose}",))]
    return []


def _flags(attributes: Attributes, dtype: np.dtype[Any], packed: PackedNumbers | None) -> list[Step]:
    """Numbers that CF gives names."""
    values, texts = attributes.numbers("flag_values"), attributes.texts("flag_meanings")
    meanings = texts[0].split() if len(texts) == 1 else list(texts)
    if values is None or "flag_masks" in attributes.names or dtype.kind not in "iu":
        return []
    numbers = [as_stored(value, packed.stored if packed else dtype) for value in values]
    if len(meanings) != len(numbers) or None in numbers or len({int(number) for number in numbers}) < len(numbers):
        return []
    names = {int(number): meaning for number, meaning in zip(numbers, meanings, strict=True)}
    return [NamedValues(names, notes=(f"names for numbers (flag_meanings): {shown(names)}",))]


def _enum(array: PlainArray) -> list[Step]:
    """The members of an enum; truth values where they are FALSE and TRUE."""
    members = array.members()
    missing = {number for name, number in members.items() if name == "NA"}
    names: dict[int, Any] = {number: name for name, number in members.items() if name != "NA"}
    notes = [f"missing where NA ({min(missing)}) is stored"] if missing else []
    nothing = array.nothing()
    if nothing is not None and nothing not in names:
        missing.add(nothing)
        notes.append(f"missing where {nothing} is stored, which the type has no bits for (R's NA)")
    truths = {number: name.lower() == "true" for number, name in names.items()}
    if sorted(name.lower() for name in names.values()) == ["false", "true"]:
        return [NamedValues(truths, frozenset(missing), ("truth values of an HDF5 enum", *notes))]
    return [NamedValues(names, frozenset(missing), (f"names of an HDF5 enum: {shown(names)}", *notes))]


def _texts(attributes: Attributes) -> list[Step]:
    """Texts that stand for no value."""
    words = [word for name in ("_FillValue", "missing_value") for word in attributes.texts(name)]
    notes = [f"missing where {word!r} is stored" for word in words]
    is_na = attributes.numbers("as.na")
    if is_na is not None and is_na.any():
        words.append("NA")
        notes.append("missing where 'NA' is stored (R's NA)")
    return [TextValues(frozenset(words), tuple(notes))] if words else []
