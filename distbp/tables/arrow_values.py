"""The values of Arrow's arrays, for Parquet, Arrow IPC and Feather files: numbers and strings, and where they are null.

Lists, tensors and lists of lists become arrays, if all rows have the same size.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.arrow_buffers import booleans, nulls, numbers
from distbp.tables.row_table import STRING_BYTES, Part

TEXT = ("string", "large_string", "string_view")
BYTES = ("binary", "large_binary", "binary_view")
LISTS = ("list", "large_list", "list_view", "large_list_view", "fixed_size_list")
ASSUMED = 8  # numbers in a list, before any was seen


class Uneven(Exception):
    """Rows of a list that differ in size: a row, its size, and the size before."""


def kind(of: Any) -> str:
    """The name of an Arrow type without its parameters: "int64", "decimal128", "list"."""
    if hasattr(of, "extension_name"):
        return str(of.extension_name)
    return str(of).split("<")[0].split("[")[0].split("(")[0]


def problem(of: Any) -> str:
    """Why values of a type are neither numbers nor strings, or ""."""
    name = kind(of)
    if name in ("dictionary", "run_end_encoded") or name in LISTS:
        return problem(of.value_type) and f"is of type {of}; expected numbers or strings"
    if name in ("arrow.fixed_shape_tensor", "arrow.bool8", "arrow.json"):
        return problem(of.storage_type)
    good = name in NUMBERS or name in (*TEXT, *BYTES, "bool", "null") or name.startswith("decimal")
    return "" if good else f"is of type {of}; expected numbers or strings"


NUMBERS = {
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "halffloat": np.float16,
    "float": np.float32,
    "double": np.float64,
}


def shape_of(of: Any) -> tuple[int, ...] | None:
    """The shape of a row of this type; None where each row may have its own."""
    name = kind(of)
    if name == "arrow.fixed_shape_tensor":
        order = of.permutation or range(len(of.shape))
        return tuple(of.shape[i] for i in order)
    if name == "fixed_size_list":
        inner = shape_of(of.value_type)
        return None if inner is None else (of.list_size, *inner)
    return None if name in LISTS else ()


def bytes_of(of: Any) -> int:
    """About how many bytes a row of this type takes."""
    name = kind(of)
    if name in LISTS:
        size = of.list_size if name == "fixed_size_list" else ASSUMED
        return int(size) * bytes_of(of.value_type)
    if name == "arrow.fixed_shape_tensor":
        return 8 * int(prod(of.shape))
    return int(np.dtype(NUMBERS[name]).itemsize) if name in NUMBERS else STRING_BYTES


def values(array: Any, shape: tuple[int, ...] | None) -> Part:
    """The values of an array, (n, …), and where they are missing.

    `shape`: of the rows before, None where there were none.  Raises Uneven, DataError.
    """
    name = kind(array.type)
    if name == "arrow.fixed_shape_tensor":
        of = array.type
        inner, missing = _list(array.storage, (prod(of.shape),))
        order = (0, *(1 + i for i in of.permutation or range(len(of.shape))))
        whole = inner.reshape(len(array), *of.shape).transpose(order)
        return whole, None if missing is None else missing.reshape(len(array), *of.shape).transpose(order)
    if name == "arrow.bool8":
        whole_numbers, missing = values(array.storage, ())
        return whole_numbers != 0, missing
    if name == "arrow.json":
        return values(array.storage, ())
    if name in LISTS:
        return _list(array, shape)
    return _scalars(array, name)


def _scalars(array: Any, name: str) -> Part:
    missing = nulls(array) if name != "null" else None
    if name in NUMBERS:
        return numbers(array, NUMBERS[name]), missing
    if name == "bool":
        found = booleans(array)
        return found if missing is None else found & ~missing, missing
    if name == "null":
        return np.full(len(array), np.nan), np.ones(len(array), bool)
    if name.startswith("decimal"):
        return _decimals(array, int(name.removeprefix("decimal")) // 8), missing
    if name == "dictionary":
        return _dictionary(array)
    if name == "run_end_encoded":
        import pyarrow.compute

        return values(pyarrow.compute.run_end_decode(array), ())
    return _strings(array, name), missing


def _strings(array: Any, name: str) -> NDArray[Any]:
    if name.endswith("_view"):
        array = array.cast("large_string" if name in TEXT else "large_binary")
    try:
        if array.null_count:
            array = array.fill_null("" if name in TEXT else b"")
        texts = array.to_numpy(zero_copy_only=False)
        if name in BYTES:
            texts = np.array([*(text.decode() for text in texts.tolist()), None], object)[:-1]
    except UnicodeDecodeError:
        raise DataError("strings that are not UTF-8; expected text or numbers") from None
    return np.asarray(texts, object)


def _decimals(array: Any, size: int) -> NDArray[np.float64]:
    """The nearest float64, which a cast of Arrow's is not always (13 % of amounts with two digits are the next one)."""
    scale = array.type.scale
    words = np.frombuffer(array.buffers()[1], np.int32, len(array) * size // 4, array.offset * size)
    low = words.reshape(len(array), size // 4)
    number = low.view(np.int64)[:, 0] if size > 4 else low[:, 0].astype(np.int64)
    rest = low.view(np.int64)[:, 1:] if size > 8 else number[:, None] >> 63
    exact = (rest == (number >> 63)[:, None]).all(axis=1) & (np.abs(number) <= 2**53)
    missing = nulls(array)
    if missing is not None:
        exact |= missing
    if 0 <= scale <= 22:  # 10^22 is the largest power of ten that is a float64
        found = number / float(10**scale)  # of whole numbers the power is exact
        for row in np.flatnonzero(~exact).tolist():
            found[row] = float(array[row].as_py())
        return np.asarray(found)
    return np.array([float(value) if value is not None else np.nan for value in array.to_pylist()], np.float64)


def _dictionary(array: Any) -> Part:
    entries, gaps = values(array.dictionary, ())
    missing = nulls(array)
    codes = _whole(array.indices)
    if missing is not None:
        codes = np.where(missing, 0, codes)
    if not len(entries):
        return np.full(len(array), np.nan if entries.dtype.kind != "O" else "", entries.dtype), missing
    if gaps is not None:
        missing = gaps[codes] if missing is None else missing | gaps[codes]
    return entries[codes], missing


def _list(array: Any, shape: tuple[int, ...] | None) -> Part:
    """Rows of one size: (n, size, …)."""
    name = kind(array.type)
    absent = nulls(array)
    before = shape[0] if shape else None
    size = array.type.list_size if name == "fixed_size_list" else _size(array, before, absent)
    inner, gaps = values(array.flatten(), None if shape is None else shape[1:])
    rows = len(array) - (0 if absent is None else int(absent.sum()))
    inner = inner.reshape(rows, size, *inner.shape[1:])
    gaps = None if gaps is None else gaps.reshape(inner.shape)
    if absent is None:
        return inner, gaps
    whole, missing = (
        np.zeros((len(array), *inner.shape[1:]), inner.dtype),
        np.ones((len(array), *inner.shape[1:]), bool),
    )
    whole[~absent], missing[~absent] = inner, False if gaps is None else gaps
    return whole, missing


def _size(array: Any, before: int | None, absent: NDArray[np.bool_] | None) -> int:
    """How many values each row has.  Raises Uneven."""
    sizes = _whole(array.sizes) if kind(array.type).endswith("_view") else np.diff(_whole(array.offsets))
    there = np.arange(len(sizes)) if absent is None else np.flatnonzero(~absent)
    if before is None:
        before = int(sizes[there[0]]) if len(there) else 0
    wrong = there[sizes[there] != before]
    if len(wrong):
        raise Uneven(int(wrong[0]), int(sizes[wrong[0]]), before)
    return before


def _whole(array: Any) -> NDArray[Any]:
    """Of an array of whole numbers."""
    return numbers(array, NUMBERS[kind(array.type)])
