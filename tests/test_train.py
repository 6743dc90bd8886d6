"""Whole runs: resume, stop, keep, best, and what a run directory holds."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import StopAt, configuration, resumed, train_on, write_data

from distbp.errors import DataError, DivergedError, RunError, Stopped, UsageError
from distbp.ranks.threads import Threads
from distbp.settings.config import Config
from distbp.training import checkpoint
from distbp.training.phases import columns
from distbp.training.run_directory import RunDirectory

OPTIMIZERS = {
    "sgd": dict(optimizer="sgd", momentum=0.9),
    "adam": dict(optimizer="adam", schedule="step", step_epochs=1.5),
    "adamw": dict(optimizer="adamw", weight_decay=0.01, dtype="float32"),
}
CLOCKS = ("samples_per_second", "seconds", *columns())


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv") as file:
        return list(csv.DictReader(file))


def without_clocks(out: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows(out)]


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_is_uninterrupted_bit_for_bit(data_file: str, tmp_path: Path, ranks: int, optimizer: str) -> None:
    options = OPTIMIZERS[optimizer]
    whole = train_on(ranks, configuration(data_file, tmp_path / "whole", epochs=5, **options))
    part = configuration(data_file, tmp_path / "parts", epochs=2, **options)
    train_on(ranks, part)
    again = resumed(ranks, part, epochs=5)
    assert again.state.vector.tobytes() == whole.state.vector.tobytes()
    for name, values in whole.state.optimizer.items():
        assert again.state.optimizer[name].tobytes() == values.tobytes()
    assert without_clocks(tmp_path / "parts") == without_clocks(tmp_path / "whole")
    assert [row["epoch"] for row in rows(tmp_path / "parts")] == list("12345")
    assert (tmp_path / "parts" / "checkpoint-0000000020.h5").exists()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("step", [1, 3, 4, 6])  # 4 steps an epoch: inside, and at the end of one
def test_stopped_inside_an_epoch_goes_on_bit_for_bit(data_file: str, tmp_path: Path, ranks: int, step: int) -> None:
    whole = train_on(ranks, configuration(data_file, tmp_path / "whole"))
    config = configuration(data_file, tmp_path / "parts")
    with pytest.raises(Stopped) as stopped:
        train_on(ranks, config, **StopAt(step).words)
    assert stopped.value.exit_code == 75
    assert stopped.value.agreed
    newest = RunDirectory(config.out).checkpoints()[-1]
    assert newest.name == f"checkpoint-{step:010d}.h5"
    again = resumed(ranks, config, epochs=3)
    assert again.state.vector.tobytes() == whole.state.vector.tobytes()
    assert without_clocks(tmp_path / "parts") == without_clocks(tmp_path / "whole")


def test_resume_on_another_number_of_ranks_agrees_up_to_rounding(data_file: str, tmp_path: Path) -> None:
    whole = train_on(1, configuration(data_file, tmp_path / "whole", epochs=4))
    part = configuration(data_file, tmp_path / "parts", epochs=2)
    train_on(3, part)
    again = resumed(2, part, epochs=4)
    np.testing.assert_allclose(again.state.vector, whole.state.vector, rtol=1e-9, atol=1e-11)


def test_digits_to_over_97_percent(tmp_path: Path) -> None:
    run = train_on(2, Config(out=str(tmp_path / "run")))
    _, epoch = run.best()
    assert run.state.history["validation_accuracy"][epoch - 1] > 0.97
    assert run.training.x.dtype == np.uint8


def test_regression_learns_and_tells_its_error_in_the_units_of_the_targets(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.h5", train=400, test=100, kind="targets")
    run = train_on(1, configuration(data, tmp_path / "run", hidden=[32], epochs=60, batch_size=20, learning_rate=0.01))
    rmse = run.state.history["validation_rmse"][-1]
    spread = run.problem.target.spread
    assert rmse < 0.5 * math.sqrt(np.mean(np.square(spread)))
    assert rmse > 0.01 * spread.max()


def test_gradient_descent_with_a_small_rate_always_goes_down(data_file: str, tmp_path: Path) -> None:
    config = configuration(
        data_file, tmp_path / "run", batch_size="all", optimizer="sgd", learning_rate=0.01, epochs=20, activation="tanh"
    )
    losses = train_on(2, config).state.history["train_loss"]
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_mse_on_class_labels_and_no_hidden_layer(data_file: str, tmp_path: Path) -> None:
    options = {"loss": "mse", "task": "classes", "output_activation": "sigmoid", "hidden": [], "epochs": 1}
    config = configuration(data_file, tmp_path / "run", **options)
    run = train_on(1, config)
    assert run.problem.network.sizes == (0, 4, 3)
    assert run.problem.metric_names == ("accuracy",)


def test_zero_epochs_write_the_first_parameters(data_file: str, tmp_path: Path) -> None:
    train_on(3, configuration(data_file, tmp_path / "three", epochs=0))
    run = train_on(1, configuration(data_file, tmp_path / "one", epochs=0))
    first, other = (checkpoint.read(tmp_path / name / "checkpoint-0000000000.h5") for name in ("one", "three"))
    assert first.vector.tobytes() == other.vector.tobytes() == run.state.vector.tobytes()
    assert resumed(1, configuration(data_file, tmp_path / "one"), epochs=1).state.progress.step == 4


def test_keep_best_and_nothing_half_written(data_file: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = train_on(2, configuration(data_file, out, epochs=7, keep=2, checkpoint_every=3, learning_rate=0.1))
    assert sorted(file.name for file in out.iterdir()) == [
        "best.h5",
        "checkpoint-0000000024.h5",
        "checkpoint-0000000028.h5",
        "config.toml",
        "metrics.csv",
        "starts.csv",
    ]
    losses = [float(row["validation_loss"]) for row in rows(out)]
    best = checkpoint.read(out / "best.h5")
    assert best.progress.epoch == losses.index(min(losses)) + 1 == run.best()[1]


def test_without_a_validation_split(data_file: str, tmp_path: Path) -> None:
    train_on(1, configuration(data_file, tmp_path / "run", validation_split="", epochs=1))
    assert rows(tmp_path / "run")[0]["validation_loss"] == ""
    assert not (tmp_path / "run" / "best.h5").exists()


def test_a_run_is_never_overwritten(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run", epochs=1)
    train_on(1, config)
    before = {file: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with pytest.raises(RunError, match=r"--resume.*--out"):
        train_on(3, config)
    assert {file: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_a_damaged_newest_checkpoint_is_skipped(data_file: str, tmp_path: Path) -> None:
    whole = train_on(1, configuration(data_file, tmp_path / "whole"))
    config = configuration(data_file, tmp_path / "run", epochs=2)
    train_on(1, config)
    newest = tmp_path / "run" / "checkpoint-0000000008.h5"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    newest.write_bytes(content)
    again = resumed(1, config, epochs=3)
    assert again.state.vector.tobytes() == whole.state.vector.tobytes()
    assert len(rows(tmp_path / "run")) == 3


def test_resume_refuses_other_options_and_other_data(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run", epochs=1)
    train_on(1, config)
    with pytest.raises(UsageError, match=r"--learning-rate: the run has 0\.001, given was 0\.5"):
        resumed(2, config, learning_rate=0.5)
    write_data(Path(data_file), train=24)
    with pytest.raises(DataError, match="24 samples now"):
        resumed(2, config, epochs=2)
    with pytest.raises(RunError, match=r"no good checkpoint|no run"):
        resumed(1, config, out=str(tmp_path / "nothing"))


def test_a_loss_that_is_not_finite_stops_before_the_update(data_file: str, tmp_path: Path) -> None:
    config = configuration(
        data_file, tmp_path / "run", optimizer="sgd", learning_rate=1e200, loss="mse", activation="identity"
    )
    with pytest.raises(DivergedError, match=r"epoch 1, step \d") as error:
        train_on(3, config)
    assert error.value.agreed
    assert np.isfinite(RunDirectory(config.out).newest()[0].vector).all()


def test_checkpoint_minutes_save_inside_an_epoch(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0.0, 30.0)
    monkeypatch.setattr("distbp.training.saving.time.monotonic", lambda: next(clock))
    train_on(1, configuration(data_file, tmp_path / "run", epochs=1, checkpoint_minutes=1.0, keep=9))
    names = [path.name for path in RunDirectory(str(tmp_path / "run")).checkpoints()]
    assert names == ["checkpoint-0000000000.h5", "checkpoint-0000000003.h5", "checkpoint-0000000004.h5"]


@pytest.mark.parametrize("rate", [1e38, 3e38, 1e39])
def test_a_diverged_network_never_takes_the_place_of_a_good_one(data_file: str, tmp_path: Path, rate: float) -> None:
    config = configuration(
        data_file, tmp_path / "run", optimizer="sgd", learning_rate=rate, dtype="float32", batch_size="all", keep=1
    )
    with pytest.raises(DivergedError, match="nothing of it was saved"):
        train_on(2, config)
    state, path, skipped = RunDirectory(config.out).newest()
    assert path.exists()
    assert not skipped
    assert np.isfinite(state.vector).all()


def test_resume_keeps_what_is_damaged(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run", epochs=2)
    train_on(1, config)
    newest = tmp_path / "run" / "checkpoint-0000000008.h5"
    with h5py.File(newest, "r+") as file:
        file.attrs["distbp_version"] = np.bytes_(b"damaged")
    content = newest.read_bytes()
    resumed(1, config, epochs=3)
    assert (tmp_path / "run" / "checkpoint-0000000008.h5.skipped").read_bytes() == content


def test_resume_with_the_options_the_run_was_started_with(data_file: str, tmp_path: Path) -> None:
    started = dict(optimizer="sgd", momentum=0.5, loss="auto", output_activation="auto", validation_split="auto")
    config = configuration(data_file, tmp_path / "run", threads=1, epochs=1, **started)
    assert train_on(1, config).threads == Threads(1, "--threads")
    again = train_on(1, Config(out=config.out), resume_with={**started, "epochs": 2})
    assert again.threads == Threads(1, "--threads")
    assert again.state.progress.epoch == 2
    with pytest.raises(UsageError, match="--epochs 1: the run has done 2 already"):
        train_on(1, Config(out=config.out), resume_with={"epochs": 1})


DECAY = dict(checkpoint_every=1, weight_decay=0.3, learning_rate=0.05, batch_size="all", epochs=2, hidden=[6, 5])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("ranks", "nodes", "reproducible"), [(1, 1, False), (3, 2, False), (2, 1, True)])
def test_biases_that_do_not_decay(
    data_file: str, tmp_path: Path, optimizer: str, ranks: int, nodes: int, reproducible: bool
) -> None:
    """b is 0 at first, so the first step is the same with and without; the second differs by η λ b alone."""
    words = dict(DECAY, optimizer=optimizer, reproducible=reproducible)
    runs = [
        train_on(ranks, configuration(data_file, tmp_path / f"{decay}", decay_bias=decay, **words), nodes)
        for decay in (True, False)
    ]
    first = [checkpoint.read(tmp_path / f"{decay}" / "checkpoint-0000000001.h5") for decay in (True, False)]
    np.testing.assert_array_equal(first[0].vector, first[1].vector)
    (decayed, kept), before = (run.state.parameters for run in runs), first[0].parameters
    for l in (2, 3, 4):
        np.testing.assert_array_equal(kept.W[l], decayed.W[l])
        assert np.abs(before.b[l]).max() > 1e-3
        np.testing.assert_allclose(kept.b[l] - decayed.b[l], 0.05 * 0.3 * before.b[l], rtol=1e-9, atol=1e-15)


def test_biases_that_do_not_decay_belong_to_the_run(data_file: str, tmp_path: Path) -> None:
    words = dict(DECAY, batch_size=7, decay_bias=False)
    whole = train_on(2, configuration(data_file, tmp_path / "whole", **words))
    cut = configuration(data_file, tmp_path / "cut", **{**words, "epochs": 1})
    train_on(2, cut)
    assert "decay_bias = false" in (tmp_path / "cut" / "config.toml").read_text()
    np.testing.assert_array_equal(resumed(2, cut, epochs=2).state.vector, whole.state.vector)
    with pytest.raises(UsageError, match="--decay-bias: the run has False, given was True"):
        resumed(1, cut, epochs=3, decay_bias=True)
    with pytest.raises(UsageError, match="--no-decay-bias needs --weight-decay above 0"):
        configuration(data_file, "x", decay_bias=False)
