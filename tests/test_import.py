"""`distbp import`: other formats become data sets; what cannot is named, and leaves nothing behind."""

from __future__ import annotations

import csv
import gzip
import os
import struct
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, check_error, configuration, distbp_of_shell, train_on

from distbp.data.split import read_split
from distbp.errors import DataError, DistbpError, RunError, UsageError
from distbp.ranks.communicator import OneProcess
from distbp.tables.import_data import ImportOptions, import_data

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5000, 4))
KINDS = np.array(["cirrus", "cumulus, big", 'nim"bus'])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 1)]


def write_csv(path: Path, columns: dict[str, Any], *, delimiter: str = ",", header: bool = True) -> str:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def clouds(path: Path, count: int = 5000) -> str:
    names = ["pressure", "temperature", "u", "v"]
    return write_csv(path, {**{n: X[:count, i] for i, n in enumerate(names)}, "kind": KINDS[:count]})


def zipped(path: str) -> str:
    Path(path + ".gz").write_bytes(gzip.compress(Path(path).read_bytes()))
    return path + ".gz"


def write_idx(path: Path, array: np.ndarray, code: int) -> str:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))
    return str(path)


def imported(out: Path, *train: str, test: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    import_data(train, test, out, ImportOptions(**options))
    with h5py.File(out) as file:
        return {
            f"{split}/{name}": file[split][name].asstr()[()]
            if file[split][name].dtype.kind == "O"
            else file[split][name][()]
            for split in file
            for name in file[split]
        }


@pytest.mark.parametrize("packed", [False, True])
def test_csv(tmp_path: Path, packed: bool) -> None:
    source = clouds(tmp_path / "c.csv")
    there = imported(tmp_path / "c.h5", zipped(source) if packed else source, y=("kind",))
    assert there["train/x"].dtype == np.float32
    np.testing.assert_array_equal(there["train/x"], X.astype(np.float32))
    assert there["train/y"].tolist() == KINDS.tolist()
    with h5py.File(tmp_path / "c.h5") as file:
        assert file["train/x"].chunks is None


def test_csv_without_header_several_targets_and_tabs(tmp_path: Path) -> None:
    columns = {str(i): X[:, i] for i in range(4)}
    source = write_csv(tmp_path / "c.tsv", columns, delimiter="\t", header=False)
    again = write_csv(tmp_path / "again.tsv", columns, delimiter="\t", header=False)
    there = imported(tmp_path / "c.h5", source, again, header=False, y=("3", "0"), x=("2",), dtype="float64")
    np.testing.assert_array_equal(there["train/x"], np.concatenate([X, X])[:, [2]])
    np.testing.assert_array_equal(there["train/y"], np.concatenate([X, X])[:, [3, 0]])


def test_kinds_of_y(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "c.csv", {"a": [1.5, 2, 3], "label": ["3", "-1", "3"], "z": ["1", "2.5", "3"]})
    assert imported(tmp_path / "1.h5", source, x=("a",))["train/y"].tolist() == [3, -1, 3]
    assert imported(tmp_path / "2.h5", source, task="targets")["train/y"].tolist() == [[3.0], [-1.0], [3.0]]
    assert imported(tmp_path / "3.h5", source, y=("z",))["train/y"].tolist() == [[1.0], [2.5], [3.0]]
    assert imported(tmp_path / "4.h5", source, y=("z",), task="classes")["train/y"].tolist() == ["1", "2.5", "3"]


def test_a_fraction_of_each_class_is_for_the_test(tmp_path: Path) -> None:
    source = clouds(tmp_path / "c.csv")
    one = imported(tmp_path / "1.h5", source, y=("kind",), test_fraction=0.2, compression="gzip")
    again = imported(tmp_path / "2.h5", source, y=("kind",), test_fraction=0.2)
    other = imported(tmp_path / "3.h5", source, y=("kind",), test_fraction=0.2, seed=1)
    for name, values in one.items():
        np.testing.assert_array_equal(values, again[name])
    assert not np.array_equal(one["test/x"], other["test/x"])
    for kind in set(KINDS.tolist()):
        count = np.count_nonzero(kind == KINDS)
        assert np.count_nonzero(one["test/y"] == kind) == round(0.2 * count)
    rows = np.concatenate([one["train/x"], one["test/x"]])
    np.testing.assert_array_equal(np.sort(rows[:, 0]), np.sort(X[:, 0].astype(np.float32)))
    for split in ("train", "test"):  # each row has kept its label
        label = dict(zip(X[:, 0].astype(np.float32).tolist(), KINDS.tolist(), strict=True))
        assert [label[x] for x in one[f"{split}/x"][:, 0].tolist()] == one[f"{split}/y"].tolist()


def test_idx_as_of_mnist(tmp_path: Path) -> None:
    images, labels = RNG.integers(0, 256, (70, 5, 4)).astype(np.uint8), RNG.integers(0, 10, 70).astype(np.uint8)
    train = write_idx(tmp_path / "train-images-idx3-ubyte.gz", images, 8), write_idx(tmp_path / "l.gz", labels, 8)
    test = write_idx(tmp_path / "t10k-labels.gz", labels[:9], 8), write_idx(tmp_path / "t10k", images[:9], 8)
    there = imported(tmp_path / "mnist.h5", *train, test=test)
    assert there["train/x"].dtype == np.uint8
    np.testing.assert_array_equal(there["train/x"], images.reshape(70, 20))
    np.testing.assert_array_equal(there["train/y"], labels)
    np.testing.assert_array_equal(there["test/x"], images[:9].reshape(9, 20))
    shorts = RNG.integers(-500, 500, (6, 3)).astype(">i2")
    pair = write_idx(tmp_path / "s.gz", shorts, 0x0B), write_idx(tmp_path / "sl.gz", labels[:6], 8)
    there = imported(tmp_path / "s.h5", *pair, task="classes")
    np.testing.assert_array_equal(there["train/x"], shorts)
    with pytest.raises(UsageError, match=r"y has \d different whole numbers .* in 6 rows, .*--task classes or --task"):
        imported(tmp_path / "t.h5", *pair)


def test_numpy_files(tmp_path: Path) -> None:
    y = RNG.standard_normal((5000, 2))
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.save(tmp_path / "y.npy", y)
    there = imported(tmp_path / "1.h5", str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))
    np.testing.assert_array_equal(there["train/x"], X)
    np.testing.assert_array_equal(there["train/y"], y)
    images = RNG.integers(0, 256, (50, 3, 3, 2)).astype(np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x_train=images, y_train=KINDS[:50], x_test=images[:5], y_test=KINDS[:5])
    there = imported(tmp_path / "2.h5", str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(there["test/x"], images[:5].reshape(5, 18))
    assert there["train/y"].tolist() == KINDS[:50].tolist()
    np.savez(tmp_path / "b.npz", a=X, b=X[:, 0] > 0, flow=X.astype(">f4"))
    there = imported(tmp_path / "3.h5", str(tmp_path / "b.npz"), x=("flow",), y=("b",))
    np.testing.assert_array_equal(there["train/x"], X.astype(np.float32))
    assert there["train/x"].dtype == np.dtype("=f4")
    np.testing.assert_array_equal(there["train/y"], X[:, 0] > 0)


def test_parquet(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X[:, :3].ravel()), 3)
    table = pa.table(
        {"a": X[:, 0], "l": lists, "k": pa.array(KINDS).dictionary_encode(), "n": np.arange(5000, dtype=np.int16)}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    there = imported(tmp_path / "t.h5", str(tmp_path / "t.parquet"), y=("k",), dtype="float64")
    np.testing.assert_array_equal(there["train/x"], np.column_stack([X[:, 0], X[:, :3], np.arange(5000)]))
    assert there["train/y"].tolist() == KINDS.tolist()
    pq.write_table(pa.table({"a": [1.0, None], "y": [1, 2]}), tmp_path / "gap.parquet")
    with pytest.raises(DataError, match=r"missing: a: 1 value \(.*gap\.parquet, row 1\)"):
        imported(tmp_path / "gap.h5", str(tmp_path / "gap.parquet"))


def simulation(path: Path) -> str:
    """Data sets in no group, as programs write them, and some that are no samples."""
    with h5py.File(path, "w") as file:
        file["pressure"], file["flow/velocity"] = X[:, 0], X[:, 1:].astype(">f4")
        file["drag"], file["kind"] = X[:, 0] * X[:, 1], np.array([kind.encode() + b"\xc3\xa4" for kind in KINDS])
        table = np.zeros(5000, [("cell", "i4"), ("flux", "f8")])
        table["cell"], table["flux"] = np.arange(5000) % 7, X[:, 2]
        file["cells"], file["time"] = table, np.arange(10.0)
        file["flow/again"] = file["flow"]  # in circles
    return str(path)


def test_hdf5_without_splits(tmp_path: Path) -> None:
    source, other = simulation(tmp_path / "sim.h5"), simulation(tmp_path / "other.h5")
    x = ("pressure", "flow/velocity", "cells.cell")
    found = imported(tmp_path / "a.h5", source, x=x, y=("drag", "cells.flux"))
    wanted = np.column_stack([X[:, 0], X[:, 1:].astype("f4"), np.arange(5000) % 7])
    np.testing.assert_array_equal(found["train/x"], wanted)
    np.testing.assert_array_equal(found["train/y"], np.column_stack([X[:, 0] * X[:, 1], X[:, 2]]))
    found = imported(tmp_path / "b.h5", source, x=("pressure",), y=("kind",), test=(other,))
    assert found["test/y"].tolist() == [f"{kind}ä" for kind in KINDS]
    found = imported(tmp_path / "c.h5", source, x=("pressure",), y=("cells.cell", "drag"), task="targets")
    assert found["train/y"].dtype == np.float64
    for options, message in (
        ({"x": ("time",), "y": ("drag",)}, r"has \d+ rows and .* has \d+; each sample needs one row in both"),
        ({"x": ("depth",), "y": ("drag",)}, r"no data set depth; those in / are: cells\.cell, cells\.flux, drag"),
        ({"x": ("pressure",)}, r"which column has the labels or targets\? Name it with --y"),
        ({"y": ("drag",), "splits": ("train",)}, r"no split 'train' \(--split\)"),
    ):
        with pytest.raises(DistbpError, match=message):
            imported(tmp_path / "d.h5", source, **options)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5", "c.h5", "other.h5", "sim.h5"]


def test_hdf5_with_splits_is_laid_out_anew(tmp_path: Path) -> None:
    source = str(tmp_path / "odd.h5")
    images = RNG.integers(0, 255, (300, 5, 4), np.uint8)
    with h5py.File(source, "w") as file:
        for split, count in (("train", 200), ("check", 100)):
            file.create_dataset(f"{split}/x", data=images[:count], chunks=(1, 5, 2), compression="gzip")
            file[f"{split}/y"] = np.arange(count) % 3
    found = imported(tmp_path / "a.h5", source)
    assert sorted(found) == ["check/x", "check/y", "train/x", "train/y"]
    np.testing.assert_array_equal(found["train/x"], images[:200].reshape(200, 20))
    assert found["train/x"].dtype == np.uint8
    np.testing.assert_array_equal(found["check/y"], np.arange(100) % 3)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["train/x"].chunks is None
    found = imported(tmp_path / "b.h5", source, splits=("train",), test_fraction=0.25)
    assert {name: len(values) for name, values in found.items()}["test/x"] == 50
    with pytest.raises(DataError, match=r"which split is for testing\? It has check, train"):
        imported(tmp_path / "c.h5", source, test=(source,))
    with pytest.raises(UsageError, match=r"--test: .*b\.h5: test is a split for testing already"):
        imported(tmp_path / "c.h5", str(tmp_path / "b.h5"), test=(str(tmp_path / "b.h5"),))
    found = imported(tmp_path / "c.h5", source, test=(str(tmp_path / "b.h5"),), splits=("train",))
    assert {name: len(values) for name, values in found.items()} == {
        "train/x": 200,
        "train/y": 200,
        "test/x": 50,
        "test/y": 50,
    }
    found = imported(tmp_path / "d.h5", source, splits=("check",), test_fraction=0.5)
    assert sorted((name, len(values)) for name, values in found.items() if name.endswith("x")) == [
        ("test/x", 49),  # of 34, 33 and 33 rows of a class: 17, 16, 16
        ("train/x", 51),
    ]
    imported(tmp_path / "e.h5", source)
    with h5py.File(tmp_path / "e.h5", "a") as file:
        file.move("train", "learn")
    with pytest.raises(UsageError, match="--test-fraction: of which split\\? There are check, learn; name one of them"):
        imported(tmp_path / "f.h5", str(tmp_path / "e.h5"), test_fraction=0.5)


def test_hdf5_that_cannot_be_imported(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "nan.h5", "w") as file:
        file["train/x"], file["train/y"] = X.copy(), KINDS.astype("S")
        file["train/x"][4321, 1] = np.nan
        file["train/linked"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(DataError, match=r"missing: x: 1 value \(.*nan\.h5: train, row 4321\)"):
        imported(tmp_path / "out.h5", str(tmp_path / "nan.h5"), x=("x",))
    with pytest.raises(DataError, match=r"no data set linked"):
        imported(tmp_path / "out.h5", str(tmp_path / "nan.h5"), x=("linked",))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X
    found = imported(tmp_path / "out.h5", str(tmp_path / "nan.h5"), x=("linked",), trust_links=True)
    np.testing.assert_array_equal(found["train/x"], X)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "other.h5").read_bytes()[:9000])
    with pytest.raises(DataError, match=r"cut\.h5: is truncated"):
        imported(tmp_path / "second.h5", str(tmp_path / "cut.h5"), y=("x",))


