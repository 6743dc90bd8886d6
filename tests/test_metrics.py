"""Losses and metrics are those of float64, whatever the magnitude of the targets, in every mode."""

from __future__ import annotations

from math import fsum
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import StopAt, configuration, resumed, train_on

from distbp.engine.epoch_sums import EpochSums
from distbp.engine.reduction import Reduction
from distbp.engine.step_memory import Contents, StepMemory
from distbp.engine.sums import Requests, Stepped, Steps, Sums
from distbp.errors import Stopped
from distbp.mathematics.losses import mse
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator, run_threads
from distbp.training.run import Run

ROWS, STILL = (
    2000,
    1e-30,
)  # a learning rate at which no weight moves: the epoch's figures are those of the first network
FORMS = [(1, 1), pytest.param(3, 1, marks=pytest.mark.slow), (3, 2)]  # ranks, nodes
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "reproducible": {"reproducible": True, "grain": 16},
    "rounded wire": {"wire": "bfloat16"},
    "streamed": {"memory": 5e-5, "shuffle_window": 8},
}


def written(path: Path, magnitudes: tuple[float, ...]) -> str:
    """Targets of these magnitudes."""
    rng = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        for split in ("train", "test"):
            x = rng.standard_normal((ROWS, 3))
            y = np.stack([np.sin(x[:, i % 3]) + x[:, 1] for i in range(len(magnitudes))], axis=1)
            file[f"{split}/x"], file[f"{split}/y"] = x, y * np.array(magnitudes)
    return str(path)


def truth(run: Run, data: str, split: str) -> tuple[float, float]:
    """Loss and rmse of the network, in float64 from the file; squares of scaled errors, so that none overflows."""
    with h5py.File(data) as file:
        x, y = file[f"{split}/x"][:], file[f"{split}/y"][:]
        x_train, y_train = file["train/x"][:], file["train/y"][:]
    W, b = run.state.parameters.W, run.state.parameters.b
    shift, spread = (0.0, 1.0), (np.zeros(y.shape[1]), np.ones(y.shape[1]))
    if run.config.scale == "standardize":
        shift = x_train.mean(axis=0), x_train.std(axis=0)
        unit = np.abs(y_train).max(axis=0)
        spread = y_train.mean(axis=0), (y_train / unit).std(axis=0) * unit
    hidden = np.tanh((x - shift[0]) / shift[1] @ W[2].T.astype(float) + b[2])
    error = hidden @ W[3].T.astype(float) + b[3] - (y - spread[0]) / spread[1]
    largest = spread[1].max() * np.abs(error).max()
    in_units = error * spread[1] / largest
    small = np.abs(error).max()
    return float(np.mean((error / small) ** 2) * small * small), float(np.sqrt(np.mean(in_units**2)) * largest)


def check(run: Run, data: str, rel: float) -> None:
    history = run.state.history
    for part, split in (("train", "train"), ("validation", "test")):
        loss, rmse = truth(run, data, split)
        assert history[f"{part}_loss"][-1] == pytest.approx(loss, rel=rel, abs=0)
        assert history[f"{part}_rmse"][-1] == pytest.approx(rmse, rel=rel, abs=0)


def options(dtype: str, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "activation": "tanh", "learning_rate": STILL, "epochs": 1, "batch_size": 64, **more}


@pytest.mark.parametrize(
    ("dtype", "magnitudes"),
    [
        ("float32", (1e20,)),
        ("float32", (1e-22,)),
        ("float32", (1e-30,)),
        ("float32", (1e30, 1.0)),
        ("float64", (1e20,)),
        ("float64", (1e-25, 1e22)),
        ("float64", (1e150, 1.0)),
        ("float64", (1e-150,)),
        ("float64", (1e-200, 1e-230)),
        ("float64", (1e250,)),
    ],
)
@pytest.mark.parametrize(("ranks", "nodes"), FORMS)
def test_rmse_of_scaled_targets(
    tmp_path: Path, dtype: str, magnitudes: tuple[float, ...], ranks: int, nodes: int
) -> None:
    data = written(tmp_path / "d.h5", magnitudes)
    run = train_on(ranks, configuration(data, tmp_path / "run", **options(dtype)), nodes)
    check(run, data, 1e-4 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("ranks", "nodes"), FORMS)
