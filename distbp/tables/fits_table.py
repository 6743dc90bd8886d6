"""FITS files as tables: the columns of their tables, and images, whose last axis in FITS's order has the samples.

Rows lie in the file as they are, so that they are read block by block without any other library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.fits_header import HDU, fits_headers
from distbp.tables.packed_file import is_packed, unpacked
from distbp.tables.row_table import STRING_BYTES, Part, RowColumn, RowTable
from distbp.tables.stored_array import StoredArray, check_shape, plain
from distbp.tables.table import TableColumn

BINARY = {"L": "S1", "X": ">u1", "B": ">u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "S", "E": ">f4", "D": ">f8"}
OTHERS = {"C": (8, "complex numbers"), "M": (16, "complex numbers"), "P": (8, "rows of different lengths")}
OTHERS["Q"] = (16, OTHERS["P"][1])
IMAGES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
UNSIGNED = {">u1": (-128.0, "i1"), ">i2": (2.0**15, "u2"), ">i4": (2.0**31, "u4"), ">i8": (2.0**63, "u8")}
_BINARY_FORM = re.compile(r"\s*([0-9]*)([LXBIJKAEDCMPQ])")
_TEXT_FORM = re.compile(r"\s*([AIFED])([0-9]+)")


def fits_table(path: str) -> RowTable:
    """The columns of all tables and images of a file.  Raises DataError."""
    columns: list[RowColumn] = []
    hdus = [hdu for hdu in fits_headers(path) if hdu.size]
    several = len(hdus) > 1
    for hdu in hdus:
        name = hdu.text("EXTNAME") or f"hdu{hdu.number}"
        kind = hdu.text("XTENSION") or "IMAGE"
        if kind in ("BINTABLE", "TABLE", "A3DTABLE"):
            columns += _table_columns(path, hdu, f"{name}/" if several else "", kind == "TABLE")
        elif kind == "IMAGE":
            columns.append(_image_column(path, hdu, name if several or hdu.text("EXTNAME") else "image"))
    return RowTable(path, _distinct(columns))


@dataclass(frozen=True)
class _Field:
    """A column of a table: its type in the file, the shape of a row, and how stored values become real ones."""

    name: str
    offset: int
    size: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    decode: Callable[[NDArray[Any]], Part]
    units: str = ""
    notes: tuple[str, ...] = ()
    problem: str = ""


class _Rows:
    """The rows of a table or of an image."""

    def __init__(self, array: StoredArray, fields: dict[str, _Field]) -> None:
        self._array, self._fields = array, fields

    @property
    def rows(self) -> int | None:
        return self._array.rows

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        for block in self._array.stored(rows):
            parts = []
            for key in keys:
                stored = block[key] if key else block
                try:
                    parts.append(self._fields[key].decode(stored))
                except ValueError as error:
                    raise DataError(f"{self._array.name}: column {self._fields[key].name!r}: {error}") from None
            yield parts


def _table_columns(path: str, hdu: HDU, prefix: str, is_text: bool) -> list[RowColumn]:
    if hdu.cards.get("ZIMAGE") is True or hdu.cards.get("ZTABLE") is True:
        raise DataError(f"{path}: part {hdu.number} is compressed inside; unpack it first: funpack {path}")
    if len(hdu.axes) != 2 or not 0 <= hdu.whole("TFIELDS") <= 999:
        raise DataError(f"{path}: part {hdu.number} is no table of rows; its header is damaged")
    fields, at = {}, 0
    for number in range(1, hdu.whole("TFIELDS") + 1):
        field = (_text_field if is_text else _binary_field)(hdu, number, at, f"{path}: part {hdu.number}")
        at = field.offset + field.size
        fields[str(number)] = field
    if at > hdu.axes[0]:
        raise DataError(f"{path}: part {hdu.number} has columns of {at} bytes in rows of {hdu.axes[0]}; it is damaged")
    dtype = np.dtype(
        {
            "names": list(fields),
            "formats": [(field.dtype, field.shape) if field.shape else field.dtype for field in fields.values()],
            "offsets": [field.offset for field in fields.values()],
            "itemsize": hdu.axes[0],
        }
    )
    source = _Rows(_array(path, hdu, (hdu.axes[1],), dtype), fields)
    return [_column(prefix + field.name, source, key, field) for key, field in fields.items()]


def _column(name: str, source: _Rows, key: str, field: _Field) -> RowColumn:
    about = TableColumn(name, field.units, (), field.problem, field.notes)
    size = prod(field.shape) * (field.dtype.itemsize + STRING_BYTES * (field.dtype.kind == "S"))
    return RowColumn(about, source, key, field.shape, size, field.problem)


def _binary_field(hdu: HDU, number: int, at: int, where: str) -> _Field:
    match = _BINARY_FORM.match(hdu.text(f"TFORM{number}"))
    if match is None:
        raise DataError(f"{where}: TFORM{number} is {hdu.text(f'TFORM{number}')!r}, which FITS does not have")
    name, count, kind = hdu.text(f"TTYPE{number}") or f"col{number}", int(match[1] or 1), match[2]
    if kind in OTHERS or not count:
        size, what = OTHERS.get(kind, (0, ""))
        problem = f"has {what or 'no values'}; expected numbers or strings"
        return _Field(name, at, size * count, np.dtype("u1"), (size * count,), _unchanged, problem=problem)
    shape = _shape(hdu, number, count)
    if kind == "A":
        width = shape[-1] if len(shape) > 1 else count
        strings = np.dtype(f"S{width}")
        return _Field(name, at, count, strings, shape[:-1] if len(shape) > 1 else (), _text)
    if kind == "X":
        return _Field(name, at, -(-count // 8), np.dtype("u1"), (-(-count // 8),), _bits(count))
    dtype = np.dtype(BINARY[kind])
    if kind == "L":
        return _Field(name, at, count, dtype, shape, _logical)
    scaling = _scaling(hdu, dtype, f"TSCAL{number}", f"TZERO{number}", f"TNULL{number}")
    units = hdu.text(f"TUNIT{number}")
    return _Field(name, at, count * dtype.itemsize, dtype, shape, scaling.decode, units, scaling.notes)


def _shape(hdu: HDU, number: int, count: int) -> tuple[int, ...]:
    """The shape of a row: that of TDIM, whose first axis is the fastest; () for a single value."""
    found = tuple(int(size) for size in reversed(re.findall(r"[0-9]+", hdu.text(f"TDIM{number}"))))
    if found and prod(found) == count:
        return found
    return () if count == 1 else (count,)


@dataclass(frozen=True)
class _Scaling:
    """scale x stored + zero; whole numbers where that only makes them unsigned."""

    dtype: np.dtype[Any]
    scale: float
    zero: float
    null: int | None

    @property
    def _unsigned(self) -> str:
        offset, name = UNSIGNED.get(self.dtype.str.replace("|", ">"), (0.0, ""))
        return name if self.scale == 1 and self.zero == offset else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done, in words."""
        if (self.scale, self.zero) == (1, 0) or self._unsigned:
            return ()
        return (f"unpacked: {self.scale:g} x stored + {self.zero:g}",)

    def decode(self, stored: NDArray[Any]) -> Part:
        """The values, and where they are missing."""
        missing = stored == self.null if self.null is not None and self.dtype.kind in "iu" else None
        native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        if self._unsigned:  # the highest bit turned around
            unsigned = native.view(f"u{native.itemsize}") ^ np.array(
                1 << (8 * native.itemsize - 1), f"u{native.itemsize}"
            )
            return unsigned.view(self._unsigned), missing
        if (self.scale, self.zero) == (1, 0):
            return native, missing
        return native * np.float64(self.scale) + np.float64(self.zero), missing