def test_what_is_imported_can_be_trained_on(tmp_path: Path) -> None:
    imported(tmp_path / "c.h5", clouds(tmp_path / "c.csv"), y=("kind",), test_fraction=0.2)
    run = train_on(
        2, configuration(str(tmp_path / "c.h5"), tmp_path / "run", batch_size=50, epochs=8, learning_rate=0.02)
    )
    assert run.state.history["validation_accuracy"][-1] > 0.9
    assert read_split(OneProcess(), [str(tmp_path / "c.h5")], "test", "x", "y").labels == tuple(sorted(set(KINDS)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,x4,4,cirrus", r"line 4 \('1,2,x4,4,cirrus'\): column 'u' is 'x4', expected a number"),
        ("1,2,,4,cirrus", r"missing: u: 1 value \(.*c\.csv, line 4 \('1,2,,4,cirrus'\)\)"),
        ("1,nan,3,4,cirrus", r"missing: temperature: 1 value \(.*c\.csv, line 4 \('1,nan,3,4,cirrus'\)\)"),
        ("1,2,inf,4,cirrus", r"line 4 \('1,2,inf,4,cirrus'\): not finite: column 'u' is infinite"),
        ("1,2,3", r"line 4: expected 5 values, got 3: '1,2,3'"),
        ("1,2,3,4,", r"missing: kind: 1 value \(.*c\.csv, line 4 \('1,2,3,4,'\)\); leave out such rows"),
        ('1,2,3,4,"a"b', r"line 4: a quote with neither ',' nor the row's end behind it"),
        ("1,2,1e300,4,cirrus", r"1e\+300 is too large for float32; import it with --dtype float64"),
    ],
)
def test_bad_rows_are_named_and_nothing_remains(tmp_path: Path, line: str, message: str) -> None:
    lines = Path(clouds(tmp_path / "c.csv", 10)).read_text().splitlines()
    lines[3] = line
    (tmp_path / "c.csv").write_text("\n".join(lines))
    (tmp_path / "out.h5").write_text("what was there before")
    with pytest.raises(DataError, match=message):
        imported(tmp_path / "out.h5", str(tmp_path / "c.csv"), y=("kind",), overwrite=True)
    assert (tmp_path / "out.h5").read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "out.h5"]


