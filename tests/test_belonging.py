"""A best.h5 of another run is not taken for this run's; a network beside an optimizer's overflow can be used."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Notes, NoWaits, Runner, check_error, configuration, resumed, train_on, write_data

import distbp
from distbp.errors import CheckpointError
from distbp.inspection.file_inspection import describe, describe_difference, describe_digest
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import OneProcess
from distbp.settings.config import Config
from distbp.tables.like import names_of
from distbp.training import checkpoint, invariants
from distbp.training.checkpoint import Checkpoint, read
from distbp.training.comparison import digest
from distbp.training.run_directory import RunDirectory

NEWEST = "checkpoint-0000000012.h5"


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Config, str]:
    """A run of three epochs, with the checkpoints of all; where it comes to in the fifth, and the digest there."""
    here = tmp_path_factory.mktemp("made")
    config = configuration(write_data(here / "data.h5"), here / "run", keep=9)
    train_on(1, config)
    whole = replace(config, out=str(here / "whole"), epochs=5)
    return config, whole, digest(train_on(1, whole).state.parameters)


@pytest.fixture
def run(made: tuple[Config, Config, str], tmp_path: Path) -> Config:
    """A copy of it."""
    shutil.copytree(made[0].out, tmp_path / "run")
    return replace(made[0], out=str(tmp_path / "run"))


def of_another_run(run: Config, tmp_path: Path, **options: Any) -> None:
    other = {**options, "out": str(tmp_path / "other")}
    if "data" in other:
        other["data"] = [write_data(tmp_path / "other.h5", **other["data"])]
    train_on(1, replace(run, **other))
    shutil.copy(tmp_path / "other" / "best.h5", Path(run.out) / "best.h5")


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"hidden": [5]}, "its network is 4-5-3, .* that of the run 4-6-3, "),
    "activation": ({"activation": "tanh"}, "its network is .*tanh"),
    "dtype": ({"dtype": "float32"}, "its network is .* in float32, that of the run .* in float64"),
    "targets": ({"data": {"kind": "binary"}}, "its network is 4-6-2, .* that of the run 4-6-3, "),
    "data": ({"data": {"train": 24}}, "it scales its inputs with other numbers than the run"),
    "scale": ({"scale": "minmax"}, "it scales its inputs with other numbers than the run"),
    "seed": ({"seed": 3}, "it was trained with --seed 3, the run with 0"),
    "learning rate": ({"learning_rate": 0.5}, "it was trained with --learning-rate 0.5, the run with "),
    "skipped": ({"data": {"test": 9}}, r"its validation loss of epoch 1 is [\d.]+, that of the run "),
    "newer": ({"data": {"test": 9}, "epochs": 40}, r"its validation loss of epoch 1 is [\d.]+, that of the run "),
}


USES: dict[str, Callable[[str], Any]] = {
    "evaluate and predict": lambda name: load(OneProcess(), name, Use([], "test", targets=True)),
    "load": distbp.load,
    "distbp.evaluate": distbp.evaluate,
    "inspect": lambda name: list(describe(name)),
    "inspect --digest": lambda name: list(describe_digest(name)),
    "inspect --diff": lambda name: list(describe_difference(name, name)),
    "import --like": names_of,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_nobody_uses_a_best_of_another_run(run: Config, tmp_path: Path, kind: str) -> None:
    """The reason is told in the words of a resume; the file itself may be named."""
    options, words = OTHERS[kind]
    of_another_run(run, tmp_path, **options)
    for use in USES.values():
        with pytest.raises(CheckpointError, match=f"(?s)best.h5: does not belong to the run .*{NEWEST} is: {words}"):
            use(run.out)
    distbp.load(f"{run.out}/best.h5")


def test_a_best_that_nothing_is_known_against(run: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older checkpoints tell in the place of damaged ones; nothing does where none is left that may be read."""
    NoWaits().install(monkeypatch)
    of_another_run(run, tmp_path, seed=3)
    *others, newest = RunDirectory(run.out).checkpoints()
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"of which {others[-1].name} is: it was trained with --seed 3"):
        distbp.load(run.out)
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, how: False)
        distbp.load(run.out)
    for path in others:
        path.unlink()
    distbp.load(run.out)


def test_the_best_of_the_run_itself(made: tuple[Config, Config, str], run: Config) -> None:
    """It is used beside each of its checkpoints, those before its epoch and those after it."""
    for path in RunDirectory(made[0].out).checkpoints():
        for other in RunDirectory(run.out).checkpoints():
            other.unlink()
        shutil.copy(path, run.out)
        for use in list(USES.values())[:4]:
            use(run.out)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_marks_are_what_is_read(made: tuple[Config, Config, str], version: int) -> None:
    """Of today's format and of older ones, without the parameters."""
    older = Path(__file__).parent / "older" / f"version-{version}.h5"
    for path in (older, Path(made[0].out) / "best.h5", Path(made[0].out) / NEWEST):
        whole, small = read(path), checkpoint.marks(path)
        assert (small.config, small.progress) == (whole.config, whole.progress)
        assert small.problem.network.describe() == whole.problem.network.describe()
        assert small.problem.labels == whole.problem.labels
        assert (small.vector.size, small.optimizer) == (0, {})
        np.testing.assert_array_equal(small.history["train_loss"], whole.history["train_loss"])
        np.testing.assert_array_equal(small.problem.input.shift, whole.problem.input.shift)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_the_commands_refuse_it(run: Config, tmp_path: Path, runner: Runner, command: str) -> None:
    of_another_run(run, tmp_path, seed=3)
    out = ("--out", "p.csv") if command == "predict" else ()
    result = runner.distbp(command, run.out, *out)
    check_error(result, 1, "best.h5: does not belong to the run in this directory", "it was trained with --seed 3")
    assert not (runner.directory / "p.csv").exists()


