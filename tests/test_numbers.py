"""Gradients that are too long, and losses that are no numbers: what is done, and whose fault it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from runs import StopAt, configuration, resumed, train_on, write_data

from distbp.errors import DistbpError, DivergedError, Stopped
from distbp.mathematics.clipping import BLOCK, Length, exact_squares, length_of, scaled_squares, shorten
from distbp.training.comparison import digest


def norm(gradient: np.ndarray) -> float:
    out = np.full(-(-len(gradient) // BLOCK), np.nan)
    exact_squares(gradient, out)
    return math.sqrt(out.sum())


def length(gradient: np.ndarray) -> Length:
    """As the memory of a step has it."""
    out, scaled = np.full((2, -(-len(gradient) // BLOCK)), np.nan)
    with np.errstate(all="ignore"):
        exact_squares(gradient, out)
        scaled_squares(gradient, scaled)
        return length_of(out, scaled)


@given(
    count=st.integers(1, 200_000),
    scale=st.sampled_from([1.0, 1e-30, 1e30]),
    dtype=st.sampled_from(["float32", "float64"]),
    limit=st.floats(0.01, 100.0),
)
def test_the_norm_and_the_direction(count: int, scale: float, dtype: str, limit: float) -> None:
    gradient = (np.random.default_rng(count).standard_normal(count) * scale).astype(dtype)
    exact = float(np.linalg.norm(gradient.astype(np.longdouble)))
    assert norm(gradient) == pytest.approx(exact, rel=1e-12)
    before = gradient.astype(np.float64)
    shorten(gradient, length(gradient), limit)
    assert norm(gradient) == pytest.approx(min(exact, limit), rel=1e-6)
    np.testing.assert_allclose(gradient, before * min(1.0, limit / exact), rtol=1e-6)


@given(
    exponents=st.lists(st.floats(-300, 308.2), min_size=1, max_size=6),
    count=st.sampled_from([1, 3, BLOCK, 3 * BLOCK + 5]),
    limit=st.sampled_from([1e-3, 1.0, 1e200, 1e307]),
)
@example(exponents=[0.0, 0.0, 152.5], count=3 * BLOCK + 5, limit=1e-3)  # each block has a square, all have not
def test_gradients_whose_squares_are_no_numbers(exponents: list[float], count: int, limit: float) -> None:
    """Against numbers of more range: the length is that, and the direction stays."""
    if np.finfo(np.longdouble).maxexp <= 1024:
        pytest.skip("this CPU has no such numbers")
    signs = np.random.default_rng(count).choice([-1.0, 1.0], count)
    gradient = np.resize(10.0 ** np.array(exponents), count) * signs
    exact = np.sqrt(np.sum(np.square(gradient.astype(np.longdouble))))
    found = length(gradient)
    assert math.isfinite(found.scaled)
    if exact > 1e-127:  # where the scaled length has all digits: 2^-600 times it is a normal number
        assert abs(np.longdouble(found.scaled) * np.longdouble(2.0) ** 600 / exact - 1) < 1e-12
    if exact > 1e-140:
        assert math.isinf(found.value) if exact > 1.8e308 else found.value == pytest.approx(float(exact), rel=1e-12)
    before = gradient.astype(np.longdouble)
    shorten(gradient, found, limit)
    expected = before * min(np.longdouble(1.0), limit / exact)
    np.testing.assert_allclose(gradient, expected.astype(np.float64), rtol=1e-10, atol=1e-307)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("rest", [1.0, 1e300])
def test_what_is_no_number_has_no_length(value: float, rest: float) -> None:
    for place in (0, BLOCK, 2 * BLOCK):
        gradient = np.full(2 * BLOCK + 1, rest)
        gradient[place] = value
        assert not math.isfinite(length(gradient).scaled)


def far(path: Path) -> str:
    """Regression data whose loss is a number, and whose gradient has a square that is none."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file["train/x"] = rng.standard_normal((40, 3)) * 1e60
        file["train/y"] = rng.standard_normal((40, 1)) * 1e100
    return str(path)


@pytest.mark.parametrize(
    ("ranks", "nodes"), [(1, 1), *(pytest.param(*form, marks=pytest.mark.slow) for form in ((2, 1), (3, 1))), (3, 2)]
)
@pytest.mark.parametrize("words", [{}, {"reproducible": True, "grain": 2}])
def test_a_gradient_above_1e154_is_finite(tmp_path: Path, ranks: int, nodes: int, words: dict[str, Any]) -> None:
    """So it is used: as it is, by a learning rate that fits, or shortened, also by Adam, who squares it."""
    data = far(tmp_path / "d.h5")
    options = {**OPTIONS, **words, "dtype": "float64", "hidden": [], "epochs": 1}
    run = train_on(ranks, configuration(data, tmp_path / "small", **options, learning_rate=1e-200), nodes)
    assert run.state.progress.skipped == 0
    clipped = {**options, "clip_norm": 1.0, "learning_rate": 1e-3}
    for name in ("sgd", "adam"):
        run = train_on(ranks, configuration(data, tmp_path / name, **{**clipped, "optimizer": name}), nodes)
        assert run.state.progress.skipped == 0
    with pytest.raises(DivergedError, match="v of W of layer 2 would not be finite in float64"):
        train_on(ranks, configuration(data, tmp_path / "adam alone", **{**options, "optimizer": "adam"}), nodes)


@pytest.mark.heavy
def test_clipping_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for limit in (0.5, 20.0):
        gradient = rng.standard_normal(100)
        parameter = torch.nn.Parameter(torch.zeros(100, dtype=torch.float64))
        parameter.grad = torch.from_numpy(gradient.copy())
        torch.nn.utils.clip_grad_norm_([parameter], limit)
        shorten(gradient, length(gradient), limit)
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=2e-6)  # PyTorch adds 1e-6 to the norm