def _scaling(hdu: HDU, dtype: np.dtype[Any], scale: str, zero: str, null: str) -> _Scaling:
    factor, offset = hdu.number_of(scale), hdu.number_of(zero)
    mark = hdu.cards.get(null)
    return _Scaling(
        dtype,
        1.0 if factor is None else float(factor),
        0.0 if offset is None else float(offset),
        mark if isinstance(mark, int) and not isinstance(mark, bool) else None,
    )


def _unchanged(stored: NDArray[Any]) -> Part:
    return stored, None


def _text(stored: NDArray[Any]) -> Part:
    texts = plain(np.ascontiguousarray(stored), "text")
    found = np.empty(texts.size, object)
    found[:] = [text.split("\0")[0].rstrip(" ") for text in texts.reshape(-1).tolist()]
    return found.reshape(texts.shape), None


def _bits(count: int) -> Callable[[NDArray[Any]], Part]:
    return lambda stored: (np.unpackbits(np.ascontiguousarray(stored), axis=-1, count=count).astype(bool), None)


def _logical(stored: NDArray[Any]) -> Part:
    missing = (stored != b"T") & (stored != b"F")
    return stored == b"T", missing if missing.any() else None


def _text_field(hdu: HDU, number: int, at: int, where: str) -> _Field:
    """A column of a table that is written in characters."""
    match = _TEXT_FORM.match(hdu.text(f"TFORM{number}"))
    if match is None:
        raise DataError(f"{where}: TFORM{number} is {hdu.text(f'TFORM{number}')!r}, which FITS does not have")
    kind, width = match[1], int(match[2])
    name, offset = hdu.text(f"TTYPE{number}") or f"col{number}", hdu.whole(f"TBCOL{number}", 1) - 1
    dtype, null = np.dtype(f"S{width}"), hdu.text(f"TNULL{number}").strip()
    if width < 1 or offset < 0 or offset + width > hdu.axes[0]:
        raise DataError(f"{where}: column {name!r} is outside its rows; the header is damaged")
    if kind == "A":
        return _Field(name, offset, width, dtype, (), _text)
    scaling = _scaling(hdu, np.dtype(np.float64), f"TSCAL{number}", f"TZERO{number}", "")

    def decode(stored: NDArray[Any]) -> Part:
        words = [word.decode("latin-1").strip() for word in stored.tolist()]
        missing = np.array([not word or word == null for word in words])
        numbers = ["0" if gone else word.upper().replace("D", "E") for word, gone in zip(words, missing, strict=True)]
        if kind == "I" and not scaling.notes:
            return np.array([int(number) for number in numbers], np.int64), missing
        return scaling.decode(np.array([float(number) for number in numbers]))[0], missing

    return _Field(name, offset, width, dtype, (), decode, hdu.text(f"TUNIT{number}"), scaling.notes)


