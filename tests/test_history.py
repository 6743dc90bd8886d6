"""The history of a run: a table to which rows are added, which is hashed and checked row by row."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import configuration, train_on

from distbp.training import invariants
from distbp.training.checkpoint import read, write
from distbp.training.history import History


def filled(count: int) -> History:
    """With the rows (1, 0.5), (2, 1.0), …"""
    history = History.of({"epoch": (), "loss": ()})
    for epoch in range(1, count + 1):
        history.append({"loss": epoch / 2, "epoch": epoch})
    return history


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_rows_that_are_added_are_there(count: int) -> None:
    history = filled(count)
    assert (history.count, list(history)) == (count, ["epoch", "loss"])
    np.testing.assert_array_equal(history["epoch"], np.arange(1, count + 1))
    np.testing.assert_array_equal(history["loss"], np.arange(1, count + 1) / 2)
    assert history == History.of({"epoch": range(1, count + 1), "loss": history["loss"]})
    assert history != filled(count + 1)
    assert history.get("else") is None


def test_what_is_given_out_cannot_be_written_to() -> None:
    history = filled(3)
    for array in (history.rows, history["loss"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_hash_is_that_of_all_rows_whenever_it_was_asked_for() -> None:
    history = filled(0)
    for epoch in range(1, 200):
        history.append({"epoch": epoch, "loss": -epoch})
        if epoch in (1, 7, 64, 65, 199):
            pairs = [float(value) for e in range(1, epoch + 1) for value in (e, -e)]
            assert history.sha256() == hashlib.sha256(np.array(pairs, "<f8").tobytes()).digest()


@pytest.mark.parametrize("count", [3, 64, 100])
def test_a_snapshot_stays_as_it_was(count: int) -> None:
    history = filled(count)
    kept, before = history.snapshot(), history.sha256()
    history.append({"epoch": 0, "loss": 9})
    assert kept == filled(count)
    assert kept.sha256() == before != history.sha256()
    kept.append({"epoch": 0, "loss": 8})
    assert (kept["loss"][-1], history["loss"][-1]) == (8, 9)
    received = pickle.loads(pickle.dumps(history))
    assert received == history
    assert received.sha256() == history.sha256()


def test_each_row_is_looked_at_once_and_a_wrong_one_is_found(data_file: str, tmp_path: Path) -> None:
    state = train_on(1, configuration(data_file, tmp_path / "run", epochs=3)).state
    good = {name: values[-1] for name, values in state.history.items()}
    assert state.history.checked == 3
    for wrong, words in (
        ({"epoch": 5.0}, "/history/epoch does not count from 1 to 4"),
        ({"step": 12.0}, "/history/step does not count up to 16"),
        ({"step": 17.0}, "/history/step does not count up to 16"),
        ({"seconds": np.nan}, "/history/seconds holds values that are not finite"),
        ({"update_seconds_max": np.inf}, "/history/update_seconds_max holds values that are not finite"),
    ):
        later = replace(state, history=state.history.snapshot(), progress=replace(state.progress, epoch=4, step=16))
        later.history.append({**good, "epoch": 4.0, "step": 16.0, **wrong})
        with pytest.raises(ValueError, match=words):
            invariants.check(later)


def contents(path: Path) -> dict[str, bytes]:
    """All arrays and attributes; the bytes of the file itself also have the second in which it was written."""
    found: dict[str, bytes] = {}

    def add(name: str, one: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": np.asarray(value).tobytes() for key, value in one.attrs.items()})
        found[name] = one[()].tobytes() if isinstance(one, h5py.Dataset) else b""

    with h5py.File(path) as file:
        add("", file)
        file.visititems(add)
    assert "@checksum" in found
    return found


def test_a_file_is_the_same_whether_its_history_was_hashed_at_once_or_bit_by_bit(
    data_file: str, tmp_path: Path
) -> None:
    run = train_on(1, configuration(data_file, tmp_path / "run", epochs=5, checkpoint_every=1))
    newest = tmp_path / "run" / "checkpoint-0000000020.h5"
    assert read(newest).history == run.state.history
    write(tmp_path / "again.h5", read(newest))
    assert contents(tmp_path / "again.h5") == contents(newest)
