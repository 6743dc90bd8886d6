"""ROOT files as tables: the branches of their trees (TTree) and the fields of their RNTuples; uproot does the reading.

Numbers, arrays of fixed size and strings are columns.  Branches whose rows differ in length are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from distbp.errors import DataError
from distbp.tables.row_table import STRING_BYTES, Part, RowColumn, RowTable
from distbp.tables.stored_array import plain, why_no_data
from distbp.tables.table import TableColumn

TREES = ("TTree", "TChain", "TNtuple", "TNtupleD", "ROOT::RNTuple")
NUMBERS = {"bool": "?", "float": "f4", "double": "f8", "std::byte": "u1", "char": "i1"}
_INTEGER = re.compile(r"(?:std::)?(u?)int(8|16|32|64)_t")
_ARRAY = re.compile(r"std::array<(.+),\s*([0-9]+)>")


def root_table(path: str) -> RowTable:
    """The columns of all trees of a file, called `tree/branch` where there are several.  Raises DataError."""
    with _opened(path) as file:
        names = [name for name, kind in file.classnames(cycle=False).items() if kind in TREES]
        if not names:
            raise DataError(
                f"{path}: no tree in this ROOT file; it has {', '.join(file.keys(cycle=False)[:10]) or 'nothing'}"
            )
        columns = []
        for name in names:
            source = _Tree(path, name, int(file[name].num_entries))
            prefix = f"{name}/" if len(names) > 1 else ""
            columns += [_column(prefix, source, branch) for branch in _branches(file[name])]
    return RowTable(path, columns)


@dataclass(frozen=True)
class _Branch:
    """A branch, or one leaf of it: the name, the shape of a row, the type; why it is no column, or ""."""

    name: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    problem: str = ""


class _opened:  # noqa: N801 - a context manager, used as a function
    """A ROOT file; what uproot raises about a damaged one becomes a DataError."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> Any:
        try:
            import uproot
        except ImportError:
            raise DataError(f"{self._path}: reading ROOT files needs uproot: pip install 'distbp[tables]'") from None
        try:
            self._file = uproot.open(Path(self._path), object_cache=None, array_cache=None)
        except Exception as error:  # whatever its readers meet in a damaged file
            raise _damaged(self._path, error) from None
        return self._file

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._file.close()
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise _damaged(self._path, error) from None


def _damaged(path: str, error: Exception) -> DataError:
    what = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{path}: cannot be read by uproot: {what}")


class _Tree:
    """The rows of a tree.  A key is the name of a branch; with a null character behind it, the name of a leaf."""

    def __init__(self, path: str, tree: str, rows: int) -> None:
        self._path, self._tree = path, tree
        self.rows: int | None = rows

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        with _opened(self._path) as file:
            tree = file[self._tree]
            for first in range(0, self.rows or 0, rows):
                last = min(first + rows, self.rows or 0)
                yield [self._part(tree, key, first, last) for key in keys]

    def _part(self, tree: Any, key: str, first: int, last: int) -> Part:
        name, _, leaf = key.partition("\0")
        array = tree[name].array(entry_start=first, entry_stop=last, library="np")
        array = np.asarray(array[leaf] if leaf else array)
        if len(array) != last - first:
            raise DataError(
                f"{self._path}: {name}: has {len(array)} rows of {last - first} after row {first}; it is cut"
            )
        return array if array.dtype.kind == "O" else plain(array, f"{self._path}: {name}"), None


def _column(prefix: str, source: _Tree, branch: _Branch) -> RowColumn:
    problem = branch.problem or why_no_data(branch.dtype)
    size = prod(branch.shape) * (branch.dtype.itemsize + STRING_BYTES * (branch.dtype.kind in "SUO"))
    about = TableColumn(prefix + branch.name, not_data=problem)
    return RowColumn(about, source, branch.key, branch.shape, size, problem)


def _branches(tree: Any) -> Iterator[_Branch]:
    for name in tree.keys(recursive=True):
        item = tree[name]
        if hasattr(item, "interpretation"):
            yield from _of_tree(name, item)
        elif item.typename:
            yield _of_tuple(name, item.typename)


def _of_tree(name: str, branch: Any) -> Iterator[_Branch]:
    kind = type(branch.interpretation).__name__
    if kind == "AsDtype":
        dtype = np.dtype(branch.interpretation.to_dtype)
        shape, dtype = dtype.shape, dtype.base
        if dtype.names is None:
            yield _Branch(name, name, shape, dtype)
        for leaf in dtype.names or ():
            yield _Branch(f"{name}.{leaf}", f"{name}\0{leaf}", (*shape, *dtype[leaf].shape), dtype[leaf].base)
    elif kind == "AsStrings":
        yield _Branch(name, name, (), np.dtype("U1"))
    elif not len(branch.branches):
        what = "has rows of different lengths" if kind == "AsJagged" else f"is of type {branch.typename}"
        yield _Branch(name, name, (), np.dtype("f8"), f"{what}; expected numbers, arrays of one size, or strings")


def _of_tuple(name: str, typename: str) -> _Branch:
    shape, inner = [], typename
    while match := _ARRAY.fullmatch(inner):
        shape.append(int(match[2]))
        inner = match[1]
    integer = _INTEGER.fullmatch(inner)
    if inner == "std::string" and not shape:
        return _Branch(name, name, (), np.dtype("U1"))
    code = f"{'u' if integer[1] else 'i'}{int(integer[2]) // 8}" if integer else NUMBERS.get(inner, "")
    if code:
        return _Branch(name, name, tuple(shape), np.dtype(code))
    what = "has rows of different lengths" if "vector" in typename else f"is of type {typename}"
    return _Branch(name, name, (), np.dtype("f8"), f"{what}; expected numbers, arrays of one size, or strings")
