"""`distbp.open_dataset`: what is in a data set, as objects."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import write_data

import distbp


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Named columns with units, real targets, a group without columns, and a validation split without targets."""
    rng = np.random.default_rng(5)
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["train/x"] = rng.standard_normal((40, 3)).astype("f4")
        file["train/x"].attrs["columns"] = np.array([b"a", b"b", b"c"])
        file["train/x"].attrs["units"] = np.array([b"m", b"", b"kg"])
        file["train/y"] = rng.standard_normal((40, 2)) * 100
        file["val/x"] = np.arange(15.0).reshape(5, 3)
        file["other/deep/z"] = 1.0
    return str(path)


def test_columns(table: str) -> None:
    data = distbp.open_dataset(table)
    assert list(data) == ["train", "val"]
    assert "train" in data
    assert data.get("nothing") is None
    assert len(data) == 2
    assert data.files == (table,)
    train, val = data["train"], data["val"]
    assert (train.x.names, train.x.units, train.x.shape) == (("a", "b", "c"), ("m", "", "kg"), (40, 3))
    assert (train.x.dtype, train.task, train.x.datasets) == (np.float32, "targets", ("train/x",))
    assert train.y is not None
    assert (train.y.shape, train.y.width) == ((40, 2), 2)
    assert (val.y, val.task, len(val)) == (None, "", 5)
    assert val.problem
    assert repr(train) == (
        "<distbp.DatasetSplit train: 40 samples; inputs train/x (40, 3) float32: a, b, c; "
        "targets train/y (40, 2) float64>"
    )
    with pytest.raises(distbp.UsageError, match="no split 'test'; the splits of this data set are: train, val"):
        data["test"]


def test_statistics(table: str) -> None:
    train = distbp.open_dataset(table)["train"]
    with h5py.File(table) as file:
        x, y = file["train/x"][()].astype("f8"), file["train/y"][()]
    for found, truth in ((train.x_statistics, x), (train.y_statistics, y)):
        np.testing.assert_allclose(found.mean, truth.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.spread, truth.std(axis=0), rtol=1e-12)
        assert np.array_equal(found.low, truth.min(axis=0))
        assert np.array_equal(found.high, truth.max(axis=0))
        assert (found.rows, found.missing, found.not_finite) == (40, 0, 0)
    with pytest.raises(distbp.UsageError, match="train: has no labels; see y_statistics"):
        _ = train.class_counts


def test_rows(table: str) -> None:
    data = distbp.open_dataset(table)
    with h5py.File(table) as file:
        x, y = file["train/x"][()], file["train/y"][()]
    for bounds in ((), (3,), (3, 7), (-2,), (7, 3), (0, 99)):
        found = data["train"].read(*bounds)
        rows = slice(*(bounds if len(bounds) == 2 else (*bounds, None) if bounds else (None,)))
        assert np.array_equal(found[0], x[rows])
        assert np.array_equal(found[1], y[rows])
        assert found[0].dtype == x.dtype
    assert data["val"].read()[1] is None
    again = pickle.loads(pickle.dumps(data))
    assert np.array_equal(again["train"].read()[0], x)


def test_gaps_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        x = np.array([[1.0, 2.0], [np.inf, 3.0], [5.0, -9.0], [7.0, 8.0]])
        file["train/x"], file["train/y"] = x, np.array([0, 1, 1, 1])
        file["train/x"].attrs["_FillValue"] = -9.0
    train = distbp.open_dataset(tmp_path / "d.h5")["train"]
    found = train.x_statistics
    assert (found.missing, found.not_finite, found.rows) == (1, 1, 3)
    assert found.high.tolist() == [7.0, 8.0]
    assert train.class_counts == {0: 1, 1: 3}
    with pytest.raises(distbp.DataError, match="row 2"):
        train.read()
    with pytest.raises(distbp.UsageError, match="has no targets; see class_counts"):
        _ = train.y_statistics


def test_several_files_are_one(tmp_path: Path) -> None:
    first = write_data(tmp_path / "a.h5", train=20, test=5)
    second = write_data(tmp_path / "b.h5", train=30, test=6)
    for paths in ([first, Path(second)], (first, second), str(tmp_path / "*.h5")):
        data = distbp.open_dataset(paths)
        assert data.files == (first, second)
        assert [len(split) for split in data.values()] == [50, 11]
        x, y = data["train"].read(18, 22)
        with h5py.File(first) as one, h5py.File(second) as other:
            assert np.array_equal(x, np.concatenate([one["train/x"][18:], other["train/x"][:2]]))
            assert np.array_equal(y, np.concatenate([one["train/y"][18:], other["train/y"][:2]]))


@pytest.mark.parametrize("x", ["p,q", ["p", "q"], ("p", "q")])
def test_names_that_are_given(tmp_path: Path, x: Any) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for name in ("p", "q", "r", "label"):
            file[name] = np.arange(6) % 3
    data = distbp.open_dataset(tmp_path / "d.h5", split="/", x=x, y=["r"], task="targets")
    assert data["/"].x.datasets == ("p", "q")
    assert data["/"].task == "targets"
    assert np.array_equal(data["/"].read()[0], np.stack([np.arange(6) % 3] * 2, axis=1))


@pytest.mark.parametrize(
    ("words", "options", "error"),
    [
        ("task 'both'", {"task": "both"}, distbp.UsageError),
        ("x is 3; expected a name, or a list of names", {"x": 3}, distbp.UsageError),
        (r"x is \[\]; expected", {"x": []}, distbp.UsageError),
        ("no split 'nothing'", {"split": "nothing"}, distbp.DataError),
        ("no split 'nothing'", {"split": ["train", "nothing"]}, distbp.DataError),
        ("no data set .*nothing", {"x": "nothing"}, distbp.DataError),
    ],
)
def test_options_that_are_wrong(table: str, words: str, options: dict[str, Any], error: Any) -> None:
    with pytest.raises(error, match=words):
        distbp.open_dataset(table, **options)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    for path, words in ((tmp_path / "no.h5", "no such file"), (tmp_path / "d.csv", "distbp import"), (tmp_path, "dir")):
        with pytest.raises(distbp.DataError, match=words):
            distbp.open_dataset(path)
    with pytest.raises(distbp.UsageError, match="got none"):
        distbp.open_dataset([])
