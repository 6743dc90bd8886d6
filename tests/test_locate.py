"""Names with stars, attributes and @: groups and files end to end, and what is the same for all of their rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import configuration, train_on

from distbp.data.layout import Layout
from distbp.data.locate import find
from distbp.data.reader import Reader
from distbp.data.split import read_layout
from distbp.errors import DataError
from distbp.ranks.communicator import OneProcess

RNG = np.random.default_rng(2)


def rows_of(layout: Layout, of: str = "x") -> Any:
    out = np.empty((layout.rows, layout.width(of)), layout.dtype(of))
    with Reader(layout) as reader:
        reader.read(of, 0, layout.rows, out)
    return out


def molecules(path: Path, groups: int = 4) -> tuple[str, list[np.ndarray]]:
    """A group for each molecule, with as many conformations as its number and two more; one group lacks energies."""
    parts = []
    with h5py.File(path, "w") as file:
        for number in range(groups):
            x = RNG.normal(size=(number + 2, 5, 3))
            file[f"gdb/m{number}/coordinates"], file[f"gdb/m{number}/energies"] = x, x.sum(axis=(1, 2))
            file[f"gdb/m{number}"].attrs["charge"] = number - 1.0
            parts.append(x)
        file["gdb/other/coordinates"] = np.zeros((2, 5, 3))
        file["gdb/none/coordinates"], file["gdb/none/energies"] = np.zeros((0, 5, 3)), np.zeros(0)
    return str(path), parts


def test_groups_end_to_end(tmp_path: Path) -> None:
    path, parts = molecules(tmp_path / "ani.h5")
    layout = find([path], "/", "*/*/coordinates,*/*/@charge", "*/*/energies")
    whole = np.concatenate(parts)
    assert layout.rows == len(whole)
    assert [entry.rpartition(": ")[2] for entry in layout.left_out] == ["gdb/none", "gdb/other"]
    found = rows_of(layout)
    np.testing.assert_array_equal(found[:, :15], whole.reshape(-1, 15))
    assert found[:, 15].tolist() == [number - 1.0 for number, part in enumerate(parts) for _ in part]
    np.testing.assert_array_equal(rows_of(layout, "y").ravel(), whole.sum(axis=(1, 2)))
    assert layout.place(3, "x") == f"{path}: gdb/m1/coordinates,*/*/@charge, row 1"


def test_groups_of_several_files_and_a_run_on_any_number_of_ranks(tmp_path: Path) -> None:
    first, _ = molecules(tmp_path / "a.h5")
    second, _ = molecules(tmp_path / "b.h5", 6)
    options = {"split": "/", "x": "*/*/coordinates", "y": "*/*/energies", "batch_size": 10, "reproducible": True}
    runs = [
        train_on(ranks, replace(configuration(first, tmp_path / f"run-{ranks}", **options), data=[first, second]))
        for ranks in (1, 3)
    ]
    assert len(runs[0].training) == 2 + 3 + 4 + 5 + 2 + 3 + 4 + 5 + 6 + 7
    assert runs[0].state.vector.tobytes() == runs[1].state.vector.tobytes()


def test_the_name_of_the_group_or_file_is_a_label(tmp_path: Path) -> None:
    for name in ("gluon", "quark"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for part in ("a", "b"):
                file[f"{part}/jets"] = RNG.normal(size=(3, 4))
    paths = [str(tmp_path / "gluon.h5"), str(tmp_path / "quark.h5")]
    by_file = read_layout(OneProcess(), find(paths, "a", "jets", "@file"))
    assert by_file.labels == ("gluon.h5", "quark.h5")
    assert by_file.y is not None
    assert by_file.y.tolist() == [0, 0, 0, 1, 1, 1]
    by_group = read_layout(OneProcess(), find(paths[:1], "/", "*/jets", "*/@group"))
    assert by_group.labels == ("a", "b")


def test_each_file_is_a_sample(tmp_path: Path) -> None:
    paths, expected = [], []
    for number in range(5):
        field = RNG.normal(size=(2, 2, 3))
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["full"], file["params/Re"], file["y"] = field, 100.0 * number, field.sum(axis=(0, 1))
            file.attrs["nu"] = np.float32(number)
        paths.append(str(tmp_path / f"{number}.h5"))
        expected.append([*field.ravel(), 100.0 * number, number])
    layout = find(paths, "/", "full,params/Re,@nu", "y", each=True)
    np.testing.assert_array_equal(rows_of(layout), expected)
    assert layout.width("y") == 3
    with pytest.raises(DataError, match=r"params/Re is a single value.*--each"):
        find(paths, "/", "params/Re", "y")


def test_an_attribute_of_text_and_one_that_is_too_much(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((2, 1))
        file.attrs["kind"], file.attrs["long"] = np.bytes_("wet"), np.zeros(5000)
    path = str(tmp_path / "a.h5")
    assert read_layout(OneProcess(), find([path], "/", "x", "@kind")).labels == ("wet",)
    with pytest.raises(DataError, match=r"@long is an attribute of type float64, \(5000,\); expected numbers"):
        find([path], "/", "x,@long", None)
    with pytest.raises(DataError, match="no data set @none; those in / are: x"):
        find([path], "/", "x,@none", None)


def test_stars_that_do_not_agree_and_that_find_nothing(tmp_path: Path) -> None:
    path, _ = molecules(tmp_path / "ani.h5")
    with pytest.raises(DataError, match="expected as many stars in each name"):
        find([path], "/", "*/*/coordinates", "*/energies")
    with pytest.raises(DataError, match=r"no group of / has all of \*/\*/forces"):
        find([path], "/", "*/*/forces", None)
    with h5py.File(path, "a") as file:
        for number in range(3):
            file[f"gdb/m{number}/cell"] = np.zeros((number + 2, number + 1))
    with pytest.raises(DataError, match=r"gdb/m1/cell has rows of shape \(2,\)"):
        find([path], "/", "*/*/cell", None)


def test_an_array_that_is_turned_over_is_noticed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["X"], file["y"] = np.zeros((5, 40)), np.zeros(40)
    path = str(tmp_path / "r.h5")
    words = r"X has 5 rows and y has 40; each sample needs one row in both.*write 'X\[:, samples\]'"
    with pytest.raises(DataError, match=words):
        find([path], "/", "X", "y")
    assert find([path], "/", "X[:, samples]", "y").rows == 40


def test_two_matrices_of_r_and_a_square_one(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["X"], file["Y"], file["S"] = np.zeros((5, 40)), np.zeros((5, 40)), np.zeros((6, 6))
        for name in ("X", "Y", "S"):
            file[name].attrs["rhdf5-NA.OK"] = [1]
    path = str(tmp_path / "r.h5")
    with pytest.raises(DataError, match=r"X and Y were written by R, which turns matrices over"):
        find([path], "/", "X", "Y")
    with pytest.raises(DataError, match=r"nothing shows which axis the samples are; write S\[:, samples\]"):
        find([path], "/", "S", None)
    assert find([path], "/", "S[samples, :]", None).rows == 6


def test_samples_along_the_second_axis_packed_and_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory on one rank, and from the file on three: the same bits, which are those of the plain numbers."""
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 20_000)
    stored = RNG.integers(-500, 500, (6, 9000)).astype(np.int16)
    values = stored.astype(np.float64) * 0.5 + 3
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        for name in ("state", "next"):
            item = file.create_dataset(name, data=stored if name == "state" else stored[::-1], chunks=(6, 64))
            item.attrs["scale_factor"], item.attrs["add_offset"] = np.array([0.5]), np.array([3.0])
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, rows in (("x", values.T), ("y", values[::-1].T)):
            file.create_dataset(f"train/{name}", data=rows, chunks=(64, 6))  # the order of samples goes by blocks
    shared = {"batch_size": 500, "reproducible": True, "epochs": 2, "shuffle_window": 500}
    names = {"split": "/", "x": "state[:, samples]", "y": "next[:, samples]"}
    packed = str(tmp_path / "packed.h5")
    one = train_on(1, configuration(packed, tmp_path / "one", **shared, **names))
    three = train_on(3, configuration(packed, tmp_path / "three", memory=7e-4, **shared, **names))
    plain = train_on(1, configuration(str(tmp_path / "plain.h5"), tmp_path / "plain", **shared))
    assert one.training.in_memory
    assert not three.training.in_memory
    assert three.state.vector.tobytes() == one.state.vector.tobytes() == plain.state.vector.tobytes()
