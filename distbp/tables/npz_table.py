"""NPZ files as tables: arrays, sparse matrices among them, and parts by their names."""

from __future__ import annotations

from distbp.errors import DataError
from distbp.tables.numpy_file import npz
from distbp.tables.row_table import RowColumn, RowTable
from distbp.tables.sparse_rows import PARTS, SparseRows
from distbp.tables.split_names import split_columns
from distbp.tables.stored_array import StoredArray, array_columns


def npz_tables(path: str) -> dict[str, RowTable]:
    """The parts of a file by name: "train", "val", "test"; or "" and all of it.  Raises DataError."""
    return split_columns(path, _columns(path, npz(path)))


def _columns(path: str, arrays: dict[str, StoredArray]) -> list[RowColumn]:
    columns: list[RowColumn] = []
    sparse = _sparse(path, arrays)
    used = {name: prefix for prefix, (_, names) in sparse.items() for name in names}
    done = set()
    for name, array in arrays.items():
        prefix = used.get(name)
        if prefix is None:
            columns += array_columns(name, array)
        elif prefix not in done:
            done.add(prefix)
            columns.append(sparse[prefix][0].column(prefix.rstrip("_./") or "x"))
    return columns


def _sparse(path: str, arrays: dict[str, StoredArray]) -> dict[str, tuple[SparseRows, list[str]]]:
    """The sparse matrices by what stands before "data", "indices", "indptr" and "shape", and the arrays of each."""
    found = {}
    for prefix in [name.removesuffix("data") for name in arrays if name.endswith("data")]:
        is_of_scipy = all(prefix + part in arrays for part in ("format", "shape"))
        if is_of_scipy or all(prefix + part in arrays for part in PARTS):
            kind = _format(arrays.get(prefix + "format"))
            if kind != "csr" or not all(prefix + part in arrays for part in PARTS):
                raise DataError(
                    f"{path}: a sparse matrix in the form {kind!r}; expected CSR: "
                    "scipy.sparse.save_npz(path, matrix.tocsr())"
                )
            names = [prefix + part for part in (*PARTS, "format") if prefix + part in arrays]
            found[prefix] = SparseRows(path, {part: arrays[prefix + part] for part in PARTS}), names
    return found


def _format(array: StoredArray | None) -> str:
    """What scipy writes beside the parts: "csr", "csc", …; CSR where nobody says."""
    if array is None or array.shape or array.dtype.kind not in "SU" or array.dtype.itemsize > 100:
        return "csr"
    with array.open() as file:
        content = file.read(array.dtype.itemsize)
    return content.decode("utf-32-le" if array.dtype.kind == "U" else "latin-1", "replace").strip("\0")
