"""Checkpoints of older format versions are read: written by distbp as it was then, on the digits, and kept in `older/`.

Each is of the same run, stopped after 2 epochs: `distbp train --hidden "" --epochs 2 --batch-size 300 --optimizer sgd
--momentum 0.9 --learning-rate 0.1 --seed 3 --reproducible --keep 1 --threads 1`.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, train_on

from distbp.errors import CheckpointError
from distbp.inspection.file_inspection import describe
from distbp.settings.config import Config, as_dict
from distbp.training.checkpoint import _checksum, outline, read
from distbp.training.phases import columns
from distbp.training.run_directory import RunDirectory

OLDER = Path(__file__).parent / "older"
VERSIONS = (2, 3, 4, 5)
LOSSES = (1.36476881, 0.63172457, 0.409545, 0.301213)  # of validation, as version 2 printed them


def file_of(version: int) -> Path:
    return OLDER / f"version-{version}.h5"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_version_is_read(version: int) -> None:
    with h5py.File(file_of(version)) as file:
        assert file.attrs["format_version"] == version
        W, v = file["/network/layer_2/W"][()], file["/optimizer/v"][()]
        losses, steps = file["/history/validation_loss"][()], file["/history/step"][()]
    state = read(file_of(version))
    assert state.can_continue
    np.testing.assert_array_equal(state.parameters.W[2], W)
    np.testing.assert_array_equal(state.optimizer["v"], v)
    np.testing.assert_array_equal(state.history["validation_loss"], losses)
    np.testing.assert_array_equal(state.history["step"], steps)
    assert losses == pytest.approx(LOSSES[:2], rel=1e-6)
    assert (state.progress.epoch, state.progress.step, state.progress.skipped) == (2, 10, 0)
    assert all(np.isnan(state.history[name]).all() == (version < 4) for name in columns())
    assert outline(file_of(version)).network.sizes[1:] == (64, 10)
    assert any("epoch 2, step 10" in line for line in describe(str(file_of(version))))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_of_an_older_version_goes_on(version: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(file_of(version), run / "checkpoint-0000000010.h5")
    shutil.copy(file_of(version), run / "best.h5")
    train_on(1, Config(out=str(run)), resume_with={"epochs": 4})
    state, path, _ = RunDirectory(str(run)).newest()
    assert path.name == "checkpoint-0000000020.h5"
    assert state.history["validation_loss"] == pytest.approx(LOSSES, rel=1e-4)
    assert read(run / "best.h5").progress.epoch == 4
    with open(run / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["forward_seconds"] == "" for row in rows] == [version < 4, version < 4, False, False]


def test_an_older_version_is_used(runner: Runner) -> None:
    shutil.copy(file_of(2), runner.directory / "old.h5")
    said = re.search(r"loss (\S+),", runner.distbp("evaluate", "old.h5").stdout)
    assert said
    assert float(said[1]) == pytest.approx(LOSSES[1], rel=1e-6)
    assert runner.distbp("predict", "old.h5", "--out", "p.npy").returncode == 0
    assert len(np.load(runner.directory / "p.npy")) == 360


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_version_is_read_as_strictly(version: int, tmp_path: Path) -> None:
    """With a right checksum, and other arrays than its version has."""
    path = tmp_path / "forged.h5"
    cases = [
        ("/history/step", np.zeros(3), "/history does not have 2 rows"),
        ("/history/step", None, "/history has the columns"),
        ("/history/epoch", np.array([1.0, 3.0]), "/history/epoch does not count from 1 to 2"),
        ("/progress/epoch", None, "/progress/epoch is missing"),
        ("/progress/epoch", np.array([2]), r"/progress/epoch is int64 \(1,\)"),
        ("/optimizer/v", None, "/optimizer/v is missing"),
        ("/history", np.zeros(2), "/history is not a group"),
    ]
    for name, array, words in cases:
        shutil.copy(file_of(version), path)
        with h5py.File(path, "r+") as file:
            del file[name]
            if array is not None:
                file[name] = array
            tree = {}
            file.visititems(
                lambda at, one, tree=tree: tree.update({f"/{at}": one[()]} if hasattr(one, "dtype") else {})
            )
            attributes = {key: value for key, value in file.attrs.items() if key != "checksum"}
            file.attrs["checksum"] = np.bytes_(_checksum(tree, attributes))
        with pytest.raises(CheckpointError, match=words):
            read(path)


def test_what_a_version_says_of_itself_is_of_its_layout(tmp_path: Path) -> None:
    """A file of version 5 that says 6 has the arrays of neither."""
    shutil.copy(file_of(5), tmp_path / "forged.h5")
    with h5py.File(tmp_path / "forged.h5", "r+") as file:
        file.attrs["format_version"] = 6
        assert json.loads(file.attrs["config"])["epochs"] == 2
    with pytest.raises(CheckpointError, match="/history is not an array"):
        read(tmp_path / "forged.h5")


def changed_config(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the configuration of a checkpoint, with a right checksum."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["config"])
        change(config)
        file.attrs["config"] = np.bytes_(json.dumps(config))
        tree: dict[str, Any] = {}
        file.visititems(lambda at, one: tree.update({f"/{at}": one[()]} if hasattr(one, "dtype") else {}))
        attributes = {key: value for key, value in file.attrs.items() if key != "checksum"}
        file.attrs["checksum"] = np.bytes_(_checksum(tree, attributes))


def test_an_option_that_came_later_has_its_default(tmp_path: Path) -> None:
    """Any option whose value is its default may be missing, as if it had come after the file was written."""
    path = tmp_path / "checkpoint.h5"
    shutil.copy(file_of(5), path)
    before = read(path).config
    defaults = [name for name, value in as_dict(Config()).items() if value == getattr(before, name)]
    assert {"wire", "clip_norm", "schedule"} < {*defaults}
    changed_config(path, lambda config: [config.pop(name, None) for name in defaults])
    assert read(path).config == outline(path).config == before


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "dropout",
            0.0,
            r"unknown option 'dropout': this distbp \(.*\) does not have it; .* written by distbp '0\.1\.0'",
        ),
        ("loss", "huber", r"expected one of auto, mse, .*, got 'huber'"),
        ("optimizer", "lion", r"expected one of .*, got 'lion'"),
    ],
)
def test_what_a_newer_version_has_is_refused_in_words(name: str, value: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.h5"
    shutil.copy(file_of(5), path)
    changed_config(path, lambda config: config.update({name: value}))
    for reader in (read, outline):
        with pytest.raises(CheckpointError, match=f"checkpoint.h5: attribute config: .*{words}"):
            reader(path)