@pytest.mark.parametrize("kind", OTHERS)
def test_a_best_of_another_run(run: Config, made: tuple[Config, Config, str], tmp_path: Path, kind: str) -> None:
    """It is put aside, and the run becomes the one that was not disturbed, its best.h5 too."""
    options, words = OTHERS[kind]
    of_another_run(run, tmp_path, **options)
    stranger = (Path(run.out) / "best.h5").read_bytes()
    notes = Notes()
    again = train_on(1, replace(run, epochs=5), resume_with={"epochs": 5}, listener=notes)
    (told,) = (line for line in notes.lines if line.startswith("warning"))
    assert f"{run.out}/best.h5: does not belong to this run: " in told
    assert re.search(words, told), told
    assert digest(again.state.parameters) == made[2]
    assert (Path(run.out) / "best.h5.skipped").read_bytes() == stranger
    expected = read(Path(made[1].out) / "best.h5")
    assert digest(read(Path(run.out) / "best.h5").parameters) == digest(expected.parameters)
    assert again.best() == (min(expected.history["validation_loss"]), expected.progress.epoch)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("what", ["as it is", "newer", "missing", "damaged"])
def test_a_best_of_this_run(run: Config, made: tuple[Config, Config, str], what: str, ranks: int) -> None:
    """It is left alone, also where it is of an epoch that no checkpoint has."""
    place, notes = Path(run.out), Notes()
    if what == "newer":
        shutil.copy(Path(made[1].out) / "best.h5", place / "best.h5")
        assert read(place / "best.h5").progress.epoch > 3
    elif what == "missing":
        (place / "best.h5").unlink()
    elif what == "damaged":
        (place / "best.h5").write_bytes((place / "best.h5").read_bytes()[:-100])
    again = train_on(ranks, replace(run, epochs=5), resume_with={"epochs": 5}, listener=None if ranks > 1 else notes)
    assert not [line for line in notes.lines if "does not belong" in line]
    assert (place / "best.h5.skipped").exists() == (what == "damaged")
    losses = list(again.state.history["validation_loss"])
    assert again.best() == (min(losses), losses.index(min(losses)) + 1)
    assert list(read(place / "best.h5").history["validation_loss"])[-1] == min(losses)


def test_nothing_that_was_put_aside_is_replaced(run: Config, tmp_path: Path) -> None:
    (Path(run.out) / "best.h5.skipped").write_text("another one")
    of_another_run(run, tmp_path, seed=3)
    resumed(1, run)
    assert (Path(run.out) / "best.h5.skipped").read_text() == "another one"
    assert read(Path(run.out) / "best.h5.skipped.2").config.seed == 3


# Optimizers that are not finite


def overflown(path: Path, monkeypatch: pytest.MonkeyPatch, *, network: bool = False) -> Checkpoint:
    """As early versions wrote it, who did not look."""
    state = read(path)
    state.optimizer = state.optimizer or {name: np.zeros_like(state.vector) for name in ("m", "v")}  # best.h5 had them
    state.optimizer["v"][3], state.optimizer["m"][2] = np.inf, np.nan
    if network:
        state.vector[3] = np.inf
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "check", lambda state: None)
        checkpoint.write(path, state)
    return state


@pytest.mark.slow
def test_the_network_of_such_a_checkpoint_is_used(run: Config, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(run.out)
    expected = {name: runner.distbp(*command, str(place / NEWEST)) for name, command in COMMANDS.items()}
    state = overflown(place / NEWEST, monkeypatch)
    assert digest(read(place / NEWEST).parameters) == digest(state.parameters)
    for name, command in COMMANDS.items():
        result = runner.distbp(*command, str(place / NEWEST), *(("--overwrite",) if name == "predict" else ()))
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
        said = result.stdout + result.stderr
        assert said.count("/optimizer/m holds values that are not finite") == (name != "digest")
        if name in ("evaluate", "digest"):
            assert result.stdout.splitlines()[-1] == expected[name].stdout.splitlines()[-1]
    check_error(
        runner.distbp("train", "--resume", "--epochs", "4", "--out", run.out),
        1,
        f"{NEWEST}: /optimizer/m holds values that are not finite: ",
        "nothing was changed",
        "start another run with another --out, or move this checkpoint away",
    )
    assert not list(place.glob("*.skipped"))
    (place / NEWEST).unlink()
    assert resumed(1, run, epochs=4).state.progress.epoch == 4
    assert len(list(place.glob("*.skipped"))) == 0


COMMANDS = {
    "evaluate": ("evaluate",),
    "predict": ("predict", "--out", "predictions.csv"),
    "inspect": ("inspect",),
    "digest": ("inspect", "--digest"),
}


def test_such_a_best_is_of_this_run(run: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not gone on from."""
    overflown(Path(run.out) / "best.h5", monkeypatch)
    before = (Path(run.out) / "best.h5").read_bytes()
    resumed(1, run)
    assert (Path(run.out) / "best.h5").read_bytes() == before


def test_a_network_that_is_not_finite_is_refused(run: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    overflown(Path(run.out) / NEWEST, monkeypatch, network=True)
    with pytest.raises(checkpoint.CheckpointError, match="layer_2/W holds values that are not finite"):
        read(Path(run.out) / NEWEST)
    assert RunDirectory(run.out).newest()[0].progress.epoch < 3  # that is damaged


def test_which_vector_it_is() -> None:
    good = np.ones(3)
    assert invariants.flaw_of({}) == invariants.flaw_of({"m": good, "v": good}) == ""
    assert invariants.flaw_of({"m": good, "v": good * np.nan}).startswith("/optimizer/v ")
