"""Scaling: the statistics of the whole split on any number of ranks, and its use."""

from __future__ import annotations

from math import fsum
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import configuration, split_of, train_on, write_data

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling, measure
from distbp.engine.feed import Feed
from distbp.errors import DataError
from distbp.ranks.communicator import OneProcess, run_threads

RNG = np.random.default_rng(0)
DATA = RNG.normal([0, 5, -3, 1e8], [1, 0.1, 200, 1], (1001, 4))


@pytest.mark.heavy
@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_standardize_is_scikit_learns(ranks: int) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    truth = preprocessing.StandardScaler().fit(DATA)
    for scaling in run_threads(ranks, lambda comm: measure(comm, DATA, "standardize")):
        np.testing.assert_allclose(scaling.shift, truth.mean_, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(scaling.spread, truth.scale_, rtol=1e-7)


@pytest.mark.parametrize("ranks", [1, 3, 2000])
def test_minmax_and_ranks_without_samples(ranks: int) -> None:
    if ranks > 1000:
        ranks, data = 40, DATA[:7]
    else:
        data = DATA
    for scaling in run_threads(ranks, lambda comm: measure(comm, data, "minmax")):
        np.testing.assert_array_equal(scaling.shift, data.min(axis=0))
        np.testing.assert_array_equal(scaling.spread, data.max(axis=0) - data.min(axis=0))


@pytest.mark.parametrize("method", ["standardize", "minmax"])
def test_constant_columns_become_zero(method: str) -> None:
    data = np.full((10, 2), 0.1)
    (scaling,) = run_threads(1, lambda comm: measure(comm, data, method))
    assert scaling.spread.tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(scaling.shift, data[0])


@pytest.mark.parametrize("stored", ["u1", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_is_scaled_from_any_type(stored: str, dtype: str) -> None:
    from distbp.mathematics.backprop import Piece
    from distbp.mathematics.network import Network

    x = (RNG.random((20, 3)) * 100).astype(stored)
    network = Network.of([3, 2], "relu", "softmax", "cross_entropy")
    (scaling,) = run_threads(1, lambda comm: measure(comm, x, "standardize"))
    data = split_of(x, np.arange(20) % 2, (0, 1))
    piece = Piece(network, 5, dtype)
    rows = np.array([3, 19, 0, 3, 7])
    Feed(Problem(network, scaling, Scaling.none(2), (0, 1)), data, 8, dtype).fill(piece, data.x, data.y, rows)
    expected = (x[rows].astype(np.float64) - x.mean(axis=0, dtype=np.float64)) / x.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(piece.a[1].T, expected, rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(piece.y, np.eye(2)[:, rows % 2])


def test_a_large_offset_is_subtracted_before_rounding() -> None:
    from distbp.mathematics.backprop import Piece
    from distbp.mathematics.network import Network

    x = 1e9 + np.arange(10.0)[:, None]
    network = Network.of([1, 2], "relu", "softmax", "cross_entropy")
    (scaling,) = run_threads(1, lambda comm: measure(comm, x, "standardize"))
    piece = Piece(network, 10, "float32")
    data = split_of(x)
    Feed(Problem(network, scaling, Scaling.none(2), (0, 1)), data, 10, "float32").fill(
        piece, data.x, None, np.arange(10)
    )
    np.testing.assert_allclose(piece.a[1][0], (np.arange(10) - 4.5) / np.arange(10).std(), rtol=1e-6)


def test_targets_are_scaled_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = write_data(tmp_path / "d.h5", kind="targets")
    problem = train_on(1, configuration(data, tmp_path / "run", epochs=0)).problem
    y = RNG.standard_normal((5, 2))
    np.testing.assert_allclose(problem.target.undo((y - problem.target.shift) / problem.target.spread), y)
    assert not problem.target.is_none


def test_columns_of_any_size_and_zeros_of_both_signs_on_any_number_of_ranks() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20000, 6)) * np.array([1e150, 1e-200, 1e-310, 1.0, 0.0, 1.0]) + np.array(
        [0, 0, 0, 1e8, 0, 0]
    )
    x[::2, 4] = -0.0
    x[:, 5] = np.where(np.arange(20000) % 2, 1.0, np.nextafter(1.0, 2.0))
    alone = run_threads(1, lambda comm: measure(comm, x, "standardize"))[0]
    mean = np.array([fsum(column / len(x)) for column in x.T])
    error = np.abs(alone.shift - mean)[:4]
    assert (error <= 1e-14 * (x.max(axis=0) - x.min(axis=0))[:4] + 1e-323).all()  # beside the spread, which it is for
    np.testing.assert_allclose(alone.spread[[0, 3]], x.std(axis=0)[[0, 3]], rtol=1e-12)
    assert alone.spread[4] == 1.0
    for ranks in (2, 3, 5, 8):
        for method in ("standardize", "minmax"):
            one = run_threads(1, lambda comm, m=method: measure(comm, x, m))[0]
            for scaling in run_threads(ranks, lambda comm, m=method: measure(comm, x, m)):
                assert scaling.shift.tobytes() == one.shift.tobytes()
                assert scaling.spread.tobytes() == one.spread.tobytes()


def test_an_outlier_among_many_takes_no_digits() -> None:
    """The worst case of the formula: the mean is far from the middle of the extremes."""
    x = np.random.default_rng(0).standard_normal((200000, 2)) + np.array([0.0, 1e6])
    x[77] = [1e7, -1e7]
    scaling = run_threads(3, lambda comm: measure(comm, x, "standardize"))[0]
    wide = x.astype(np.longdouble)
    np.testing.assert_allclose(scaling.spread, wide.std(axis=0).astype(float), rtol=1e-10)
    np.testing.assert_allclose(scaling.shift, wide.mean(axis=0).astype(float), atol=1e-9)


NOISE = np.random.default_rng(5).standard_normal(400)
CONSTANT = {
    "rounding of 5": 5 + 1e-13 * NOISE,
    "rounding of 1e20": 1e20 * (1 + 1e-15 * NOISE),
    "negative": -0.1 + 1e-16 * NOISE,
    "one step": np.where(NOISE > 0, 0.3, 0.1 + 0.2),
}
VARYING = {
    "1 + 1e-12 noise": 1 + 1e-12 * NOISE,
    "time stamps": 1.7e9 + NOISE,
    "counted beyond 2^43": 1e13 + (NOISE > 0),
    "2^53 + k": 2.0**53 + 2 * np.arange(400.0),
    "around 0": 1e-300 * NOISE,
    "large integers": 2**53 + np.arange(400),
    "float32, one step": np.where(NOISE > 0, 1, np.nextafter(np.float32(1), np.float32(2))).astype(np.float32),
    "float16": np.where(NOISE > 0, 300.25, 300.5).astype(np.float16),
}


@pytest.mark.parametrize("method", ["standardize", "minmax"])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("name", [*CONSTANT, *VARYING])
def test_constant_up_to_rounding(name: str, ranks: int, method: str) -> None:
    x = (CONSTANT | VARYING)[name][:, None]
    for scaling in run_threads(ranks, lambda comm: measure(comm, x, method)):
        assert scaling.rounded == ((0,) if name in CONSTANT else ())
        if name in CONSTANT:
            assert scaling.spread == 1.0
            assert x.min() <= scaling.shift <= x.max()
        else:
            middle = float(x[0, 0])
            u = np.array([float(int(v) - int(middle)) if x.dtype.kind == "i" else float(v) - middle for v in x[:, 0]])
            truth = np.ptp(u) if method == "minmax" else (u / np.ptp(u)).std() * np.ptp(u)
            assert scaling.spread == pytest.approx(truth, rel=1e-6 if "integers" not in name else 3e-3, abs=0)


@pytest.mark.parametrize("magnitude", [1e-165, 1e-290, 1e200, 1e300])
def test_columns_whose_squares_are_no_numbers(magnitude: float) -> None:
    x = (magnitude * NOISE)[:, None]
    scaling = run_threads(2, lambda comm: measure(comm, x, "standardize"))[0]
    assert scaling.spread[0] / magnitude == pytest.approx(NOISE.std(), rel=1e-12)
    assert scaling.shift[0] / magnitude == pytest.approx(NOISE.mean(), rel=1e-12)


@pytest.mark.parametrize(("dtype", "advice"), [("float32", ", or use --dtype float64"), ("float64", "change its unit")])
@pytest.mark.parametrize("magnitude", [1e-309, 1e308])
def test_beyond_the_range_the_advice_is_one_that_helps(
    tmp_path: Path, dtype: str, advice: str, magnitude: float
) -> None:
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        file["train/x"], file["train/y"] = magnitude * np.sign(NOISE)[:, None], NOISE[:, None]
    with pytest.raises(DataError, match=rf"d.h5: train/x, column 0: .* out of the range of {dtype}: .*{advice}$"):
        train_on(1, configuration(str(path), tmp_path / "run", dtype=dtype, epochs=1))


@pytest.mark.parametrize("columns", [1, 3])
def test_the_bits_do_not_depend_on_how_the_rows_lie_in_memory(columns: int) -> None:
    """NumPy sums rows of C order one after another, and columns of Fortran order in pairs."""
    rows = np.random.default_rng(2).standard_normal((5000, columns)) * 100.0 + 7.0
    wide = np.zeros((5000, columns + 4))
    wide[:, 2 : 2 + columns] = rows
    found = [
        measure(OneProcess(), one, "standardize")
        for one in (rows, np.asfortranarray(rows), wide[:, 2 : 2 + columns], rows[::-1][::-1])
    ]
    assert len({(one.shift.tobytes(), one.spread.tobytes()) for one in found}) == 1
    np.testing.assert_allclose(found[0].spread, rows.std(axis=0), rtol=1e-14)
