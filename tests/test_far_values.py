"""Values that are absurdly far away: told by row and column, in training, evaluation and prediction."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Notes, Runner, check_error, configuration, resumed, train_on

from distbp.data.far_values import far_values
from distbp.data.split import read_split
from distbp.engine.evaluate import Evaluation
from distbp.errors import DataError
from distbp.prediction.predict import predict
from distbp.ranks.communicator import Communicator, run_threads
from distbp.training.checkpoint import read
from distbp.training.run_directory import RunDirectory


def written(path: Path, *, kind: str = "classes", **values: float) -> str:
    """300 rows; `x`, `y`: what is at row 7, column 3, of x, or at row 7, column 1 of y, of the test split."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for split in ("train", "test"):
            x = rng.standard_normal((300, 6)) * [1, 1, 1, 0.01, 1, 1]
            y = np.stack([x[:, 0], x[:, 1] * 5 + 1], axis=1)
            labels = x.argmax(axis=1) % 3
            if split == "test":
                x[7, 3], y[7, 1] = values.get("x", x[7, 3]), values.get("y", y[7, 1])
            file[f"{split}/x"], file[f"{split}/y"] = x, labels if kind == "classes" else y
    return str(path)


def trained(data: str, out: Path, **options: Any) -> tuple[Any, Notes]:
    notes = Notes()
    words = {"dtype": "float32", "epochs": 2, **options}
    return train_on(1, configuration(data, out, **words), listener=notes), notes


@pytest.mark.parametrize("kind", ["classes", "targets"])
@pytest.mark.parametrize("scale", ["standardize", "minmax"])
def test_one_absurd_value_is_told_before_training(tmp_path: Path, kind: str, scale: str) -> None:
    data = written(tmp_path / "d.h5", kind=kind, x=1e30, y=-1e20)
    run, notes = trained(data, tmp_path / "run", scale=scale, dtype="float64")
    spread = run.problem.input.spread[3]
    expected = f"{data}: test/x, row 7, column 3: 1e+30 is {1e30 / spread:.3g} when scaled as in training"
    assert len(notes.about(expected)) == 1
    assert len(notes.about("test/y, row 7, column 1: -1e+20 is -")) == (kind == "targets")
    assert not notes.about("no best.h5")


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("memory", [float("inf"), 0.0])
def test_the_first_row_and_how_many(tmp_path: Path, ranks: int, memory: float) -> None:
    data = written(tmp_path / "d.h5", x=-5e9)
    with h5py.File(data, "r+") as file:
        file["test/x"][200:203, 5] = 1e8
    run, _ = trained(data, tmp_path / "run")

    def on_rank(comm: Communicator) -> list[str]:
        return far_values(comm, run.problem, read_split(comm, [data], "test", "x", "y", memory=memory))

    (told,) = {tuple(one) for one in run_threads(ranks, on_rank)}
    assert len(told) == 1
    assert "test/x, row 7, column 3: -5e+09 is -" in told[0]
    assert told[0].endswith("; 4 rows have such values")


def test_nothing_is_said_of_usual_values(tmp_path: Path) -> None:
    run, notes = trained(written(tmp_path / "d.h5", x=1e3), tmp_path / "run")  # 1e5 when scaled
    assert not notes.about("warning")
    assert run.best()[1] > 0
    far = written(tmp_path / "n.h5", x=1e30)
    assert not trained(far, tmp_path / "none", scale="none", dtype="float64")[1].about("when scaled")


def test_small_integers_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/x"], file[f"{split}/y"] = rng.integers(0, 255, (90, 4), np.uint8), np.arange(90) % 3
    monkeypatch.setattr("distbp.data.far_values.extremes_of", None)
    trained(str(tmp_path / "d.h5"), tmp_path / "run")


def test_a_column_that_is_constant_up_to_rounding_is_told(tmp_path: Path) -> None:
    data = written(tmp_path / "d.h5")
    with h5py.File(data, "r+") as file:
        file["train/x"][:, 2] = 5 + 1e-13 * file["train/x"][:, 2]
        file["test/x"][:, 2] = 6.0
    run, notes = trained(data, tmp_path / "run")
    assert len(notes.about("train/x: constant up to rounding, and taken as constant: column 2")) == 1
    assert run.state.history["validation_loss"][-1] < 3
    config = run.config
    again = Notes()
    train_on(1, config, resume_with={"epochs": 3}, listener=again)
    assert not again.about("constant up to rounding")


@pytest.mark.parametrize("kind", ["classes", "targets"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_validation_that_is_not_finite(tmp_path: Path, kind: str, ranks: int) -> None:
    """It is told once, with its row; where no epoch has a finite one, that there is no best.h5."""
    data = written(tmp_path / "d.h5", kind=kind, x=9.97e36)
    notes = Notes()
    config = configuration(data, tmp_path / "run", dtype="float32", epochs=3)
    run = train_on(ranks, config, listener=notes)
    assert not np.isfinite(run.state.history["validation_loss"]).any()
    place = f"{data}: test/x, row 7, column 3: 9.97e+36 is "
    (told,) = notes.about("which makes no best.h5: ")
    assert place in told
    (last,) = notes.about(f"no {tmp_path / 'run' / 'best.h5'}: the validation loss is not finite (")
    assert place in last
    assert not (tmp_path / "run" / "best.h5").exists()
    with h5py.File(data, "r+") as file:
        file["test/x"][7, 3] = 0.0
    assert resumed(ranks, config, epochs=4, allow_changed_data=True).best()[1] == 4


@pytest.mark.parametrize("kind", ["classes", "targets"])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("memory", [float("inf"), 0.0])
@pytest.mark.parametrize("name", ["p.csv", "p.h5"])
def test_predictions_that_are_not_finite_are_refused(
    tmp_path: Path, kind: str, ranks: int, memory: float, name: str
) -> None:
    data, out = written(tmp_path / "d.h5", kind=kind, x=9.97e36), tmp_path / name
    run, _ = trained(data, tmp_path / "run", epochs=1)
    state = read(RunDirectory(run.config.out).checkpoints()[-1])

    def on_rank(comm: Communicator) -> None:
        split = read_split(comm, [data], "test", "x", None, memory=memory)
        predict(comm, state, split, out)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"no finite output for .*d\.h5: test/x, row 7, column 3: 9\.97e\+36 is"):
            run_threads(ranks, on_rank)
    assert list(tmp_path.glob("*p.*")) == []

    def evaluated(comm: Communicator) -> str:
        split = read_split(comm, [data], "test", "x", "y", labels=state.problem.labels, memory=memory)
        evaluation = Evaluation(comm, state.problem, split, "float32")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not np.isfinite(evaluation(state.parameters).loss)
            return evaluation.why_not_finite(state.parameters)

    (why,) = set(run_threads(1, evaluated))
    assert "is not finite for" in why
    assert "test/x, row 7, column 3" in why


@pytest.mark.slow
def test_the_commands(runner: Runner, tmp_path: Path) -> None:
    data = written(tmp_path / "d.h5", x=9.97e36)
    trained_ = runner.distbp("train", data, "--epochs", 1, "--out", "run")
    assert trained_.returncode == 0, trained_.stderr
    assert "validation loss nan" in trained_.stdout or "validation loss inf" in trained_.stdout
    assert "no run/best.h5: the validation loss is not finite (" in trained_.stdout
    for command in (("evaluate", "run"), ("predict", "run", "--out", "p.csv")):
        result = runner.distbp(*command)
        check_error(result, 1, "row 7", "column 3", "9.97e+36")
        assert "Warning" not in result.stderr
    assert not (runner.directory / "p.csv").exists()
