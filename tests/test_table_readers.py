"""Readers of `distbp import`: arrays, Parquet and Arrow as tables; formats are known by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import sys
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distbp.errors import DataError, UsageError
from distbp.tables import row_table
from distbp.tables.formats import format_of
from distbp.tables.sources import SourceOptions, open_sources
from distbp.tables.table import Table, Values

RNG = np.random.default_rng(3)
X = RNG.standard_normal((50, 4))
Y = np.arange(50) % 3


def tables(*paths: Path, test: Sequence[Path] = (), arrays: str = "pair", **options: Any) -> dict[str, list[Table]]:
    return open_sources([*map(str, paths)], [*map(str, test)], SourceOptions(**options), arrays=arrays)


def table(*paths: Path) -> Table:
    found = tables(*paths)
    assert list(found) == ["train"]
    assert len(found["train"]) == 1
    return found["train"][0]


def read(one: Table, *names: str) -> list[Values]:
    """The columns, all blocks end to end."""
    blocks = list(one.blocks(names))
    found = []
    for parts in zip(*blocks, strict=True):
        gaps = [np.zeros(v.array.shape, bool) if v.missing is None else v.missing for v in parts]
        missing = np.concatenate(gaps)
        found.append(Values(np.concatenate([v.array for v in parts]), missing if missing.any() else None))
    return found


def not_data(one: Table) -> dict[str, str]:
    return {column.name: column.not_data for column in one.columns if column.not_data}


def refused(message: str, *paths: Path, kind: type[Exception] = DataError, **options: Any) -> None:
    with pytest.raises(kind, match=message):
        tables(*paths, **options)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_table, "BLOCK_BYTES", 100)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def npy_bytes(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_rows_of_an_array_in_either_order_packed_or_not(tmp_path: Path, small_blocks: None, pack: Any) -> None:
    cube = RNG.integers(-9, 9, (50, 2, 3)).astype(">i2")
    for array in (cube, np.asfortranarray(cube)):
        x, y = write(tmp_path / "a", pack(npy_bytes(array))), write(tmp_path / "b", pack(npy_bytes(Y)))
        one = table(y, x)  # the array with more dimensions is x, whichever comes first
        found, labels = read(one, "x", "y")
        assert np.array_equal(found.array, cube.reshape(50, 6))
        assert found.array.dtype == np.dtype("i2").newbyteorder("=")
        assert np.array_equal(labels.array[:, 0], Y)
        assert len(list(one.blocks(["x"]))) > 5
    assert one.place(7).endswith("row 7")


def test_idx_and_lone_arrays(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (6, 2, 2)).astype(np.uint8)
    path = write(tmp_path / "i", gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 6, 2, 2) + images.tobytes()))
    assert np.array_equal(read(table(path), "x")[0].array, images.reshape(6, 4))
    alone = tables(npy(tmp_path / "p.npy", Y), npy(tmp_path / "q.npy", Y), arrays="y")["train"]
    assert [[column.name for column in one.columns] for one in alone] == [["y"], ["y"]]
    three = [npy(tmp_path / f"{i}.npy", Y) for i in range(3)]
    refused("expected two files of arrays.*--y-from", *three)
    refused(r"x\.npy has 50 rows, and .*y\.npy has 9; each", npy(tmp_path / "x.npy", X), npy(tmp_path / "y.npy", Y[:9]))


def test_names_with_an_index(tmp_path: Path, small_blocks: None) -> None:
    R = RNG.standard_normal((50, 9, 3))
    one = table(npz(tmp_path / "a.npz", R=R, **{"a,b": Y, "s[0]": Y + 1}))
    first, middle, plain, whole = read(one, "R[:, 0]", "R[:, 2:4, 1]", "a,b", "R")
    assert np.array_equal(first.array, R[:, 0])
    assert np.array_equal(middle.array, R[:, 2:4, 1])
    assert np.array_equal(plain.array[:, 0], Y)
    assert np.array_equal(whole.array, R.reshape(50, 27))
    assert np.array_equal(read(one, "s[0]")[0].array[:, 0], Y + 1)  # a name that stands in the file is that
    assert np.array_equal(read(one, "R[samples, -1]")[0].array, R[:, -1])
    assert one.column("R[:, 0]").name == "R[:, 0]"
    for name, message in (
        ("R[:, 9]", "number 9 of 9; expected 0 to 8"),
        ("R[0]", "the first axis has the samples"),
        ("R[:, samples]", "the samples can only be along the first axis"),
        ("R[:, 0, 0, 0]", "4 axes in the brackets, and R has 3"),
        ("R[time=0]", "no axis 'time'"),
        ("Q", "no column 'Q'; it has R, \"a,b\""),
    ):
        with pytest.raises(DataError, match=message.replace("[", r"\[")):
            one.column(name)


def test_what_in_an_npz_is_no_data(tmp_path: Path) -> None:
    """The layout of MD17: energies, coordinates, charges of the atoms, and single texts."""
    E, R = X[:, :1], RNG.standard_normal((50, 9, 3))
    objects = np.array([{}] * 50, object)
    with np.errstate(all="ignore"):
        one = table(
            npz(tmp_path / "m.npz", E=E, R=R, z=np.arange(9), name="ethanol", o=objects, c=X + 1j, w=np.longdouble(Y))
        )
    assert not_data(one) == {
        "z": "9 rows, where E has 50",
        "name": "a single value",
        "o": "holds Python objects, which could run code; save it as numbers or strings",
        "c": "is of type complex128; expected integers, real numbers or strings",
        "w": f"is of type {np.dtype(np.longdouble)}; save it as float64",
    }
    assert np.array_equal(read(one, "E")[0].array, E)
    assert np.array_equal(read(one, "z")[0].array[:, 0], np.arange(9))
    for names, message in (
        (("E", "z"), "z has 9 rows, and E has 50"),
        (("name",), "column 'name' is a single value"),
        (("o",), "holds Python objects"),
    ):
        with pytest.raises(DataError, match=message):
            next(one.blocks(names))


def test_structures_are_columns(tmp_path: Path) -> None:
    rows = np.zeros(5, [("a", ">f4"), ("b", "S3"), ("c", [("d", "i2", (2,))]), ("é", "U2")])
    rows["a"], rows["b"], rows["é"], rows["c"]["d"] = np.arange(5), b"xy", "ü", [3, 4]
    a, b, d, e = read(table(npy(tmp_path / "s.npy", rows)), "a", "b", "c.d", "é")
    assert (a.array.dtype, a.array[:, 0].tolist()) == (np.float32, [0, 1, 2, 3, 4])
    assert (b.array[:, 0].tolist(), e.array[0, 0], d.array.tolist()) == (["xy"] * 5, "ü", [[3, 4]] * 5)
    assert [column.name for column in table(npz(tmp_path / "s.npz", t=rows)).columns] == ["t.a", "t.b", "t.c.d", "t.é"]


def test_a_bool_that_is_neither_and_nan(tmp_path: Path) -> None:
    raw = npy_bytes(np.array([True, False, True])).replace(b"\x01\x00\x01", b"\x02\x00\x01")
    path = write(tmp_path / "b.npy", raw)
    assert read(table(path), "x")[0].array[:, 0].tolist() == [True, False, True]
    found = read(table(npy(tmp_path / "n.npy", np.array([[1, np.nan], [np.inf, 2]]))), "x")[0]
    assert found.missing is not None
    assert found.missing.tolist() == [[False, True], [False, False]]


def test_parts_of_an_npz_by_name(tmp_path: Path) -> None:
    parts = npz(
        tmp_path / "p.npz",
        **{f"{part}_{what}": array[:n] for part, n in (("test", 5), ("val", 9), ("train", 30))
           for what, array in (("images", X), ("labels", Y))},
        classes=np.array(["a", "b", "c"]),
    )  # fmt: skip
    found = tables(parts)
    assert {name: read(one[0], "images")[0].array.shape for name, one in found.items()} == {
        "train": (30, 4),
        "val": (9, 4),
        "test": (5, 4),
    }
    assert not_data(found["val"][0]) == {"classes": "belongs to no part of the file by its name"}
    assert list(tables(parts, splits=("train",))) == ["train"]
    as_test = tables(npz(tmp_path / "x.npz", images=X, labels=Y), test=[parts])
    assert as_test["test"][0].name.endswith("p.npz: test")
    assert np.array_equal(read(as_test["test"][0], "images")[0].array, X[:5])
    refused("is a split for testing already", parts, test=[parts], kind=UsageError)
    refused("no split 'dev'", parts, splits=("dev",))
    no_test = npz(tmp_path / "v.npz", x_train=X, y_train=Y, x_val=X[:9], y_val=Y[:9])
    with pytest.raises(DataError, match=r"which split is for testing\? It has train, val"):
        tables(npz(tmp_path / "y.npz", x=X, y=Y), test=[no_test])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("x", "y", "x_test", "y_test"), {"train": ["x", "y"], "test": ["x", "y"]}),
        (("X_train", "X_test"), {"train": ["X"], "test": ["X"]}),
        (("train/x", "train/y", "validation/x", "validation/y"), {"train": ["x", "y"], "validation": ["x", "y"]}),
        (("x", "y", "train_mask", "val_mask", "test_mask"), {}),
        (("x", "y", "test_score"), {}),
        (("latest", "contrast", "y"), {}),
    ],
)
def test_which_names_are_of_parts(tmp_path: Path, names: Sequence[str], expected: dict[str, list[str]]) -> None:
    found = tables(npz(tmp_path / "a.npz", **{name: X for name in names}))
    expected = expected or {"train": list(names)}
    assert {part: [column.name for column in one[0].columns] for part, one in found.items()} == expected


def test_sparse_rows(tmp_path: Path, small_blocks: None) -> None:
    """As scipy's save_npz writes them: sorted, unsorted, a place that is given twice, empty rows."""
    dense = np.zeros((6, 40))
    dense[1, [3, 5]], dense[4, [0, 7, 39]], dense[5, 2] = [1.5, -2], [3, 4, 5], 7
    matrix = {"indptr": [0, 0, 2, 2, 2, 5, 7], "indices": [5, 3, 0, 7, 39, 2, 2], "shape": (6, 40)}
    data = np.array([-2, 1.5, 3, 4, 5, 3, 4])
    path = npz(tmp_path / "s.npz", data=data, format=b"csr", **matrix)
    one = table(path)
    assert np.array_equal(read(one, "x")[0].array, dense)
    assert len(list(one.blocks(["x"]))) == 6
    named = {f"attr_{name}": value for name, value in {**matrix, "data": data}.items()}
    both = table(npz(tmp_path / "g.npz", labels=np.arange(6), **named))
    assert np.array_equal(read(both, "attr", "labels")[0].array, dense)
    for change, message in (
        ({"indices": [5, 3, 0, 7, 40, 2, 2]}, "row 4: column 40; expected 0 to 39"),
        ({"indices": [5, 3, 0, 7, -1, 2, 2]}, "row 4: column -1"),
        ({"indptr": [0, 0, 2, 1, 2, 5, 7]}, "not in order"),
        ({"indptr": [0, 0, 2, 2, 2, 5, 9]}, "not in order"),
        ({"indptr": [1, 1, 2, 2, 2, 5, 7]}, "begins with another number than 0"),
    ):
        bad = table(npz(tmp_path / "b.npz", data=data, format=b"csr", **{**matrix, **change}))
        with pytest.raises(DataError, match=message):
            read(bad, "x")
    refused("a shape of .6, 41.|not a matrix|is no row", npz(tmp_path / "c.npz", data=X, **matrix))
    refused("which are more than can be stored", npz(tmp_path / "w.npz", data=data, **{**matrix, "shape": (6, 2**40)}))
    refused("in the form 'csc'; expected CSR", npz(tmp_path / "d.npz", data=data, format=b"csc", **matrix))
    coo = {"row": [0, 1], "col": [0, 1], "data": [1.0, 2.0], "shape": (2, 2), "format": np.array("coo")}
    refused("in the form 'coo'", npz(tmp_path / "e.npz", **coo))


