"""A column has a name: from the data set through the checkpoint to evaluation and prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import Runner, check_error, configuration, resumed, train_on

from distbp.data.column_texts import decoded, encoded
from distbp.errors import DataError, UsageError
from distbp.training import checkpoint

RNG = np.random.default_rng(4)
X = RNG.normal(size=(60, 3)) * [1, 10, 100] + [0, 5, -50]
Y = (X[:, 0] > 0).astype(int)
T = np.stack([X[:, 0] * 7, X[:, 1]], axis=1)


def write(path: Path, names: list[str], y: np.ndarray = Y, targets: list[str] | None = None) -> str:
    """A data set whose x has these of the columns a, b, c, in this order."""
    with h5py.File(path, "w") as file:
        for split in ("train", "test"):
            file[f"{split}/x"], file[f"{split}/y"] = X[:, ["abc".index(name) for name in names]], y
            file[f"{split}/x"].attrs["columns"] = encoded(names)
            file[f"{split}/x"].attrs["units"] = encoded(["K" if name == "a" else "" for name in names])
            if targets:
                file[f"{split}/y"].attrs["columns"] = encoded(targets)
    return str(path)


@pytest.mark.parametrize("names", [["a"], ["", "ü, µ", "x" * 10_000], ["\x1b[31m", "a\nb"]])
def test_names_are_kept_as_they_are(names: list[str]) -> None:
    assert decoded(encoded(names)) == tuple(names)
    with pytest.raises(ValueError, match="are no names"):
        decoded(np.zeros(3))


def test_a_checkpoint_keeps_them(tmp_path: Path) -> None:
    run = train_on(2, configuration(write(tmp_path / "d.h5", ["a", "b", "c"]), tmp_path / "run", epochs=1))
    for state in (run.state, checkpoint.read(tmp_path / "run" / "best.h5")):
        assert state.problem.columns.x == ("a", "b", "c")
        assert state.problem.columns.x_units == ("K", "", "")
    assert checkpoint.outline(tmp_path / "run" / "best.h5").columns.x == ("a", "b", "c")


def scores(runner: Runner, run: Path, data: str) -> str:
    result = runner.distbp("evaluate", str(run), data)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


def test_another_order_is_put_right_by_name(tmp_path: Path, runner: Runner) -> None:
    train_on(1, configuration(write(tmp_path / "d.h5", ["a", "b", "c"]), tmp_path / "run", epochs=9))
    same = scores(runner, tmp_path / "run", write(tmp_path / "same.h5", ["a", "b", "c"]))
    assert scores(runner, tmp_path / "run", write(tmp_path / "other.h5", ["c", "a", "b"])) == same
    files = [str(tmp_path / f"{name}.h5") for name in ("same", "other")]
    for file in files:
        out = file.replace(".h5", ".csv")
        assert runner.distbp("predict", str(tmp_path / "run"), file, "--out", out).returncode == 0
    assert (tmp_path / "same.csv").read_text() == (tmp_path / "other.csv").read_text()


def test_other_columns_are_refused_with_both_lists(tmp_path: Path, runner: Runner) -> None:
    train_on(1, configuration(write(tmp_path / "d.h5", ["a", "b"]), tmp_path / "run", epochs=1))
    for names, words in (
        (["a", "c"], ["has the columns a, c; the network was trained on a, b", "not there: b; not asked for: c"]),
        (["a", "b", "c"], ["not asked for: c"]),
    ):
        result = runner.distbp("evaluate", str(tmp_path / "run"), write(tmp_path / "e.h5", names))
        check_error(result, 1, *words)


def test_targets_are_put_in_order_too(tmp_path: Path, runner: Runner) -> None:
    first = write(tmp_path / "d.h5", ["a", "b", "c"], T, ["lift", "drag"])
    train_on(1, configuration(first, tmp_path / "run", epochs=3))
    turned = write(tmp_path / "e.h5", ["b", "a", "c"], T[:, ::-1], ["drag", "lift"])
    assert scores(runner, tmp_path / "run", turned) == scores(runner, tmp_path / "run", first)


def test_files_without_names_are_taken_by_position(tmp_path: Path, runner: Runner) -> None:
    train_on(1, configuration(write(tmp_path / "d.h5", ["a", "b", "c"]), tmp_path / "run", epochs=2))
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["test/x"], file["test/y"] = X, Y
    assert scores(runner, tmp_path / "run", str(tmp_path / "plain.h5")) == scores(
        runner, tmp_path / "run", str(tmp_path / "d.h5")
    )


def test_columns_that_are_data_sets_of_their_own(tmp_path: Path, runner: Runner) -> None:
    """Trained on an import, used on the simulation's own file, which has no x."""
    train_on(1, configuration(write(tmp_path / "d.h5", ["a", "b", "c"]), tmp_path / "run", epochs=2))
    with h5py.File(tmp_path / "sim.h5", "w") as file:
        for i, name in enumerate("abc"):
            file[f"test/{name}"] = X[:, i]
        file["test/kind"] = Y
    result = runner.distbp("evaluate", str(tmp_path / "run"), str(tmp_path / "sim.h5"), "--y", "kind")
    assert result.returncode == 0, result.stderr
    assert result.stdout == scores(runner, tmp_path / "run", str(tmp_path / "d.h5"))


