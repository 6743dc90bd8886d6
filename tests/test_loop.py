"""The loop of training: how many steps a call of the engine takes, and what listeners are told, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import pytest
from runs import StopAt, configuration, train_as, train_on, write_data

from distbp.engine.choice import make_engine
from distbp.engine.laps import Lap
from distbp.engine.numpy_engine import NumpyEngine
from distbp.engine.sums import Requests, Steps
from distbp.engine.work import Work
from distbp.errors import DivergedError, Stopped
from distbp.ranks.communicator import OneProcess
from distbp.training import loop
from distbp.training.listener import Listener
from distbp.training.run import Run
from distbp.training.run_directory import RunDirectory
from distbp.training.train import train


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The numbers of the steps of each call of an engine; steps are taken together as far as a second goes."""
    found: list[tuple[int, ...]] = []

    def make(work: Work, lap: Lap) -> NumpyEngine:
        engine = make_engine(work, lap)
        step = engine.step

        def recorded(batches: Sequence[Any], rates: Any, done: int, ask: Any) -> Steps:
            steps = step(batches, rates, done, ask)
            found.append((done + 1, done + len(steps), done + len(batches)))
            return steps

        monkeypatch.setattr(engine, "step", recorded)
        return engine

    monkeypatch.setattr("distbp.training.prepare.make_engine", make)
    monkeypatch.setattr(loop, "CALL_SECONDS", 1.0)
    return found


def config(tmp_path: Path, *, out: str = "run", kind: str = "classes", train: int = 70, **options: Any) -> Any:
    """An epoch has 10 steps, of 70 samples."""
    data = write_data(tmp_path / "d.h5", train=train, kind=kind)
    return configuration(data, tmp_path / out, **{"epochs": 2, "checkpoint_every": 1, **options})


def test_steps_that_nobody_looks_between_are_one_call(tmp_path: Path, calls: list[tuple[int, ...]]) -> None:
    """Two are alone: the first tells how long a step takes, with the second all ranks learn that."""
    train_on(1, config(tmp_path))
    assert calls == [(1, 1, 1), (2, 2, 2), (3, 10, 10), (11, 20, 20)]


@pytest.mark.parametrize("options", [{}, {"reproducible": True}, {"memory": 8e-6, "shuffle_window": 14, "train": 280}])
def test_no_number_depends_on_the_calls(
    tmp_path: Path, calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Samples that are streamed are at hand for one step at a time."""
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 64)
    together = train_on(2, config(tmp_path, **options))
    assert max(last - first for first, last, _ in calls) == (0 if "memory" in options else 9)
    monkeypatch.setattr(loop, "CALL_SECONDS", 0.0)
    calls.clear()
    one_by_one = train_on(2, config(tmp_path, out="other", **options))
    assert max(last - first for first, last, _ in calls) == 0
    assert together.state.vector.tobytes() == one_by_one.state.vector.tobytes()
    for name in ("train_loss", "train_accuracy", "validation_loss"):
        assert together.state.history[name].tobytes() == one_by_one.state.history[name].tobytes()


def test_calls_end_where_nodes_are_compared_and_where_a_trace_begins_and_ends(
    tmp_path: Path, calls: list[tuple[int, ...]]
) -> None:
    train_on(2, config(tmp_path, drift_steps=4, trace=str(tmp_path / "t.json"), trace_steps="6-7"), nodes=2)
    ends = {last for _, last, _ in calls}
    assert ends == {1, 2, 4, 5, 6, 7, 8, 10, 12, 16, 20}


def test_batches_behind_one_that_is_skipped_are_not_lost(tmp_path: Path, calls: list[tuple[int, ...]]) -> None:
    """The squares of two errors are beyond float64."""
    options = config(tmp_path, kind="targets", on_nan="skip", scale="none", optimizer="sgd", epochs=1, loss="mse")
    with h5py.File(options.data[0], "r+") as file:
        file["train/y"][:] /= 100
        file["train/y"][:2] = 1e200
    run = train_on(1, options)
    progress = run.state.progress
    assert (progress.step, progress.samples) == (10, 70)
    assert progress.skipped in (1, 2)
    assert any(done < given for _, done, given in calls)
    numbers = [number for first, done, _ in calls for number in range(first, done + 1)]
    assert numbers == list(range(1, 11))


class Log(Listener):
    """Writes down what it is told."""

    def __init__(self, *, last: int = 99, fails: bool = False) -> None:
        self.told: list[str] = []
        self._last, self._fails = last, fails

    def begin(self, run: Run) -> None:
        self._run = run
        self.told.append("begin")

    def sleeps(self, step: int) -> int:
        return 5

    def before(self, step: int) -> None:
        self.told.append(f"before {step}")

    def stepped(self, steps: Steps) -> None:
        assert self._run.state.progress.samples == 7 * self._run.state.progress.step
        self.told.append(f"stepped {len(steps)}")

    def trained(self) -> None:
        self.told.append("trained")

    def interrupted(self) -> None:
        self.told.append("interrupted")

    def epoch_ended(self, row: dict[str, float], last: Requests) -> bool:
        self.told.append(f"epoch {row['epoch']}")
        if self._fails:
            raise DivergedError("by a test")
        return row["epoch"] == self._last

    def ended(self, seconds: float) -> None:
        self.told.append("ended")

    def failed(self, error: BaseException) -> None:
        self.told.append(f"failed: {error}")


EPOCH = ["before 2", "stepped 1", "before 3", "stepped 5", "before 8", "stepped 3", "trained", "epoch 1"]


def test_what_a_listener_is_told(tmp_path: Path, calls: list[tuple[int, ...]]) -> None:
    """One that says an epoch was the last ends the run in order: the checkpoint is there before the end is told."""
    log = Log(last=1)
    run = train(OneProcess(), config(tmp_path, epochs=9, checkpoint_every=100), listeners=[log])
    assert log.told == ["begin", "before 1", "stepped 1", *EPOCH, "ended"]
    assert run.state.progress.epoch == 1
    assert RunDirectory(run.config.out).checkpoints()[-1].name == "checkpoint-0000000010.h5"


def test_a_listener_that_fails(tmp_path: Path, calls: list[tuple[int, ...]]) -> None:
    log = Log(fails=True)
    with pytest.raises(DivergedError):
        train(OneProcess(), config(tmp_path), listeners=[log])
    assert log.told == ["begin", "before 1", "stepped 1", *EPOCH, "failed: by a test"]


def test_a_stop_is_told_before_it_is_raised(tmp_path: Path, calls: list[tuple[int, ...]]) -> None:
    log = Log()
    with pytest.raises(Stopped):
        train_as(OneProcess(), config(tmp_path), listener=log, **StopAt(4).words)
    alone = [words for step in range(1, 5) for words in (f"before {step}", "stepped 1")]
    assert log.told[:-1] == ["begin", *alone, "interrupted"]
    assert log.told[-1].startswith("failed: stopped on request at epoch 1, step 4; a checkpoint is in ")