def test_parquet_types(tmp_path: Path, small_blocks: None) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = 30
    tensors = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0]),
        pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6 * n, dtype="f4")), 6),
    )
    amounts = [Decimal(7 * i - 5).scaleb(-2) for i in range(n)]
    columns = {
        "big": pa.array([2**53 + 1 + i for i in range(n)]),
        "half": pa.array(np.arange(n, dtype="f2") / 4),
        "flag": pa.array([None if i % 3 == 0 else i % 2 == 0 for i in range(n)]),
        "amount": pa.array(amounts, pa.decimal128(12, 2)),
        "huge": pa.array([a * 10**40 for a in amounts], pa.decimal256(70, 2)),
        "small": pa.array(amounts, pa.decimal32(7, 2)),
        "gap": pa.array([None if i % 3 == 0 else i for i in range(n)], pa.int64()),
        "nan": pa.array([np.nan, None, *range(n - 2)], pa.float32(), from_pandas=False),
        "list": pa.array([[i, i + 1, i + 2] for i in range(n)], pa.large_list(pa.int32())),
        "nested": pa.array([[[i, 1.0], [2.0, 3.0]] for i in range(n)]),
        "lists": pa.array([None if i == 3 else [i, None] for i in range(n)], pa.list_(pa.float64())),
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * n)), 2),
        "tensor": tensors,
        "word": pa.array(["a", "b", None] * (n // 3)).dictionary_encode(),
        "view": pa.array(["é", "b", None] * (n // 3), pa.string_view()),
        "in": pa.array([{"a": i, "b": {"c": i / 2}} if i % 10 else None for i in range(n)]),
        "when": pa.array([0] * n, pa.timestamp("us")),
        "day": pa.array([0] * n, pa.date32()),
        "raw": pa.array([b"x"] * n),
        "none": pa.nulls(n),
        "points": pa.array([[{"a": 1}]] * n),
    }
    pq.write_table(pa.table(columns), tmp_path / "t", row_group_size=7)
    one = table(tmp_path / "t")
    assert not_data(one) == {
        "when": "is of type timestamp[us]; expected numbers or strings",
        "day": "is of type date32[day]; expected numbers or strings",
        "raw": "bytes",
        "none": "has no values",
        "points": "is of type list<element: struct<a: int64>>; expected numbers or strings",
    }
    names = [column.name for column in one.columns if not column.not_data]
    found = dict(zip(names, read(one, *names), strict=True))
    assert found["big"].array[:, 0].tolist() == [2**53 + 1 + i for i in range(n)]
    assert (found["half"].array.dtype, found["flag"].array.dtype) == (np.float16, np.bool_)
    assert found["amount"].array[:, 0].tolist() == [float(f"{a}") for a in amounts]
    assert found["small"].array[:, 0].tolist() == [float(f"{a}") for a in amounts]
    assert found["huge"].array[:, 0].tolist() == [float(f"{a * 10**40}") for a in amounts]
    for name in ("gap", "flag"):
        assert found[name].missing is not None
        assert found[name].missing[:, 0].tolist() == [i % 3 == 0 for i in range(n)]
    assert (found["gap"].array.dtype, found["gap"].array[[1, 29], 0].tolist()) == (np.int64, [1, 29])
    assert (found["nan"].missing[:3, 0].tolist(), np.isnan(found["nan"].array[0, 0])) == ([False, True, False], True)
    assert found["list"].array.tolist() == [[i, i + 1, i + 2] for i in range(n)]
    assert found["nested"].array.tolist() == [[i, 1, 2, 3] for i in range(n)]
    assert found["lists"].missing.tolist() == [[i == 3, True] for i in range(n)]
    assert found["fixed"].array.tolist() == [[2 * i, 2 * i + 1] for i in range(n)]
    assert found["tensor"].array[1].tolist() == [6, 9, 7, 10, 8, 11]  # 2 x 3 as stored, 3 x 2 as meant
    assert read(one, "tensor[:, 2]", "list[:, 1:]")[0].array[1].tolist() == [8, 11]
    assert found["word"].array[[0, 1], 0].tolist() == ["a", "b"]
    assert found["view"].array[0, 0] == "é"
    assert found["view"].missing[:, 0].tolist() == [False, False, True] * (n // 3)
    assert found["in.b.c"].array[[1, 29], 0].tolist() == [0.5, 14.5]
    assert found["in.a"].missing[:, 0].tolist() == [i % 10 == 0 for i in range(n)]
    for name, message in (
        ("when", "is of type timestamp"),
        ("tensor[:, 3]", "number 3 of 3"),
        ("list[:, 3]", r"its rows have the shape \(3,\)"),
    ):
        with pytest.raises(DataError, match=message):
            next(one.blocks([name]))


def test_parquet_that_is_not_even(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for values in ([[1.0], [1.0, 2.0]], [[[1.0], [2.0]], [[1.0, 2.0]]]):
        pq.write_table(pa.table({"a": values, "y": [0, 1]}), tmp_path / "r")
        with pytest.raises(DataError, match=r"row 1: column 'a' has (2|1) values, and (1|2) before"):
            next(table(tmp_path / "r").blocks(["a"]))
    whole = (tmp_path / "r").read_bytes()
    refused("cannot be opened by PyArrow", write(tmp_path / "cut", whole[:-20]))
    refused("packed as a whole; unpack it first", write(tmp_path / "g", gzip.compress(whole)))
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "two")
    refused("the column 'a' twice", tmp_path / "two")


def test_the_index_of_pandas(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    one = pa.table({"v": [1.0, 2.0], "run": [7, 8], "__index_level_0__": [1, 2]})
    pq.write_table(one.replace_schema_metadata({"pandas": '{"index_columns": ["run"]}'}), tmp_path / "p")
    assert not_data(table(tmp_path / "p")) == {"run": "index of pandas", "__index_level_0__": "index of pandas"}
    for strange in ("[", '{"index_columns": 3}', '{"index_columns": [{"kind": "range"}]}'):
        pq.write_table(one.replace_schema_metadata({"pandas": strange}), tmp_path / "p")
        assert list(not_data(table(tmp_path / "p"))) == ["__index_level_0__"]


def test_directories_of_parquet(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    hive = tmp_path / "hive"
    pq.write_to_dataset(
        pa.table({"a": range(12), "year": [2020, 2021] * 6, "k": ["x/y", None, "b"] * 4}), hive, ["year", "k"]
    )
    (hive / "_SUCCESS").write_text("")
    (hive / "README.md").write_text("about it")
    found = tables(hive)["train"]
    rows = [
        (int(a), int(year), None if gone else k)
        for one in found
        for a, year, k, gone in zip(
            *(v.array[:, 0] for v in read(one, "a", "year", "k")),
            np.resize(read(one, "k")[0].missing if read(one, "k")[0].missing is not None else False, 2),
            strict=True,
        )
    ]
    assert sorted(rows, key=str) == sorted(
        [(i, 2020 + i % 2, ["x/y", None, "b"][i % 3]) for i in range(12)], key=str
    )  # fmt: skip
    parts = tmp_path / "parts" / "data"
    parts.mkdir(parents=True)
    for name in ("train-0-of-2", "train-1-of-2", "test-0-of-1"):
        pq.write_table(pa.table({"a": [1]}), parts / f"{name}.parquet")
    assert {split: len(them) for split, them in tables(tmp_path / "parts").items()} == {"train": 2, "test": 1}
    (tmp_path / "nothing").mkdir()
    refused("a directory without Parquet files", tmp_path / "nothing")
    (parts / "train-1-of-2.parquet").write_bytes(b"")
    refused("not a Parquet file; it is empty or damaged", tmp_path / "parts")
    (hive / "_delta_log").mkdir()
    refused("a table of Delta Lake", hive)


def test_arrow_files_and_streams(tmp_path: Path, small_blocks: None) -> None:
    pa, feather = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.feather")
    import pyarrow.compute

    columns = {
        "a": pa.array([1, None, 3] * 9),
        "list": pa.array([[1, 2], None, [3, 4]] * 9, pa.list_view(pa.int8())),
        "word": pa.array(["u", "v", None] * 9, pa.string()),
        "bool": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None] * 9, pa.int8())),
        "runs": pyarrow.compute.run_end_encode(pa.array([1.5] * 26 + [2.5])),
    }
    whole = pa.table(columns)
    for name, opener in (("f", pa.ipc.new_file), ("s", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as file, opener(file, whole.schema) as writer:
            writer.write_table(whole, 7)
        a, lists, word, flag, runs = read(table(tmp_path / name), *columns)
        assert a.array[[0, 26], 0].tolist() == [1, 3]
        for one in (a, lists, word):
            assert one.missing is not None
        assert a.missing[:3, 0].tolist() == [False, True, False]
        assert lists.array[[0, 2]].tolist() == [[1, 2], [3, 4]]
        assert lists.missing[:3].tolist() == [[False] * 2, [True] * 2, [False] * 2]
        assert (word.array[:2, 0].tolist(), flag.array[:2, 0].tolist()) == (["u", "v"], [True, False])
        assert runs.array[:, 0].tolist() == [1.5] * 26 + [2.5]
        cut = write(tmp_path / "cut", (tmp_path / name).read_bytes()[:-700])
        with pytest.raises(DataError, match=r"cannot be (opened by PyArrow|read after row)"):
            read(table(cut), "a")
    feather.write_feather(pa.table({"a": [1, 2]}), tmp_path / "v2", compression="zstd")
    assert read(table(tmp_path / "v2"), "a")[0].array[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": 1}), "a pickle, which could run code"),
        (gzip.compress(b"X\n\0\0\0\3\0\4\2\0", mtime=0), r"a file of R; write it with write\.csv.*row\.names = FALSE"),
        (bz2.compress(b"RDX3\nX\n\0\0\0\3"), r"a file of R.*arrow::write_parquet"),
        (b"A\n3\n263168\n197888\n5\nUTF-8\n", "a file of R"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"an Excel workbook \(\.xls\)"),
        (b"FEA1\0\0\0\0", "Feather of version 1"),
        (bytes(range(256)), "of no known format; expected text"),
    ],
)
def test_formats_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    refused(message, write(tmp_path / "file.csv", content))


@pytest.mark.parametrize(
    ("member", "message"),
    [("xl/workbook.xml", r"an Excel workbook \(\.xlsx\)"), ("archive/data.pkl", "a pickle, which could run code")],
)
def test_archives_that_are_refused(tmp_path: Path, member: str, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(member, "content")
    refused(message, tmp_path / "a")


def test_text_that_begins_like_something_else(tmp_path: Path) -> None:
    for first in ("PAR1", "root", "ORC", "ARROW1", "A", "CDF", "X"):
        assert format_of(str(write(tmp_path / "t", f"{first},b,y\n3,2,0\n3,4,1\n".encode()))) == ""
    userblock = b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(100)
    assert format_of(str(write(tmp_path / "t", userblock))) == "hdf5"


@pytest.mark.parametrize(
    ("begin", "module", "what"),
    [
        (b"PAR1\0\0", "pyarrow", "Parquet"),
        (b"ARROW1\0\0", "pyarrow", "Arrow"),
        (b"root\0\0\0", "uproot", "ROOT"),
        (b"MATLAB 5.0 MAT-file, ", "scipy", "MATLAB"),
    ],
)
def test_the_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes, module: str, what: str
) -> None:
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    refused(rf"reading {what} files needs {module}: pip install 'distbp\[tables\]'", write(tmp_path / "f", begin))