def test_a_run_goes_on_with_columns_in_another_order(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "d.h5", ["a", "b", "c"]))
    config = configuration(str(path), tmp_path / "run", epochs=2, reproducible=True)
    train_on(1, config)
    one = train_on(1, configuration(str(path), tmp_path / "whole", epochs=4, reproducible=True))
    path.unlink()
    write(path, ["c", "b", "a"])
    assert resumed(2, config, epochs=4).state.vector.tobytes() == one.state.vector.tobytes()


def test_files_of_one_data_set_need_the_same_order(tmp_path: Path) -> None:
    paths = [write(tmp_path / "1.h5", ["a", "b"]), write(tmp_path / "2.h5", ["b", "a"])]
    with pytest.raises(DataError, match=r"has the columns b, a, but .* has a, b; .*import them together"):
        train_on(1, replace(configuration(paths[0], tmp_path / "run"), data=paths))


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"x": (9,), "y": (9,), "z": (9,)}, {}, "x and y hold one number a row each, and beside them are z"),
        ({"a": (9,), "b": (9,)}, {}, "which column has the labels or targets"),
        ({"label": (9,), "target": (9,), "b": (9,)}, {}, "which column has the labels or targets"),
        ({"a": (9,), "y": (9,)}, {"drop": "nothing"}, "--drop: .* has no column nothing; it has a, y"),
        ({"a": (9,), "y": (9,)}, {"drop": "a"}, "no column is left for the inputs"),
        ({"a": (9,), "y": (9,)}, {"x": "a,a"}, "--x: a stands twice"),
        ({"a": (9,), "y": (9,)}, {"x": "a", "drop": "y"}, "--drop y goes without --x"),
        ({"a": (9,), "y": (9,)}, {"x": "a,y"}, "y is in --x and in --y"),
    ],
)
def test_nothing_is_guessed(
    tmp_path: Path, columns: dict[str, tuple[int, ...]], options: dict[str, str], words: str
) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for name, shape in columns.items():
            file[f"train/{name}"] = RNG.normal(size=shape)
    with pytest.raises(UsageError, match=words):
        train_on(1, configuration(str(tmp_path / "d.h5"), tmp_path / "run", **options))


def test_what_is_taken_and_what_is_not_is_said(tmp_path: Path, runner: Runner) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["train/p"], file["train/q"], file["train/id"] = X[:, 0], X, np.arange(60)
        file["train/Label"], file["train/grid"] = Y, np.arange(7.0)
    result = runner.distbp("train", str(tmp_path / "d.h5"), "--drop", "id", "--epochs", "1", "--out", "run")
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("columns"))
    assert line == "columns   Label from p, q; left out: grid (7 rows, Label has 60), id (--drop)"
    state = checkpoint.read(tmp_path / "run" / "checkpoint-0000000002.h5")
    assert (state.config.x, state.config.y, state.config.drop) == ("p,q", "Label", "")
    assert state.problem.columns.x == ("p", "q[0]", "q[1]", "q[2]")


def test_a_data_set_with_x_and_y_and_more(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["train/x"], file["train/y"], file["train/weight"] = X, Y, np.ones(60)
    run = train_on(1, configuration(str(tmp_path / "d.h5"), tmp_path / "run", epochs=1))
    assert run.training.layout.width("x") == 3


def test_inputs_that_count_the_rows_are_named(tmp_path: Path, runner: Runner) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["train/x"] = np.column_stack([X, np.arange(60), 2.5 - np.arange(60) / 7])
        file["train/x"].attrs["columns"] = encoded(["a", "b", "c", "id", "when"])
        file["train/y"] = Y
    result = runner.distbp("train", str(tmp_path / "d.h5"), "--epochs", "1", "--out", "run")
    warned = [line for line in result.stdout.splitlines() if line.startswith("warning")]
    assert [line.split(":")[0] for line in warned] == [
        "warning   'id' counts the rows",
        "warning   'when' follows the row number",
    ]


def test_files_without_rows_are_left_out_and_counted(tmp_path: Path, runner: Runner) -> None:
    for number, rows in enumerate((20, 0, 40)):
        with h5py.File(tmp_path / f"part-{number}.h5", "w") as file:
            file["train/x"], file["train/y"] = X[:rows], Y[:rows]
    result = runner.distbp("train", str(tmp_path / "part-*.h5"), "--epochs", "1", "--out", "run")
    assert result.returncode == 0, result.stderr
    assert "60 samples to train on" in result.stdout
    assert (
        f"1 left out, for want of a column or of rows: {tmp_path}/part-1.h5: train, which has no rows" in result.stdout
    )
    check_error(runner.distbp("train", str(tmp_path / "part-1.h5"), "--out", "other"), 1, "train/x is empty")