def test_in_every_mode(tmp_path: Path, mode: str, ranks: int, nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 64)
    data = written(tmp_path / "d.h5", (1e22, 1.0))
    run = train_on(ranks, configuration(data, tmp_path / "run", **options("float32", **MODES[mode])), nodes)
    assert run.training.in_memory == (mode != "streamed")
    check(run, data, 1e-4)


@pytest.mark.parametrize(("dtype", "magnitude"), [("float32", 1e-30), ("float64", 1e-150), ("float64", 1e150)])
@pytest.mark.parametrize("reproducible", [False, True])
def test_targets_that_are_not_scaled(tmp_path: Path, dtype: str, magnitude: float, reproducible: bool) -> None:
    """Squares of 1e-30 are below float32, not below float64; the network itself gives numbers near its targets."""
    data = written(tmp_path / "d.h5", (magnitude,))
    words = options(dtype, scale="none", hidden=[], epochs=0, reproducible=reproducible)
    run = train_on(1, configuration(data, tmp_path / "run", **words))
    network = run.problem.network
    rng = np.random.default_rng(1)
    y, a = (magnitude * rng.standard_normal((1, 50)).astype(dtype) for _ in range(2))
    exact = float(np.mean(((a.astype(float) - y.astype(float)) / magnitude) ** 2)) * magnitude**2
    assert mse(y, a, a, np.empty_like(a)) / 50 == pytest.approx(exact, rel=1e-5, abs=0)
    from distbp.mathematics.backprop import Piece

    piece = Piece(network, 50, dtype)
    piece.y[...], piece.a[network.F][...] = y, a
    assert run.problem.scores(run.problem.piece_sums(piece), 50)["rmse"] == pytest.approx(exact**0.5, rel=1e-5, abs=0)


@pytest.mark.parametrize("words", [MODES["plain"], MODES["reproducible"]])
def test_a_stop_in_the_middle_of_an_epoch_changes_no_figure(tmp_path: Path, words: dict[str, Any]) -> None:
    """Also on another number of ranks: what was summed up before counts once."""
    data = written(tmp_path / "d.h5", (1e22, 1.0))
    config = configuration(data, tmp_path / "run", **options("float32", **words))
    with pytest.raises(Stopped):
        train_on(3, config, 2, **StopAt(4).words)
    check(resumed(2, config), data, 1e-4)


@pytest.mark.parametrize("flaw", [np.inf, np.nan])
def test_a_loss_that_is_not_finite_is_known_to_all_ranks(flaw: float) -> None:
    network = Network.of([4, 3], "relu", "identity", "mse")

    def on_rank(comm: Communicator) -> Stepped:
        reduction = Reduction(StepMemory(comm, Contents(network, "float32")), network)
        return reduction.reduce(Sums([flaw if comm.rank == 1 else 1e300], 1), Requests(), 3)

    with np.errstate(all="ignore"):
        steps = run_threads(3, on_rank, [[0, 1], [2]])
    assert [str(stepped.flaw) for stepped in steps] == [str(flaw)] * 3
    assert [stepped.part.values for stepped in steps][::2] == [[1e300], [1e300]]


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_sums_of_steps_do_not_depend_on_when_they_are_asked_for(ranks: int) -> None:
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((ranks, 50, 3)) ** 2 * 10.0 ** rng.integers(-150, 150, (ranks, 50, 3))

    def on_rank(comm: Communicator, often: bool) -> tuple[float, ...]:
        sums = EpochSums(comm, [0.0] * 3)
        for step, values in enumerate(parts[comm.rank].tolist()):
            sums.add(Steps.of([Stepped(Sums(values, 1), comm.size, 0.0, Requests())]))
            if often and step % 7 == 0:
                so_far = sums.total()
                sums = EpochSums(comm, so_far.values, so_far.samples)  # as a stop and a resume do
        assert sums.samples == 50 * comm.size
        return tuple(sums.total().values)

    once, often = (run_threads(ranks, lambda comm, often=often: on_rank(comm, often)) for often in (False, True))
    assert once == often
    assert len(set(once)) == 1
    assert once[0] == pytest.approx([fsum(parts[..., i].ravel()) for i in range(3)], rel=1e-13, abs=0)
