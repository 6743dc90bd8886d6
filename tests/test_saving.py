"""When a run saves: checkpoints cost little, best.h5 and metrics.csv go with them, an orderly end loses nothing."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import StopAt, configuration, resumed, train_on, write_data

from distbp.engine.sums import Requests
from distbp.errors import DivergedError, RunError, Stopped
from distbp.settings.config import Config
from distbp.training import saving
from distbp.training.checkpoint import Checkpoint, read, write
from distbp.training.history import History
from distbp.training.loop import Loop
from distbp.training.run_directory import RunDirectory
from distbp.training.saving import SHARE, Saving


class Clock:
    """Stands in for `time`, and for a directory in which a checkpoint takes `cost` seconds."""

    def __init__(self, cost: float) -> None:
        self.now, self.cost, self.saves = 100.0, cost, 0

    def monotonic(self) -> float:
        return self.now

    def save(self, state: Checkpoint, keep: int, *, best: bool = False) -> None:
        self.now += self.cost
        self.saves += 1

    def append_metrics(self, rows: History, *, synced: bool) -> None:
        pass

    def save_seconds(self) -> float:
        return self.cost


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of one epoch."""
    here = tmp_path_factory.mktemp("saved")
    train_on(1, configuration(write_data(here / "d.h5"), here / "run", epochs=1))
    return here / "run" / "checkpoint-0000000004.h5"


@pytest.fixture
def state(saved: Path) -> Checkpoint:
    return read(saved)


@pytest.mark.parametrize("cost", [0.003, 0.1, 4.0])
@pytest.mark.parametrize("epoch_seconds", [0.001, 0.05, 1.0, 100.0])
@pytest.mark.parametrize("minutes", [0.0, 10.0])
def test_checkpoints_take_at_most_their_share(
    state: Checkpoint, monkeypatch: pytest.MonkeyPatch, cost: float, epoch_seconds: float, minutes: float
) -> None:
    clock = Clock(cost)
    monkeypatch.setattr(saving, "time", clock)
    state.config = replace(state.config, checkpoint_minutes=minutes, epochs=10**9)
    saver: Any = Saving(clock, state)  # type: ignore[arg-type]
    begun, saved, gaps = clock.now, clock.now, []
    for _ in range(5000):
        wish = saver.wants_to_save(ends_epoch=True)
        clock.now += epoch_seconds
        if wish:
            gaps.append(clock.now - saved)
            saver.save()
            saved = clock.now
    spent = clock.saves * cost
    assert spent - cost <= SHARE * (clock.now - begun)
    wanted = max(cost / SHARE, epoch_seconds)
    assert max(gaps, default=0.0) <= wanted + 2 * epoch_seconds  # and not much less often than they may be


def test_no_more_than_the_minutes_are_at_risk(state: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside an epoch, and where checkpoints then take more than their share."""
    clock = Clock(60.0)
    monkeypatch.setattr(saving, "time", clock)
    for every in ("auto", 7):
        state.config = replace(state.config, checkpoint_minutes=2.0, checkpoint_every=every)
        saver: Any = Saving(clock, state)  # type: ignore[arg-type]
        clock.now += 120
        assert not saver.wants_to_save(ends_epoch=False)
        clock.now += 1
        assert saver.wants_to_save(ends_epoch=False)


@pytest.mark.parametrize(("every", "due"), [("auto", [10]), (1, list(range(1, 11))), (4, [4, 8, 10]), (99, [10])])
def test_the_epochs_after_which_a_checkpoint_is_due(state: Checkpoint, every: int | str, due: list[int]) -> None:
    state.config = replace(state.config, checkpoint_every=every, epochs=10)
    found = []
    for epoch in range(1, 11):
        state.progress.epoch = epoch
        if Saving(RunDirectory("nowhere"), state).is_due():
            found.append(epoch)
    assert found == due


def test_short_epochs_do_not_sync(data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a checkpoint takes long, a run of many epochs writes the first and the last."""
    synced, original = [], os.fsync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        original(descriptor)

    monkeypatch.setattr(RunDirectory, "save_seconds", lambda self: 1e6)
    monkeypatch.setattr(os, "fsync", counted)
    train_on(1, configuration(data_file, tmp_path / "run", epochs=50))
    assert len(synced) < 25
    names = [path.name for path in RunDirectory(str(tmp_path / "run")).checkpoints()]
    assert names == ["checkpoint-0000000000.h5", "checkpoint-0000000200.h5"]
    with open(tmp_path / "run" / "metrics.csv") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 51))