def test_rows_that_are_no_targets(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "c.csv", {"a": [1, 2, 3], "y": ["1.5", "high", "2"]})
    with pytest.raises(DataError, match=r"line 3 \('2,high'\): y is 'high'; targets are finite numbers"):
        imported(tmp_path / "o.h5", source, task="targets")


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(message: str, *sources: Any, kind: type[DistbpError] = DataError, **options: Any) -> None:
        with pytest.raises(kind, match=message):
            imported(tmp_path / "o.h5", *map(str, sources), **options)
        assert not (tmp_path / "o.h5").exists()

    source = clouds(tmp_path / "c.csv")
    refused("nothing.csv: no such file", tmp_path / "nothing.csv")
    refused("which column has the labels or targets", source, kind=UsageError)
    refused("no column 'kinds'; it has 'pressure', 'temperature'", source, y=("kinds",))
    refused("a split would have none", source, y=("kind",), test_fraction=1e-9, kind=UsageError)
    (tmp_path / "t.csv.gz").write_bytes(Path(zipped(source)).read_bytes()[:-100])
    refused("t.csv.gz: cannot be read", tmp_path / "t.csv.gz", y=("kind",))
    (tmp_path / "e.csv").write_text("")
    refused(r"e\.csv: empty; expected rows", tmp_path / "e.csv")
    (tmp_path / "h.csv").write_text("a,y\n")
    refused("has no rows", tmp_path / "h.csv")
    (tmp_path / "d.csv").write_text("a,a,y\n1,2,3\n")
    refused("columns 0 and 1, counted from 0, are both called 'a'", tmp_path / "d.csv")
    (tmp_path / "b.txt").write_text("hello")
    refused("which column has the labels or targets.*there are hello", tmp_path / "b.txt", kind=UsageError)
    np.save(tmp_path / "p.npy", np.array([{}, {}], object), allow_pickle=True)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "two.npy", X[:2])
    refused("column 'y' holds Python objects, which could run code", tmp_path / "two.npy", tmp_path / "p.npy")
    refused("which column has the labels or targets.*there are x", tmp_path / "x.npy", kind=UsageError)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1000])
    np.save(tmp_path / "y.npy", np.arange(5000))
    refused("its header says 160000 bytes of values, and there are 159000", tmp_path / "cut.npy", tmp_path / "y.npy")
    np.save(tmp_path / "short.npy", np.arange(50))
    refused(
        "x.npy has 5000 rows, and .*short.npy has 50; each sample has one of both",
        tmp_path / "x.npy",
        tmp_path / "short.npy",
    )
    np.save(tmp_path / "sx.npy", X[:50])
    np.savez(tmp_path / "n.npz", x=np.array([[1.0], [np.inf]]), y=[0, 1])
    refused("row 1: not finite", tmp_path / "n.npz")
    (tmp_path / "n2.npz").write_bytes(b"PK\x03\x04 nothing")
    refused("not a NumPy archive", tmp_path / "n2.npz")
    refused("sx.npy has 50 rows, and .*y.npy has 5000", tmp_path / "sx.npy", tmp_path / "y.npy")
    (tmp_path / "i.gz").write_bytes(gzip.compress(b"\0\0\x08\x03\0\0\0\x05"))
    refused("ends inside its header", tmp_path / "i.gz", tmp_path / "y.npy")
    np.savez(tmp_path / "u.npz", x=np.array([[1], [2]], np.uint8), y=[0, 1])
    np.savez(tmp_path / "f.npz", x=np.array([[0.5], [2]]), y=[0, 1])
    refused("inputs of type float64, and uint8 before; choose", tmp_path / "u.npz", tmp_path / "f.npz")
    with pytest.raises(RunError, match="is read by this command"):
        imported(Path(source), source, y=("kind",))


