"""A run knows its data again: the same elsewhere, others of the same shape, and files that have grown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Notes, configuration, resumed, train_on, write_data

from distbp.data.fingerprint import BLOCK_BYTES, BLOCKS, fingerprint, from_json, sample, to_json
from distbp.data.split import read_split
from distbp.errors import CheckpointError, DataError, UsageError
from distbp.ranks.communicator import OneProcess, run_threads
from distbp.settings.config import Config
from distbp.training import checkpoint
from distbp.training.comparison import digest
from distbp.training.run_directory import RunDirectory

Begin = Callable[[str], Config]


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """Begins a run of one epoch, of 40 rows in batches of 8, of this kind; it was made once, and is put there again."""
    made: dict[str, Config] = {}
    kept, there = tmp_path_factory.mktemp("kept"), tmp_path_factory.mktemp("there")

    def put(kind: str) -> Config:
        if kind not in made:
            (there / kind).mkdir()
            data = write_data(there / kind / "d.h5", train=40, kind=kind)
            made[kind] = configuration(data, there / kind / "run", epochs=1, batch_size=8)
            train_on(1, made[kind])
            shutil.copytree(there / kind, kept / kind)
        shutil.rmtree(there / kind)
        shutil.copytree(kept / kind, there / kind)
        return made[kind]

    return put


@pytest.fixture(params=["classes", "targets"])
def begun(request: pytest.FixtureRequest, begin: Begin) -> Config:
    return begin(request.param)


def change(config: Config, name: str, row: int, value: float | None = None) -> None:
    """One value of the data is another one; a label becomes the next one."""
    with h5py.File(config.data[0], "r+") as file:
        values = file[name]
        if value is None:
            values[row] = (values[row] + 1) % 3
        else:
            values[row, 0] = value


def grow(config: Config, factor: int) -> None:
    with h5py.File(config.data[0], "r+") as file:
        for name in ("x", "y"):
            values = np.concatenate([file[f"train/{name}"][:]] * factor)
            del file[f"train/{name}"]
            file[f"train/{name}"] = values


@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ["training data: x", "training data: y", "validation data: x", "validation data: y"])
@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_other_values(begin: Begin, place: str, kind: str, ranks: int) -> None:
    """Of the same shape: they are refused, and nothing is written; with the option the run goes on, and knows them."""
    config = begin(kind)
    split = "train" if place.startswith("training") else "test"
    change(config, f"{split}/{place[-1]}", 10, None if place.endswith("y") and kind == "classes" else 77.0)
    before = RunDirectory(config.out).checkpoints()
    with pytest.raises(DataError, match=rf"{place}: other values than in the run\n.*--allow-changed-data") as error:
        resumed(ranks, config, epochs=2)
    assert error.value.agreed
    assert RunDirectory(config.out).checkpoints() == before
    run = resumed(ranks, config, epochs=2, allow_changed_data=True)
    assert run.state.progress.epoch == 2
    assert not run.config.allow_changed_data  # which was for that start
    assert resumed(ranks, config, epochs=3).state.progress.epoch == 3


@pytest.mark.parametrize("factor", [2, *(pytest.param(factor, marks=pytest.mark.slow) for factor in (3, 10))])
@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_has_grown(begun: Config, factor: int, known: bool) -> None:
    """To another multiple of the batch: also where the checkpoint has no fingerprint."""
    if not known:
        forget(begun)
    grow(begun, factor)
    for words in ({}, {"allow_changed_data": True}):
        with pytest.raises(DataError, match=f"has {40 * factor} samples now, which is not what this run was trained"):
            resumed(2, begun, epochs=2, **words)


def forget(config: Config) -> None:
    """As an older version wrote it."""
    for path in RunDirectory(config.out).checkpoints():
        state = checkpoint.read(path)
        assert state.fingerprints
        state.fingerprints = {}
        checkpoint.write(path, state)


@pytest.mark.parametrize("ranks", [1, 2])
def test_data_that_have_moved(begun: Config, tmp_path: Path, ranks: int) -> None:
    """Repacked and under another name, they are the same; the run remembers where they are now."""
    shutil.copytree(begun.out, tmp_path / "unmoved")
    whole = resumed(1, configuration(begun.data[0], tmp_path / "unmoved"), epochs=2)
    moved = tmp_path / "elsewhere.h5"
    with h5py.File(begun.data[0]) as old, h5py.File(moved, "w") as new:
        for name in ("train/x", "train/y", "test/x", "test/y"):
            new.create_dataset(name, data=old[name][:], chunks=True, compression="gzip")
    Path(begun.data[0]).unlink()
    with pytest.raises(DataError, match="if the data are elsewhere now, name them there again"):
        resumed(ranks, begun, epochs=2)
    again = resumed(ranks, begun, epochs=2, data=[str(moved)])
    assert again.config.data == [str(moved)]
    if ranks == 1:
        assert digest(again.state.parameters) == digest(whole.state.parameters)
    change(configuration(str(moved), begun.out), "train/x", 0, 5.0)
    with pytest.raises(DataError, match="training data: x: other values"):
        resumed(ranks, begun, epochs=3)


def test_checkpoints_of_older_versions(begun: Config, tmp_path: Path) -> None:
    """Nothing is known: it is said once, and known from then on; and other paths cannot be compared."""
    forget(begun)
    moved = shutil.copy(begun.data[0], tmp_path / "moved.h5")
    with pytest.raises(UsageError, match="leave DATA out, or add --allow-changed-data"):
        resumed(1, begun, epochs=2, data=[str(moved)])
    notes = Notes()
    train_on(1, begun, resume_with={"epochs": 2}, listener=notes)
    assert sum("is not checked this time" in note for note in notes.lines) == 1
    change(begun, "train/x", 3, 9.0)
    with pytest.raises(DataError, match="other values"):
        resumed(1, begun, epochs=3)


@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_the_same_on_any_number_of_ranks_in_memory_and_streamed(tmp_path: Path, kind: str) -> None:
    data = write_data(tmp_path / "d.h5", train=3000, inputs=300, kind=kind)  # 7 MB: more than the sample
    prints = {str(fingerprint_of(data, ranks, memory)) for ranks in (1, 3) for memory in (float("inf"), 0.0)}
    assert len(prints) == 1


def fingerprint_of(data: str, ranks: int, memory: float) -> Any:
    return run_threads(
        ranks, lambda comm: fingerprint(comm, read_split(comm, [data], "train", "x", "y", memory=memory))
    )[ranks - 1]


@pytest.mark.parametrize("N", [1, 7, 100, 5000, 10**6, 10**12])
@pytest.mark.parametrize("row_bytes", [1, 400, 10**6])
def test_the_sample_is_bounded_and_has_both_ends(N: int, row_bytes: int) -> None:
    blocks = sample(N, row_bytes)
    assert blocks[0][0] == 0
    assert blocks[-1][1] == N
    assert len(blocks) <= BLOCKS
    assert all(0 < last - first <= max(1, BLOCK_BYTES // row_bytes) for first, last in blocks)
    assert all(a[0] < b[0] for a, b in pairwise(blocks))


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"other": {}},
        {"training": {"rows": 1}},
        {"training": {"rows": -1, "x": None, "y": None}},
        {"training": {"rows": True, "x": {"width": 1, "type": "float32", "hash": "0" * 64}, "y": None}},
        {"training": {"rows": 1, "x": None, "y": None}},
        {"training": {"rows": 1, "x": {"width": 1, "type": "\x1b[2J", "hash": "0" * 64}, "y": None}},
        {"training": {"rows": 1, "x": {"width": 1, "type": "float32", "hash": "0"}, "y": None}},
        {"training": {"rows": 1, "x": {"width": 2**70, "type": "float32", "hash": "0" * 64}, "y": None}},
    ],
)
def test_a_fingerprint_that_is_none_is_refused(begun: Config, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = RunDirectory(begun.out).checkpoints()[-1]
    state = checkpoint.read(path)
    assert from_json(json.loads(json.dumps(to_json(state.fingerprints)))) == state.fingerprints
    monkeypatch.setattr(checkpoint, "to_json", lambda prints: wrong)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="attribute fingerprint"):  # by the writer, which leaves what is there
        checkpoint.write(path, state)
    assert path.read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_read_json", lambda *arguments: None)
        checkpoint.write(path, state)
    with pytest.raises(CheckpointError, match="attribute fingerprint"):
        checkpoint.read(path)


def test_labels_of_other_names_are_other_data(tmp_path: Path) -> None:
    prints = []
    for labels in (["a", "b"], ["a", "c"]):
        path = tmp_path / f"{labels[1]}.h5"
        with h5py.File(path, "w") as file:
            file["train/x"], file["train/y"] = np.arange(6.0)[:, None], [labels[i % 2] for i in range(6)]
        prints.append(fingerprint(OneProcess(), read_split(OneProcess(), [str(path)], "train", "x", "y")))
    assert prints[0].differences(prints[1]) == ["y: other values than in the run"]