def check_same_best(a: Path, b: Path) -> None:
    """best.h5 of two runs is of the same epoch, with the same parameters and losses."""
    one, other = read(a / "best.h5"), read(b / "best.h5")
    assert one.progress.epoch == other.progress.epoch
    assert one.vector.tobytes() == other.vector.tobytes()
    np.testing.assert_array_equal(one.history["validation_loss"], other.history["validation_loss"])
    assert not one.can_continue


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (3, 1), (3, 2)])
def test_the_best_parameters_are_kept_until_they_are_written(
    data_file: str, tmp_path: Path, ranks: int, nodes: int
) -> None:
    """The loss goes up again after the best epoch, and all is written at the end."""
    words = dict(epochs=30, learning_rate=0.2)
    train_on(ranks, configuration(data_file, tmp_path / "each", checkpoint_every=1, **words), nodes)
    run = train_on(ranks, configuration(data_file, tmp_path / "end", checkpoint_every=30, **words), nodes)
    assert run.best()[1] < 30
    check_same_best(tmp_path / "end", tmp_path / "each")


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("how", ["stop", "divergence", "an agreed error"])
def test_the_best_is_written_before_an_orderly_end(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, how: str
) -> None:
    """In the 4th epoch, with no checkpoint since the beginning."""
    words = dict(epochs=9, learning_rate=0.01)
    train_on(ranks, configuration(data_file, tmp_path / "whole", checkpoint_every=1, **{**words, "epochs": 3}))
    config = configuration(data_file, tmp_path / "run", checkpoint_every=100, **words)
    stop = StopAt(14).words if how == "stop" else {}
    if how != "stop":
        error = {"divergence": DivergedError("diverged"), "an agreed error": RunError("said by all")}[how]
        error.agreed = True
        ask = Loop._ask

        def fails(self: Loop, step: int) -> Requests:
            if step > 12:
                raise error
            return ask(self, step)

        monkeypatch.setattr(Loop, "_ask", fails)
    with pytest.raises((Stopped, DivergedError, RunError)):
        train_on(ranks, config, **stop)
    check_same_best(tmp_path / "run", tmp_path / "whole")
    with open(tmp_path / "run" / "metrics.csv") as file:
        assert len(list(csv.DictReader(file))) == 3
    monkeypatch.undo()
    again = resumed(ranks, config, epochs=4)
    assert again.state.progress.epoch == 4


def test_an_end_after_a_failed_write_writes_nothing_more(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refused(self: RunDirectory, state: Checkpoint, keep: int, *, best: bool = False) -> None:
        if state.progress.epoch:
            tried.append(best)
            raise RunError("the disk is full")
        write(self.checkpoint(0), state)

    monkeypatch.setattr(RunDirectory, "save", refused)
    with pytest.raises(RunError, match="the disk is full"):
        train_on(1, configuration(data_file, tmp_path / "run"))
    assert tried == [True]


def test_nothing_goes_on_from_a_best(data_file: str, tmp_path: Path) -> None:
    """best.h5 holds parameters to use, without the optimizer's state."""
    run = tmp_path / "run"
    train_on(1, configuration(data_file, run, checkpoint_every=1))
    for path in RunDirectory(str(run)).checkpoints():
        path.unlink()
    epoch = read(run / "best.h5").progress.epoch
    (run / "best.h5").rename(run / f"checkpoint-{4 * epoch:010d}.h5")
    with pytest.raises(RunError, match=r"holds no /optimizer: it is a best\.h5, from which no run can go on"):
        train_on(1, Config(out=str(run)), resume_with={})


def test_auto_can_be_chosen_again(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run", checkpoint_every=1, epochs=1)
    train_on(1, config)
    again = train_on(1, Config(out=config.out), resume_with={"checkpoint_every": "auto", "epochs": 2})
    assert again.config.checkpoint_every == "auto"
    assert train_on(1, Config(out=config.out), resume_with={"epochs": 3}).config.checkpoint_every == "auto"


def test_a_loss_that_is_none_is_never_the_best(data_file: str, tmp_path: Path) -> None:
    run = train_on(1, configuration(data_file, tmp_path / "run", validation_split="", epochs=2))
    assert run.best() == (math.inf, 0)
