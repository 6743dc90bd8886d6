"""Groups that are one column, made with h5py in the way of the libraries that write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.data import sparse_rows
from distbp.data.stored import is_column, open_stored
from distbp.errors import DataError

DENSE = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, 4, 0]], "f4")
CSR = {"data": np.float32([2, 1, 3, 4]), "indices": np.int32([1, 3, 0, 2]), "indptr": np.int32([0, 2, 2, 4])}
CSC = {"data": np.float32([3, 2, 4, 1]), "indices": np.int32([2, 0, 2, 0]), "indptr": np.int32([0, 1, 2, 3, 4])}


@pytest.fixture
def file(tmp_path: Path) -> h5py.File:
    return h5py.File(tmp_path / "a.h5", "w")


def add(file: h5py.File, members: dict[str, Any], attributes: dict[str, Any] | None = None, name: str = "g") -> None:
    group = file.create_group(name)
    for key, value in members.items():
        group[key] = np.array(value, object) if isinstance(value, list) else value
    for key, value in (attributes or {}).items():
        group.attrs[key] = value
    file.flush()


def read(file: h5py.File, name: str = "g", *index: Any) -> tuple[list[Any], list[Any] | None]:
    assert isinstance(file[name], h5py.Dataset) or is_column(file[name])
    stored = open_stored(file, "a.h5", file[name])
    assert not stored.is_plain
    assert stored.notes
    values, missing = stored.read(index or (slice(None),) * len(stored.shape))
    assert values.dtype == stored.dtype
    return values.tolist(), None if missing is None else missing.tolist()


# Categories and masks


def test_categories(file: h5py.File) -> None:
    add(file, {"codes": np.int8([1, -1, 0, 1]), "categories": ["B cell", "T"]}, {"encoding-type": "categorical"})
    values, missing = read(file)
    assert (values[0], values[2], values[3]) == ("T", "B cell", "T")
    assert missing == [False, True, False, False]
    assert open_stored(file, "a.h5", file["g"]).read((2,))[0].tolist() == "B cell"


def test_categories_that_are_numbers(file: h5py.File) -> None:
    add(file, {"codes": np.int8([1, 0, -1]), "categories": np.array([0.5, 2.5])})
    values, missing = read(file)
    assert (values[:2], missing) == ([2.5, 0.5], [False, False, True])
    assert np.isnan(values[2])


def test_a_category_that_is_not_there(file: h5py.File) -> None:
    add(file, {"codes": np.int8([1, 2, -1]), "categories": ["a", "b"]}, {"encoding-type": "categorical"})
    with pytest.raises(DataError, match=r"a\.h5: g/codes, row 1: category 2 is stored, and there are 2; the file is"):
        read(file)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (np.int64([7, 0, 9]), "nullable-integer", [7, 0, 9]),
        (np.array([True, False, False]), "nullable-boolean", [True, False, False]),
        (["a", "", "c"], "nullable-string-array", ["a", "", "c"]),
    ],
)
def test_values_under_a_mask(file: h5py.File, values: Any, kind: str, expected: list[Any]) -> None:
    add(file, {"values": values, "mask": np.array([False, True, False])}, {"encoding-type": kind})
    found, missing = read(file)
    assert (found[0], found[2], missing) == (expected[0], expected[2], [False, True, False])
    assert read(file, "g", slice(2, 3)) == ([expected[2]], None)


def test_a_mask_of_another_length(file: h5py.File) -> None:
    add(file, {"values": np.arange(3), "mask": np.zeros(2, bool)}, {"encoding-type": "nullable-integer"})
    with pytest.raises(DataError, match=r"a\.h5: g/mask has the shape \(2,\) and type bool; expected truth values"):
        read(file)


def test_categories_of_a_pandas_table(file: h5py.File) -> None:
    table = np.zeros(3, [("index", "i8"), ("c", "i1")])
    table["c"] = [1, -1, 0]
    file["df/table"] = table
    file["df/table"].attrs["c_meta"] = np.bytes_("category")
    with pytest.raises(DataError, match="the categories are not in the file"):
        open_stored(file, "a.h5", file["df/table"], "c")
    file["df/meta/c/meta/table"] = np.array([(0, b"no"), (1, b"yes")], [("index", "i8"), ("values", "S3")])
    file.flush()
    values, missing = open_stored(file, "a.h5", file["df/table"], "c").read((slice(None),))
    assert (values[0], values[2]) == ("yes", "no")
    assert missing is not None
    assert missing.tolist() == [False, True, False]
    assert open_stored(file, "a.h5", file["df/table"], "index").is_plain


def test_categories_of_an_old_anndata_file(file: h5py.File) -> None:
    file["obs/kind"] = np.int8([1, 0])
    file["obs/__categories/kind"] = np.array([b"a", b"b"])
    file["obs/kind"].attrs["categories"] = file["obs/__categories/kind"].ref
    file.flush()
    assert read(file, "obs/kind") == (["b", "a"], None)


# Sparse matrices


SHAPE = {"shape": np.int64([3, 4])}


@pytest.mark.parametrize(
    ("members", "attributes"),
    [
        (CSR, {"encoding-type": "csr_matrix", **SHAPE}),
        (CSC, {"encoding-type": "csc_matrix", **SHAPE}),
        (CSR, {"h5sparse_format": "csr", "h5sparse_shape": np.int64([3, 4])}),
        (CSC, SHAPE),
        ({**CSR, "shape": np.int32([4, 3]), "barcodes": np.array([b"A", b"C", b"G"])}, {}),  # 10x: genes by cells
        ({"data": CSC["data"], "ir": CSC["indices"], "jc": CSC["indptr"]}, {"MATLAB_sparse": np.uint64(3)}),
    ],
    ids=["csr", "csc", "old", "unnamed", "10x", "MATLAB"],
)
def test_sparse_matrices(file: h5py.File, members: dict[str, Any], attributes: dict[str, Any]) -> None:
    add(file, members, attributes)
    assert read(file)[0] == DENSE.tolist()
    assert read(file, "g", slice(0, 3, 2), slice(1, 4, 2))[0] == DENSE[::2, 1::2].tolist()
    assert read(file, "g", -1, slice(None))[0] == DENSE[-1].tolist()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_part_of_any_sparse_matrix(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 6))
    numbers = data.draw(st.lists(st.integers(0, 3), min_size=rows * columns, max_size=rows * columns))
    dense = np.array(numbers, "i4").reshape(rows, columns)
    index = tuple(
        slice(data.draw(st.integers(0, n)), data.draw(st.integers(0, n)), data.draw(st.integers(1, 4)))
        for n in dense.shape
    )
    with h5py.File("a.h5", "w", driver="core", backing_store=False) as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_rows, "ENTRIES", 3)
        for form, matrix in (("csr", dense), ("csc", dense.T)):
            row, column = np.nonzero(matrix)
            group = file.create_group(form)
            group["data"], group["indices"] = matrix[row, column], column
            group["indptr"] = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(matrix)))])
            kind = "columns" if form == "csc" else "rows"
            members = tuple(group[name] for name in ("data", "indices", "indptr"))
            sparse = sparse_rows.SparseRows("a.h5", group, members, dense.shape, kind == "columns")
            assert np.array_equal(sparse.read(index), dense[index])


def test_entries_of_one_place_are_added(file: h5py.File) -> None:
    members = {"data": np.float32([1, 2, 4]), "indices": np.int32([1, 0, 1]), "indptr": np.int32([0, 3])}
    add(file, members, {"encoding-type": "csr_matrix", "shape": np.int64([1, 2])})
    assert read(file)[0] == [[2, 5]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"indices": np.int32([1, 4, 0, 2])}, r"a\.h5: g, row 0: column 4 is stored, and there are 4"),
        ({"indices": np.int32([1, 3, -1, 2])}, r"a\.h5: g, row 2: column -1 is stored"),
        ({"indptr": np.int32([0, 2, 1, 4])}, r"a\.h5: g/indptr, row 2: 1; expected numbers from 0 to at most 4"),
        ({"indptr": np.int32([0, 2, 2, 9])}, r"a\.h5: g/indptr, row 3: 9; expected"),
        ({"indptr": np.int32([1, 2, 2, 4])}, r"a\.h5: g/indptr, row 0: 1; expected"),
        ({"indptr": np.int32([0, 2])}, r"a\.h5: g/indptr has 2 values of type int32; expected 4 whole numbers"),
        ({"indices": np.int32([1])}, r"a\.h5: g/data has 4 values and a\.h5: g/indices 1; expected as many"),
        ({"indices": np.float64([1, 3, 0, 2])}, r"a\.h5: g/indices is of type float64; expected whole numbers"),
    ],
)
def test_damaged_sparse_matrices(file: h5py.File, changes: dict[str, Any], words: str) -> None:
    add(file, {**CSR, **changes}, {"encoding-type": "csr_matrix", **SHAPE})
    with pytest.raises(DataError, match=words):
        read(file)


def test_a_square_matrix_that_does_not_say_how_it_is_stored(file: h5py.File) -> None:
    members = {"data": np.float32([1]), "indices": np.int32([1]), "indptr": np.int32([0, 1, 1])}
    add(file, members, {"shape": np.int64([2, 2])})
    with pytest.raises(DataError, match="nothing says whether it is stored by rows or by columns"):
        read(file)


# Octave and openPMD


def test_octave(file: h5py.File) -> None:
    new = {"OCTAVE_NEW_FORMAT": np.uint8(1)}
    add(file, {"type": np.bytes_("matrix"), "value": np.arange(6.0).reshape(3, 2)}, new)
    assert read(file)[0] == [[0, 2, 4], [1, 3, 5]]
    add(file, {"type": np.bytes_("bool matrix"), "value": np.uint8([[1, 0]])}, new, "b")
    assert read(file, "b")[0] == [[True], [False]]
    add(file, {"type": np.bytes_("string"), "value": np.int8([[97], [98]])}, new, "s")
    assert read(file, "s")[0] == ["ab"]
    scalars = np.array((0.0, 1.0, 0.1), [("base", "f8"), ("limit", "f8"), ("increment", "f8")])
    add(file, {"type": np.bytes_("range"), "value": scalars}, new, "r")
    with pytest.raises(DataError, match=r"a\.h5: r is of Octave's type range; store a real matrix, such as full\(x\)"):
        read(file, "r")


def test_a_constant_of_openpmd(file: h5py.File) -> None:
    add(file, {}, {"value": 2.5, "shape": np.uint64([4]), "unitSI": 1.0})
    assert read(file)[0] == [2.5] * 4
    assert read(file, "g", slice(0, 4, 3))[0] == [2.5, 2.5]


def test_other_groups_are_no_columns(file: h5py.File) -> None:
    add(file, {"x": np.zeros(3), "values": np.zeros(3)})
    assert not is_column(file["g"])
    assert not is_column(file)
    with pytest.raises(DataError, match=r"a\.h5: g is a group; name a data set in it: values, x"):
        open_stored(file, "a.h5", file["g"])
