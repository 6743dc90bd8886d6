"""`distbp inspect DATA`: the figures are those of NumPy, and what it says of training is what training does."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import Runner, check_error, configuration, train_on

from distbp.errors import DataError
from distbp.inspection.column_statistics import ColumnStatistics, LabelCounts
from distbp.inspection.data_inspection import View
from distbp.inspection.file_inspection import describe

RNG = np.random.default_rng(0)


def described(path: Path | str, **look: Any) -> str:
    return "\n".join(describe(str(path), View(**look)))


@given(
    rows=st.integers(1, 60),
    columns=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    dtype=st.sampled_from(["u1", "i8", "f2", "f4", ">f8"]),
    offset=st.sampled_from([0.0, 90.0, 1e8]),
    gaps=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
@settings(max_examples=80)
def test_statistics_are_those_of_numpy(
    rows: int, columns: int, cuts: list[int], dtype: str, offset: float, gaps: float, seed: int
) -> None:
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    low = 0 if kind.kind == "u" else -5
    x = (rng.integers(low, 100, (rows, columns)) + (offset if kind.itemsize == 8 else 0)).astype(kind)
    if kind.kind == "f":
        x[rng.random(x.shape) < gaps] = rng.choice([np.nan, np.inf, -np.inf])
    statistics = ColumnStatistics(columns)
    for block in np.split(x, sorted(min(cut, rows) for cut in cuts)):
        if len(block):
            statistics.add(block)
    good = np.isfinite(x)
    assert statistics.bad_values == (~good).sum()
    assert statistics.bad_rows == (~good).any(axis=1).sum()
    assert statistics.first_bad == (None if good.all() else (~good).any(axis=1).argmax())
    for column in range(columns):
        values = x[good[:, column], column].astype(np.float64)
        if len(values):
            assert statistics.low[column] == values.min()
            assert statistics.high[column] == values.max()
            assert statistics.mean[column] == pytest.approx(values.mean(), rel=1e-12)
            assert statistics.spread[column] == pytest.approx(values.std(), rel=1e-9, abs=1e-6)
    if good.any():
        mean, spread = statistics.overall()
        values = x[good].astype(np.float64)
        assert mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-12)
        assert spread == pytest.approx(values.std(), rel=1e-9, abs=1e-6)


def test_labels_are_counted_over_blocks() -> None:
    labels, counts = np.array(["a", "ä", "a", "b"], object), LabelCounts()
    for block in (labels[:1], labels[1:]):
        counts.add(block)
    assert counts.counts == {"a": 2, "ä": 1, "b": 1}


def test_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbp.inspection.data_inspection.BLOCK_BYTES", 100)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        x = np.arange(60.0).reshape(20, 3)
        x[:, 1] = 7
        file["train/x"], file["train/y"] = x, np.array(["wet", "dry"] * 10, "S")
        file["train/far"] = h5py.ExternalLink("nowhere.h5", "/x")
        file["train/table"] = np.zeros(20, [("cell", "i4"), ("force", "f8")])
        file["test/x"], file["test/y"] = x[:4], np.array(["wet", "dry"] * 2, object)
        file["note"] = np.zeros(3)
    text = described(tmp_path / "d.h5")
    for words in (
        "d.h5: data set with the splits test, train; ",
        "train: 20 samples\n  train/x  (20, 3) float64, contiguous; 3 numbers a sample\n",
        f"    from 0 to 59, mean {x.mean():.6g}, spread {x.std():.6g}; constant columns: 1 (1 of 3)\n",
        f"    [2] from 2 to 59, mean {x[:, 2].mean():.6g}, spread {x[:, 2].std():.6g}\n",
        "train/y  (20,) string, contiguous\n    2 labels, samples of each: 'dry': 10, 'wet': 10\n",
        "  train/far  a link, not followed",
        "  train/table  (20,) table of cell, force, contiguous",
        "  3-128-2, relu, softmax, cross_entropy; 770 parameters, with the defaults\n",
        "  20 samples of train, 560 bytes: held in memory once a node, shuffled as a whole; validates on test",
    ):
        assert words in text, text
    assert "advice" not in text
    assert "mean" not in described(tmp_path / "d.h5", statistics=False)
    with pytest.raises(DataError, match="no such file"):
        described(tmp_path / "e.h5")


def test_targets_and_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "sim run.h5", "w") as file:
        file["pressure"], file["velocity"] = RNG.normal(size=50), RNG.normal(size=(50, 40))
        file["drag"], file["time"], file["labels"] = RNG.normal(size=50), np.arange(5.0), np.arange(50)
    text = described(tmp_path / "sim run.h5")
    assert "HDF5 file without splits" in text
    assert "  columns   labels from drag, pressure, velocity; left out: time (5 rows, labels has 50)" in text
    text = described(tmp_path / "sim run.h5", x="pressure,velocity", y="drag")
    name = shlex.quote(str(tmp_path / "sim run.h5"))
    assert f"distbp train {name} --split / --x pressure,velocity --y drag\n  41-128-1, relu, identity, mse" in text
    assert "velocity  (50, 40) float64, contiguous; 40 numbers a sample\n    from" in text
    text = described(tmp_path / "sim run.h5", x="pressure", y="labels")
    assert "50 labels, 0 … 49; 1 to 1 samples of each" in text
    text = described(tmp_path / "sim run.h5", x="pressure", y="nothing")
    assert "refused: no data set nothing; those in / are: drag, labels, pressure, time, velocity (see --y)" in text


def write(path: Path, x: Any, y: Any, test_y: Any) -> str:
    with h5py.File(path, "w") as file:
        file["train/x"], file["train/y"], file["test/x"], file["test/y"] = x, y, x[: len(test_y)], test_y
    return str(path)


GAPS = RNG.normal(size=(30, 2))
GAPS[17, 1] = GAPS[20, 0] = np.nan


@pytest.mark.parametrize(
    ("x", "y", "test_y", "words"),
    [
        (GAPS, np.arange(30) % 3, np.arange(3), "row 17: not finite"),
        (GAPS[:10], np.zeros(10, int), np.zeros(2, int), "all 10 labels are 0; a classifier needs two classes"),
        (GAPS[:10], np.arange(10) % 2, np.arange(3), "label 2 of test is not in train"),
        (np.zeros((3000, 1)), np.arange(3000), np.arange(9), "3000 different labels among 3000 samples"),
        (np.zeros((9, 1)), np.zeros((9, 2), int), np.zeros((3, 2), int), "has integers in 2 columns"),
    ],
)
def test_what_training_refuses_is_said_before(tmp_path: Path, x: Any, y: Any, test_y: Any, words: str) -> None:
    path = write(tmp_path / "d.h5", x, y, test_y)
    text = described(path)
    assert words in text.split(f"distbp train {path}\n  refused: ")[1]
    with pytest.raises(DataError):
        train_on(1, configuration(path, tmp_path / "run"))


def test_gaps_are_counted(tmp_path: Path) -> None:
    text = described(write(tmp_path / "d.h5", GAPS, np.arange(30) % 3, np.arange(3)))
    assert "    not finite: 2 values in 2 rows, first in row 17; distbp train refuses them" in text


@pytest.mark.slow
def test_slow_layouts_are_named_and_what_rewrites_them(runner: Runner) -> None:
    path, x = runner.directory / "slow.h5", RNG.integers(0, 9, (10_000, 30, 2)).astype("i2")
    with h5py.File(path, "w") as file:
        file.create_dataset("train/image", data=x, chunks=(2, 30, 1), compression="gzip", compression_opts=1)
        file.create_dataset("whole/image", (40_000, 784), "f4", chunks=(40_000, 784), compression="gzip")
        file["train/y"] = x[:, 0, 0]
    result = runner.distbp("inspect", "slow.h5", "--x", "image")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "advice: train/image is in 10000 chunks of 120 bytes; reading them takes longer than their bytes do" in lines
    assert any(line.startswith("advice: whole/image is in 1 chunks of 120 MiB") for line in lines)
    advised = next(line for line in lines if "rewrite it: " in line).split("rewrite it: ")[1]
    assert advised == "distbp import slow.h5 --split train --x image --y y --out slow-contiguous.h5"
    assert runner.distbp(*shlex.split(advised)[1:]).returncode == 0
    check_error(
        runner.distbp("import", "slow.h5", "--x", "image", "--out", "all.h5"),
        1,
        "slow.h5: no data set whole/y; those in whole are: image",
    )
    assert "advice" not in runner.distbp("inspect", "slow-contiguous.h5").stdout
    with h5py.File(runner.directory / "slow-contiguous.h5") as file:
        np.testing.assert_array_equal(file["train/x"][()], x.reshape(10_000, 60))


def test_odd_data_sets_are_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["train/x"], file["train/y"] = np.full((9, 2), np.nan), np.arange(9) % 2
        moment = h5py.h5t.UNIX_D32LE
        h5py.h5d.create(file["train"].id, b"when", moment, h5py.h5s.create_simple((9,)))
        file["train/wide"] = np.array([[1e300]] * 9)
    text = described(tmp_path / "d.h5")
    assert "train/when  (9,) of a type that NumPy does not have" in text
    assert "    no finite value" in text
    assert "refused: train/x, row 0: not finite" in text
    assert "out of the range of float32" in described(tmp_path / "d.h5", x="wide")


def test_chunks_that_run_along_the_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("train/x", (500_000, 40), "f4", chunks=(500_000, 1), compression="gzip")
        file["train/y"] = np.arange(500_000) % 2
    text = described(tmp_path / "d.h5", statistics=False)
    assert (
        "advice: train/x is in chunks (500000, 1), which run along the rows: rows of 76.3 MiB have to be read" in text
    )


def test_a_column_that_is_constant_but_for_rounding_is_called_constant(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["train/x"] = np.stack([5 + 1e-13 * RNG.normal(size=40), 1 + 1e-12 * RNG.normal(size=40)], axis=1)
        file["train/y"] = np.arange(40) % 2
    assert "constant columns: 0 (1 of 2)" in described(tmp_path / "d.h5")