def _image_column(path: str, hdu: HDU, name: str) -> RowColumn:
    if hdu.whole("BITPIX") not in IMAGES or hdu.whole("PCOUNT") or hdu.whole("GCOUNT", 1) != 1:
        raise DataError(f"{path}: part {hdu.number} is no array of numbers (BITPIX {hdu.whole('BITPIX')})")
    dtype, shape = np.dtype(IMAGES[hdu.whole("BITPIX")]), hdu.axes[::-1]
    scaling = _scaling(hdu, dtype, "BSCALE", "BZERO", "BLANK")
    field = _Field(name, 0, 0, dtype, shape[1:], scaling.decode, hdu.text("BUNIT"), scaling.notes)
    return _column(name, _Rows(_array(path, hdu, shape, dtype), {"": field}), "", field)


def _array(path: str, hdu: HDU, shape: tuple[int, ...], dtype: np.dtype[Any]) -> StoredArray:
    packed = is_packed(path)
    check_shape(f"{path}: part {hdu.number}", shape, dtype, 2**62 if packed else os.path.getsize(path) - hdu.begin)

    @contextmanager
    def at_values() -> Iterator[IO[bytes]]:
        with unpacked(path) as file:
            file.seek(hdu.begin)
            yield file

    return StoredArray(f"{path}: part {hdu.number}", shape, dtype, at_values, seekable=not packed)


def _distinct(columns: list[RowColumn]) -> list[RowColumn]:
    """All columns; raises DataError where two have one name."""
    from distbp.tables.source_files import check_names

    check_names("the FITS file", [column.about.name for column in columns])
    return columns
