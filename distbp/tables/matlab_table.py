"""MATLAB's files of version 5 to 7.2 as tables: matrices as columns, fields of structures as `a.b`; SciPy reads.

The format packs each variable as a whole and SciPy reads it as a whole: the variables that are wanted are in memory.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.tables.row_table import RowColumn, RowTable
from distbp.tables.split_names import split_columns
from distbp.tables.stored_array import plain, why_no_data
from distbp.tables.stored_rows import stored_column

ROW_VECTOR = "a row vector, taken as a column"


def matlab_tables(path: str) -> dict[str, RowTable]:
    """The variables of a file; by part where their names say so.  Raises DataError."""
    file = _File(path)
    leaves = {name: leaf for top in file.names() for name, leaf in _leaves(top, file.variable(top)).items()}
    lengths = {leaf.shape[0] for leaf in leaves.values() if hasattr(leaf, "shape") and leaf.shape and leaf.shape[0] > 1}
    columns = [_column(path, file, name, leaf, lengths) for name, leaf in leaves.items()]
    file.forget()
    return split_columns(path, columns)


class _File:
    """The variables of a file, each read when it is wanted first."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._read: dict[str, Any] = {}

    def names(self) -> list[str]:
        return [name for name, _, _ in self._call("whosmat")]

    def variable(self, top: str) -> Any:
        """A variable as SciPy gives it."""
        if top not in self._read:
            self._read[top] = self._load(top)
        return self._read[top]

    def _load(self, top: str) -> Any:
        """A variable in the types that MATLAB has it in, not those of the file, where whole doubles are bytes.

        SciPy casts complex numbers to real ones then, which must not happen: these are left as they are in the file.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            try:
                return self._call("loadmat", variable_names=[top], mat_dtype=True)[top]
            except np.exceptions.ComplexWarning:
                return self._call("loadmat", variable_names=[top])[top]

    def forget(self) -> None:
        """Frees what was read."""
        self._read.clear()

    def _call(self, function: str, **options: Any) -> Any:
        try:
            import scipy.io
        except ImportError:
            raise DataError(f"{self.path}: reading MATLAB files needs scipy: pip install 'distbp[tables]'") from None
        try:
            return getattr(scipy.io, function)(self.path, appendmat=False, **options)
        except np.exceptions.ComplexWarning:
            raise
        except Exception as error:  # whatever its readers meet in a damaged file
            raise DataError(f"{self.path}: cannot be read by SciPy: {str(error) or type(error).__name__}") from None


def _leaves(name: str, value: Any) -> dict[str, Any]:
    """What is no structure, by path."""
    fields = getattr(getattr(value, "dtype", None), "names", None)
    if not fields or value.size != 1 or type(value) is not np.ndarray:
        return {name: value}
    inside = value.reshape(-1)[0]
    return {path: leaf for field in fields for path, leaf in _leaves(f"{name}.{field}", inside[field]).items()}


class _Matrix:
    """A matrix, or strings; see `distbp.data.stored.Stored`."""

    def __init__(self, file: _File, name: str, leaf: Any, lengths: set[int]) -> None:
        self._file, self._name = file, name
        self.problem = _problem(leaf)
        self._is_sparse = hasattr(leaf, "tocsr")
        shape = tuple(leaf.shape) if not self.problem else (1, 1)
        self._is_row = len(shape) == 2 and shape[0] == 1 and shape[1] in lengths
        self.shape = () if shape in ((1, 1), (1,)) else (shape[1],) if self._is_row else shape
        dtype = np.dtype(leaf.dtype if not self.problem else float)
        self.dtype = np.dtype(object) if dtype.kind in "OSU" else dtype
        self.notes: tuple[str, ...] = (ROW_VECTOR,) if self._is_row else ()
        if self._is_sparse:
            self.notes = (*self.notes, "a sparse matrix, made dense")
        self.units = ""
        self.column_units: tuple[str, ...] = ()
        self.columns: tuple[str, ...] = ()
        self.dimensions: tuple[str, ...] = ()
        self.chunks: tuple[int, ...] | None = None
        self.is_plain = False

    def read(self, index: tuple[int | slice, ...]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        leaf = _leaves(self._name.split(".")[0], self._file.variable(self._name.split(".")[0]))[self._name]
        if self._is_sparse:
            rows = index[0] if isinstance(index[0], slice) and not self._is_row else slice(None)
            leaf = leaf.tocsr()[rows].toarray()
            index = index if self._is_row else (slice(None) if isinstance(index[0], slice) else index[0], *index[1:])
        found = (leaf[0] if self._is_row else leaf)[index]
        if found.dtype.kind == "O":
            return _cells(found), None
        return plain(np.asarray(found), self._name), None


def _column(path: str, file: _File, name: str, leaf: Any, lengths: set[int]) -> RowColumn:
    matrix = _Matrix(file, name, leaf, lengths)
    return stored_column(name, matrix, file=path, not_data=matrix.problem, problem=matrix.problem)


def _problem(leaf: Any) -> str:
    """Why a variable is no column, or ""."""
    if hasattr(leaf, "tocsr"):
        return why_no_data(np.dtype(leaf.dtype))
    if type(leaf) is not np.ndarray or leaf.dtype.names:
        return "is a structure for each element, an object or a function; expected a matrix"
    if leaf.dtype.kind == "O":
        texts = all(isinstance(cell, np.ndarray) and cell.dtype.kind == "U" and cell.size <= 1 for cell in leaf.flat)
        return "" if texts else "is a cell array; expected a matrix, or a cell array of strings"
    return why_no_data(leaf.dtype) if leaf.size else "is empty"


def _cells(cells: NDArray[Any]) -> NDArray[Any]:
    """The strings in a cell array."""
    found = np.empty(cells.size, object)
    found[:] = [str(cell.reshape(-1)[0]) if cell.size else "" for cell in cells.reshape(-1)]
    return found.reshape(cells.shape)
