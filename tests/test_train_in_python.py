"""`distbp.train` and `distbp.evaluate`: the digests of the command line, whatever the samples come in, and manners."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, write_data
from threadpoolctl import threadpool_info, threadpool_limits

import distbp

OPTIONS: dict[str, Any] = {"hidden": [8], "epochs": 3, "reproducible": True, "grain": 4, "seed": 5}
PROGRAM = Path(__file__).parent / "part_of_the_ranks.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_data(tmp_path_factory.mktemp("data") / "data.h5", train=60, test=30)


def arrays(path: str, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(path) as file:
        return file[f"{split}/x"][()], file[f"{split}/y"][()]


def test_the_same_digest_as_by_the_command(data: str, runner: Runner) -> None:
    options = ["--hidden", "8", "--epochs", "3", "--reproducible", "--grain", "4", "--seed", "5"]
    done = runner.distbp("train", data, *options, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert f"digest    {distbp.train(data, **OPTIONS).digest}" in done.stdout
    run = distbp.train(data, out=runner.directory / "python", **OPTIONS)
    assert (runner.directory / "run" / "config.toml").read_text().splitlines()[0][:8] == "# distbp"
    assert distbp.load(runner.directory / "run").digest == run.model().digest


def test_arrays_give_what_their_file_gives(data: str) -> None:
    x, y = arrays(data)
    run = distbp.train(data, **OPTIONS)
    of_arrays = distbp.train((x, y), validation=arrays(data, "test"), **OPTIONS)
    assert of_arrays.digest == run.digest
    assert of_arrays.best is not None
    assert run.best is not None
    assert of_arrays.best["validation_loss"] == run.best["validation_loss"]
    np.testing.assert_array_equal(of_arrays.model().predict(x), run.model().predict(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x.tolist(), y.tolist()),
        lambda x, y: (np.asfortranarray(x), y.astype(np.int16)),
        lambda x, y: (x[::-1][::-1], y[:, None]),
        lambda x, y: (x.reshape(-1, 2, 2), y),
        lambda x, y: (x.astype(x.dtype.newbyteorder("S")), y.astype(object)),
        lambda x, y: (np.ma.masked_array(x, False), y.astype(np.uint64)),
    ],
    ids=["lists", "Fortran", "views", "images", "swapped bytes", "nothing masked"],
)
def test_samples_in_any_form(data: str, change: Any) -> None:
    x, y = arrays(data)
    assert distbp.train(change(x, y), **OPTIONS).digest == distbp.train((x, y), **OPTIONS).digest


def test_a_frame_gives_its_names_to_the_network() -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    frame = pandas.DataFrame({"mass": rng.normal(size=40), "speed": rng.integers(0, 9, 40), "on": rng.random(40) < 0.5})
    y = pandas.Series(np.where(frame["on"], "yes", "no"), name="answer")
    model = distbp.train((frame, y), hidden=[4], epochs=2).model()
    assert model.inputs.names == ("mass", "speed", "on")
    assert model.classes is not None
    assert model.classes.tolist() == ["no", "yes"]
    turned = model.predict(frame[["on", "speed", "mass"]])
    np.testing.assert_array_equal(turned, model.predict(frame))
    scores = distbp.evaluate(model, (frame[["speed", "on", "mass"]], y))
    assert scores.metrics["accuracy"] == (turned == y.to_numpy()).mean()


def test_targets_have_their_units_and_shapes() -> None:
    x = np.linspace(-1, 1, 50)[:, None]
    model = distbp.train((x, 1e6 * x[:, 0]), hidden=[], epochs=60, learning_rate=0.1).model()
    np.testing.assert_allclose(model.predict(x)[:, 0], 1e6 * x[:, 0], atol=2e4)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no pair": ((np.zeros((3, 2)),), {}, "expected paths of data files, or arrays (x, y); got 1 objects"),
    "a number": (3, {}, "expected paths of data files, or arrays (x, y); got int"),
    "lengths": ((np.zeros((4, 2)), [0, 1, 0]), {}, "x has 4 rows and y has 3"),
    "nothing": ((np.zeros((0, 2)), []), {}, "x has the shape (0, 2); expected a row for each sample"),
    "no columns": ((np.zeros((4, 0)), [0, 1, 0, 1]), {}, "x has the shape (4, 0)"),
    "a value": ((np.array([[1.0], [np.nan]]), [0, 1]), {}, "training/x, row 1: nan in the data, in column 0"),
    "complex": ((np.zeros((2, 1), complex), [0, 1]), {}, "x is of type complex128"),
    "objects": ((np.zeros((2, 1)), ["a", None]), {}, "data: y, row 1: None"),
    "masked": ((np.ma.masked_array([[1.0], [2.0]], [[0], [1]]), [0, 1]), {}, "data: x, row 1: a value is missing"),
    "one class": ((np.zeros((4, 1)), [7, 7, 7, 7]), {}, "all 4 labels are 7"),
    "an option": ((np.eye(2), [0, 1]), {"hiden": [3]}, "unknown option 'hiden' (did you mean 'hidden'?)"),
    "its type": ((np.eye(2), [0, 1]), {"epochs": "3"}, "expected a value like 20, got '3'"),
    "its range": ((np.eye(2), [0, 1]), {"epochs": -1}, "epochs"),
    "of files": ((np.eye(2), [0, 1]), {"split": "train"}, "split: is for data files"),
    "of commands": ((np.eye(2), [0, 1]), {"stop_signals": "TERM"}, "is an option of the command line alone"),
    "without out": ((np.eye(2), [0, 1]), {"keep": 2}, "keep needs out="),
    "resume": ((np.eye(2), [0, 1]), {"resume": True}, "resume needs out="),
    "a word": ((np.eye(2), [0, 1]), {"resume": "never", "out": "x"}, "expected True, False or 'auto'"),
    "a communicator": ((np.eye(2), [0, 1]), {"comm": 3}, "expected an intracommunicator of mpi4py, got int"),
    "no file": ("absent.h5", {}, "absent.h5: no such file"),
    "both": ("absent.h5", {"validation": (np.eye(2), [0, 1])}, "of files it is validation_split"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given, options, words = REFUSED[case]
    with pytest.raises(distbp.DistbpError) as refused:
        distbp.train(given, **options)
    assert words in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_nothing_is_written_or_said_and_all_is_as_it_was(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    errors, hook = np.geterr(), sys.excepthook
    with threadpool_limits(2, user_api="blas"):
        threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        distbp.train(data, threads=1, hidden=[4], epochs=2)
        with pytest.raises(distbp.DivergedError):
            distbp.train(data, threads=1, hidden=[4], learning_rate=1e38, scale="none", optimizer="sgd")
        assert [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"] == threads
    assert [signal.getsignal(number) for number in numbers] == before
    assert (np.geterr(), sys.excepthook) == (errors, hook)
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_progress_says_what_the_command_says(data: str, capfd: pytest.CaptureFixture[str]) -> None:
    distbp.train(data, hidden=[4], epochs=2, progress=True)
    said = capfd.readouterr().out
    assert "epoch 2/2  train loss" in said
    assert "results   are not written" in said


def test_a_callback_sees_each_epoch_and_may_stop(data: str, tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []

    def on_epoch(row: dict[str, float]) -> str | None:
        rows.append(row)
        return "stop" if row["epoch"] == 2 else None

    run = distbp.train(data, hidden=[4], epochs=9, on_epoch=on_epoch, out=tmp_path / "run")
    assert [row["epoch"] for row in rows] == run.history["epoch"].tolist() == [1, 2]
    assert rows[1]["train_loss"] == run.history["train_loss"][1]
    assert run.checkpoint is not None
    assert distbp.load(run.checkpoint).digest == run.digest
    resumed = distbp.train(data, out=tmp_path / "run", resume=True, epochs=4)
    straight = distbp.train(data, hidden=[4], epochs=4)
    assert resumed.history["epoch"].tolist() == [1, 2, 3, 4]
    assert resumed.digest == straight.digest
    assert resumed.best is not None
    assert straight.best is not None
    assert resumed.best["validation_loss"] == straight.best["validation_loss"]
    assert resumed.model().digest == straight.model().digest


@pytest.mark.parametrize("answer", ["halt", True, 1])
def test_an_answer_that_is_none(data: str, answer: Any) -> None:
    with pytest.raises(distbp.UsageError, match="expected None or 'stop'"):
        distbp.train(data, hidden=[4], epochs=2, on_epoch=lambda row: answer)


def test_what_a_callback_raises_is_raised(data: str) -> None:
    def on_epoch(row: dict[str, float]) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        distbp.train(data, hidden=[4], epochs=2, on_epoch=on_epoch)


def test_best_and_last(data: str) -> None:
    run = distbp.train(data, hidden=[16], epochs=30, learning_rate=0.3, validation_split="test")
    losses = run.history["validation_loss"]
    assert run.best is not None
    assert run.best["epoch"] == losses.argmin() + 1 < 30
    assert distbp.evaluate(run.model(), data).loss == losses.min()
    assert distbp.evaluate(run.model("last"), data).loss == losses[-1]
    assert run.model("last").digest == run.digest
    assert run.model().history["epoch"].tolist() == list(range(1, int(run.best["epoch"]) + 1))
    with pytest.raises(distbp.UsageError, match="expected 'best' or 'last'"):
        run.model("first")


def test_a_network_of_arrays_asks_for_data(data: str) -> None:
    model = distbp.train(arrays(data), hidden=[4], epochs=1).model()
    with pytest.raises(distbp.UsageError, match="trained on arrays in memory, not on files: name the DATA"):
        distbp.evaluate(model)
    assert distbp.evaluate(model, data).samples == 30


def test_a_run_on_arrays_is_continued_on_the_same_only(data: str, tmp_path: Path) -> None:
    x, y = arrays(data)
    distbp.train((x, y), hidden=[4], epochs=2, out=tmp_path / "run")
    resumed = distbp.train((x, y), out=tmp_path / "run", resume="auto", hidden=[4], epochs=3)
    assert resumed.digest == distbp.train((x, y), hidden=[4], epochs=3).digest
    with pytest.raises(distbp.DataError, match="x: other values than in the run"):
        distbp.train((x + 1, y), out=tmp_path / "run", resume=True, epochs=4)


@pytest.mark.mpi
def test_a_part_of_the_ranks_of_a_program(runner: Runner, data: str) -> None:
    done = runner.run(sys.executable, str(PROGRAM), data, ranks=3)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    expected = distbp.train(data, hidden=[8], epochs=3, reproducible=True, grain=4).digest
    for rank in (0, 1):
        assert found[f"{rank} digest"] == expected
        for name in ("same again", "scores", "arrays", "handlers"):
            assert found[f"{rank} {name}"] == "True"
        assert found[f"{rank} open files"] == "0"
        assert found[f"{rank} network"] == "(5,)"
        assert "these arrays are others than those of rank 0" in found[f"{rank} other arrays"]
        assert found[f"{rank} stopped"] == "1"
    assert found["0 callback"] == "DistbpError: on_epoch raised on rank 1: ValueError: of the caller"
    assert found["1 callback"] == "ValueError: of the caller"
    assert found["2 other work"] == "10.0"