def test_empty_lines_end_nothing(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2}" for i in range(110)]
    (tmp_path / "b.csv").write_text("\n".join(["a,y", *rows[:10], *[""] * 9000, *rows[10:]]))
    assert imported(tmp_path / "b.h5", str(tmp_path / "b.csv"))["train/x"][:, 0].tolist() == list(range(110))


def test_values_that_are_neither_labels_nor_targets(tmp_path: Path) -> None:
    """What would become wrong labels without a word."""
    x = np.zeros((20, 1))
    for y, message in (
        (np.array([2**63 + 1] * 20, np.uint64), "row 0: y is 9223372036854775809, too large for a label"),
        (np.where(np.arange(20) == 7, np.nan, 1.5), r"missing: y: 1 value \(.*y\.npz, row 7\)"),
        (np.array(["a\0b"] * 20), "expected text that can be printed"),
        (np.array(["\ud800"] * 20), "expected text that can be printed"),
        (np.array([b"\xff\xfe"] * 20), "strings that are not UTF-8"),
    ):
        np.savez(tmp_path / "y.npz", x=x, y=y)
        with pytest.raises(DataError, match=message):
            imported(tmp_path / "y.h5", str(tmp_path / "y.npz"))
    source = write_csv(tmp_path / "c.csv", {"a": range(20), "y": [*[1.5] * 19, "high"]})
    with pytest.raises(
        DataError, match=r"line 21 \('19,high'\): y is 'high', and nearly all others are numbers; .*--task classes"
    ):
        imported(tmp_path / "c.h5", source)
    assert "high" in imported(tmp_path / "c.h5", source, task="classes")["train/y"]
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from datetime import date
    from decimal import Decimal

    pq.write_table(pa.table({"a": [1.0, 2.0], "y": pa.array([Decimal("1.2"), Decimal("1.7")])}), tmp_path / "d.parquet")
    assert imported(tmp_path / "d.h5", str(tmp_path / "d.parquet"))["train/y"].tolist() == [[1.2], [1.7]]
    dates = pa.array([date(2020, 1, 1), date(2021, 1, 1)])
    pq.write_table(pa.table({"a": [1.0, 2.0], "y": dates}), tmp_path / "o.parquet")
    with pytest.raises(DataError, match=r"column 'y' is of type date32.*expected numbers or strings"):
        imported(tmp_path / "o.h5", str(tmp_path / "o.parquet"))
    with pytest.raises(DataError, match=r"column 'y' .*date"):
        imported(tmp_path / "o.h5", str(tmp_path / "o.parquet"), y=("y",))
    pq.write_table(pa.table({"a": pa.array([[1.0], [1.0, 2.0]]), "y": [0, 1]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match="row 1: column 'a' has 2 values, and 1 before"):
        imported(tmp_path / "r.h5", str(tmp_path / "r.parquet"))


def npy_with(shape: str, content: bytes = b"\0" * 64) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    "content",
    [
        *(
            npy_with(shape)
            for shape in ("(4, 2**60)", "(4, 1152921504606846976)", "(4, -2)", "(4L, ", "(" * 2000, "()")
        ),
        npy_with("(" + "1, " * 70 + ")"),
        npy_with("(4, 17179869184)"),
        b"\0\0\x0d\x46" + b"\0\0\0\1" * 70,
        b"\0\0\x0d\x04" + b"\xff" * 16,
        b"\0\0\x0d\x04" + b"\xff" * 7,
        b"PK\x03\x04 and nothing",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_files_that_lie_about_themselves(tmp_path: Path, content: bytes, packed: bool) -> None:
    name = "x.npy" if content[:1] == b"\x93" else "x.npz" if content[:1] == b"P" else "x.idx"
    if packed and name == "x.npz":
        return
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    np.save(tmp_path / "y.npy", np.arange(4))
    sources = [str(tmp_path / name)] + ([str(tmp_path / "y.npy")] if name != "x.npz" else [])
    with pytest.raises(DataError) as error:
        imported(tmp_path / "o.h5", *sources)
    assert name in str(error.value)


def test_the_command(runner: Runner, tmp_path: Path) -> None:
    source = clouds(tmp_path / "c.csv", 100)
    done = runner.afresh("import", source, "--y", "kind", "--test-fraction", "0.1", "--out", "c.h5")
    assert done.returncode == 0, done.stderr
    assert "rows in train" in done.stdout
    assert "4 inputs (float32), 3 classes of kind" in done.stdout
    assert "inputs: pressure, temperature, u, v; y: kind\n" in done.stdout
    check_error(runner.distbp("import", source, "--y", "kind", "--out", "c.h5"), 1, "exists already")
    check_error(runner.distbp("import", source, "--out", "d.h5"), 2, "which column has the labels")
    assert runner.distbp("import", source, "--y", "kind", "--out", "c.h5", "--overwrite").returncode == 0


def test_labels_are_never_merged(tmp_path: Path) -> None:
    """01 and 1 are two names; and Python's int would take 1_0 for 10."""
    rng = np.random.default_rng(0)
    names = np.array(["01", "1", "02", "2", "3"] * 4, object)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["train/x"], file["train/y"] = rng.normal(size=(20, 2)), names
    for task in ("auto", "classes"):
        found = imported(tmp_path / f"{task}.h5", str(tmp_path / "s.h5"), task=task)
        assert found["train/y"].tolist() == names.tolist()
    for number, (y, wanted, task) in enumerate(
        (
            (["007", "7", "007"], ["007", "7", "007"], "auto"),
            (["1_0", "10", "a"], ["1_0", "10", "a"], "auto"),
            (["-1", " 2", "+3"], [-1, 2, 3], "classes"),
            (["0.0", "1", "0.000e+00"], [0, 1, 0], "auto"),
            (["1e+05", "200000", "1e+05"], [100000, 200000, 100000], "auto"),
            (["1.0", "2", "3"], [1, 2, 3], "auto"),
            (["1.0", "2", "3"], [1.0, 2.0, 3.0], "targets"),
        )
    ):
        source = write_csv(tmp_path / "c.csv", {"x": [1, 2, 3], "y": y})
        assert imported(tmp_path / f"{number}.h5", source, task=task)["train/y"].ravel().tolist() == wanted
    for cell in ("1_000", "٣"):
        source = write_csv(tmp_path / "c.csv", {"x": [1, cell, 3], "y": [0, 1, 0]})
        with pytest.raises(DataError, match=r"line 3 .*: column 'x' is '.*', expected a number"):
            imported(tmp_path / "n.h5", source)
    source = write_csv(tmp_path / "c.csv", {"x": [1, 2], "y": [1, 10**20]})
    with pytest.raises(DataError, match=r"line 3 .*: y is 100000000000000000000, too large for a label"):
        imported(tmp_path / "n.h5", source)


def test_floating_point_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", x=X[:9], y=np.arange(9.0) % 3)
    found = imported(tmp_path / "a.h5", str(tmp_path / "whole.npz"), task="classes")
    assert found["train/y"].tolist() == [0, 1, 2] * 3
    np.savez(tmp_path / "broken.npz", x=X[:9], y=np.arange(9) / 2)
    with pytest.raises(DataError, match=r"row 1: y is 0\.5; labels are whole numbers or text"):
        imported(tmp_path / "b.h5", str(tmp_path / "broken.npz"), task="classes")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv: is a pipe or a device; expected a file"):
        imported(tmp_path / "a.h5", str(tmp_path / "pipe.csv"))
    with pytest.raises(DataError, match=r"nope\.npz: no such file"):
        imported(tmp_path / "a.h5", str(tmp_path / "nope.npz"))
    source = clouds(tmp_path / "c.csv", 20)
    (tmp_path / "link.h5").symlink_to("elsewhere.h5")
    for name in ("pipe.csv", "link.h5"):
        with pytest.raises(RunError, match=rf"--out .*{name}: is a link, a device or a pipe"):
            imported(tmp_path / name, source, overwrite=True)


@pytest.mark.slow
def test_a_full_disk_and_a_termination_leave_nothing(runner: Runner) -> None:
    np.savez(runner.directory / "d.npz", x=RNG.normal(size=(100_000, 8)), y=np.arange(100_000) % 2)
    command = f"{distbp_of_shell()} import d.npz --out out.h5"
    check_error(
        runner.run("bash", "-c", f"ulimit -f 1000; exec {command}"),
        1,
        "out.h5: cannot be written: the file would be larger",
    )
    write_csv(runner.directory / "slow.csv", {"x": range(600_000), "y": [0, 1] * 300_000})
    process = runner.start("bash", "-c", f"exec {distbp_of_shell()} import slow.csv --out out.h5")
    end = time.monotonic() + 20
    while not list(runner.directory.glob(".out.h5.*.tmp")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.terminate()
    result = runner.finish(process)
    assert result.returncode == 143, result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in runner.directory.iterdir()) == ["d.npz", "slow.csv"]