def test_a_clipped_run_is_the_same_on_any_number_of_ranks(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.h5")
    options: dict[str, Any] = {"clip_norm": 0.1, "optimizer": "sgd", "reproducible": True, "grain": 2}
    digests = {
        digest(train_on(ranks, configuration(data, tmp_path / f"{ranks}", **options)).state.parameters)
        for ranks in (1, 2, 5)
    }
    assert len(digests) == 1
    free = train_on(1, configuration(data, tmp_path / "free", **{**options, "clip_norm": 0.0}))
    loose = train_on(1, configuration(data, tmp_path / "loose", **{**options, "clip_norm": 1e9}))
    assert digest(free.state.parameters) == digest(loose.state.parameters) not in digests


def spiked(path: Path, row: int, value: float, rows: int = 40) -> str:
    """Regression data with one target that is far too large for float32 squares."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        x, y = rng.standard_normal((rows, 3)), rng.standard_normal((rows, 1))
        y[row] = value
        file["train/x"], file["train/y"] = x, y
    return str(path)


OPTIONS: dict[str, Any] = {"dtype": "float32", "scale": "none", "optimizer": "sgd", "batch_size": 8, "epochs": 2}


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("words", [{}, {"reproducible": True, "grain": 2}])
@pytest.mark.parametrize("streamed", [False, True])
def test_whose_loss_it_is(
    tmp_path: Path, ranks: int, words: dict[str, Any], streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 64)
    data = spiked(tmp_path / "d.h5", 290, 1e25, rows=400)  # 12,800 bytes
    options = {**OPTIONS, **words, "shuffle_window": 8, "memory": 9e-6 if streamed else 1.0}
    config = configuration(data, tmp_path / "run", **options)
    with pytest.raises(
        DivergedError, match=r"the loss is inf at epoch 1, step \d+: L is not finite for .*d\.h5: train/x, row 290;"
    ) as error:
        train_on(ranks, config)
    assert error.value.agreed
    assert "the last checkpoint is" in str(error.value)


def test_which_layer_it_is(tmp_path: Path) -> None:
    data = str(tmp_path / "d.h5")
    with h5py.File(data, "w") as file:
        x = np.random.default_rng(2).standard_normal((20, 50))
        x[11] = 3e38
        file["train/x"], file["train/y"] = x, np.arange(20) % 2
    options = {**OPTIONS, "activation": "identity", "hidden": [30, 30]}
    with pytest.raises(DivergedError, match=r"[za] of layer [234] is not finite for .*row 11;"):
        train_on(2, configuration(data, tmp_path / "run", **options))


def test_parameters_that_diverge(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.h5", kind="targets")
    options = {**OPTIONS, "learning_rate": 1e30, "activation": "identity", "batch_size": 4}
    with pytest.raises(DivergedError, match=r"at epoch 1, step \d(: |)"):
        train_on(2, configuration(data, tmp_path / "run", **options))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_batch_can_be_skipped(tmp_path: Path, ranks: int) -> None:
    """What is skipped changes nothing; the rest goes on, also after a resume, up to a limit."""
    data = spiked(tmp_path / "d.h5", 29, 1e25)
    options = {**OPTIONS, "on_nan": "skip", "epochs": 3, "reproducible": True, "grain": 2}
    whole = train_on(ranks, configuration(data, tmp_path / "run", **options))
    assert whole.state.progress.skipped == 3
    assert whole.state.progress.samples == 120
    assert np.isfinite(whole.state.vector).all()
    assert np.isfinite(whole.state.history["train_loss"]).all()
    config = configuration(data, tmp_path / "parts", **options)
    with pytest.raises(Stopped):
        train_on(1, config, **StopAt(7).words)
    assert digest(resumed(3 - ranks, config).state.parameters) == digest(whole.state.parameters)
    with pytest.raises(DivergedError, match="and --skip-limit 1 is reached") as error:
        train_on(ranks, configuration(data, tmp_path / "limit", **{**options, "skip_limit": 1}))
    assert error.value.agreed


def test_all_batches_may_be_skipped(tmp_path: Path) -> None:
    data = spiked(tmp_path / "d.h5", 3, 1e25, rows=5)
    run = train_on(1, configuration(data, tmp_path / "run", **{**OPTIONS, "on_nan": "skip", "epochs": 2}))
    assert np.isnan(run.state.history["train_loss"]).all()
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1].startswith("1,1,,")


def test_constant_columns_are_not_divided_by_zero(tmp_path: Path) -> None:
    data = str(tmp_path / "d.h5")
    with h5py.File(data, "w") as file:
        x = np.random.default_rng(2).standard_normal((20, 3))
        x[:, 1] = 7e30
        file["train/x"], file["train/y"] = x, x[:, :1]
    for scale in ("standardize", "minmax"):
        run = train_on(1, configuration(data, tmp_path / scale, scale=scale, dtype="float32"))
        assert np.isfinite(run.state.history["train_loss"]).all()
    with pytest.raises(DistbpError):
        configuration(data, tmp_path / "wrong", clip_norm=-1.0)


def test_the_sum_of_scaled_squares_has_an_order_of_its_own() -> None:
    """One after another, not in the order of a BLAS; the compiled engine asks for it, too."""
    gradient = np.random.default_rng(4).standard_normal(5000) * 1e200
    out = np.empty(2)
    scaled_squares(gradient, out)
    for first, found in zip((0, BLOCK), out.tolist(), strict=True):
        total = 0.0
        for g in gradient[first : first + BLOCK].tolist():
            total += (g * 2.0**-600) * (g * 2.0**-600)
        assert found == total
