"""Checkpoints: whole or absent, read strictly, and nothing else needed to go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import configuration, train_on, write_data

from distbp.errors import CheckpointError
from distbp.training import checkpoint
from distbp.training.checkpoint import read, write
from distbp.training.history import record
from distbp.training.invariants import history_columns


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("made")
    train_on(1, configuration(write_data(here / "d.h5"), here / "run", epochs=2))
    return here / "run"


@pytest.fixture
def path(run: Path, tmp_path: Path) -> Path:
    """The newest checkpoint of a copy."""
    return Path(shutil.copytree(run, tmp_path / "run")) / "checkpoint-0000000008.h5"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_what_was_written_is_read(tmp_path: Path, dtype: str, kind: str) -> None:
    data = write_data(tmp_path / "d.h5", kind=kind)
    state = train_on(1, configuration(data, tmp_path / "run", dtype=dtype, hidden=[5, 4])).state
    write(tmp_path / "copy.h5", state)
    again = read(tmp_path / "copy.h5")
    assert again.vector.tobytes() == state.vector.tobytes()
    assert again.config == state.config
    assert again.progress == state.progress
    assert again.history == state.history
    assert again.problem.network == state.problem.network
    assert again.problem.classes == (3 if kind == "classes" else None)
    np.testing.assert_array_equal(again.problem.input.shift, state.problem.input.shift)
    np.testing.assert_array_equal(again.problem.target.spread, state.problem.target.spread)
    assert again.optimizer.keys() == state.optimizer.keys() == {"m", "v"}


def test_the_documented_layout(path: Path) -> None:
    with h5py.File(path) as file:
        assert file["/network/layer_2/W"].shape == (6, 4)
        assert file["/network/layer_3/b"].shape == (3,)
        assert file.attrs["format"] == b"distbp-checkpoint"
        assert json.loads(file.attrs["config"])["hidden"] == [6]
        assert {"network", "optimizer", "progress", "input", "target", "history"} == set(file)
        assert (file["/progress"]["epoch"], file["/progress"]["step"]) == (2, 8)
        assert list(file["/history"]["step"]) == [4, 8]
        assert file["/history"].dtype.names[:3] == ("epoch", "step", "train_loss")
        assert list(file["/target/classes"]) == [0, 1, 2]


def test_a_long_configuration_fits(tmp_path: Path, data_file: str) -> None:
    state = train_on(1, configuration(data_file, tmp_path / "run", epochs=0)).state
    state.config.data = [f"/a/rather/long/path/to/file-{i:06d}.h5" for i in range(3000)]  # over 64 KiB of JSON
    write(tmp_path / "long.h5", state)
    assert read(tmp_path / "long.h5").config.data == state.config.data


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, before = read(path), path.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write(path, state)
    assert path.read_bytes() == before
    assert not [name for name in os.listdir(path.parent) if name.endswith(".tmp")]


@pytest.mark.slow
def test_any_flipped_bit_is_found_or_harmless(path: Path, tmp_path: Path) -> None:
    content, good = path.read_bytes(), read(path)
    optimizer = {name: v.tobytes() for name, v in good.optimizer.items()}
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.h5"
    found = 0
    for position in rng.choice(len(content) * 8, 500, replace=False):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << (position % 8)
        damaged.write_bytes(changed)
        try:
            state = read(damaged)
        except CheckpointError:
            found += 1
        else:  # unused bytes between the objects of the file
            assert state.vector.tobytes() == good.vector.tobytes()
            assert (state.progress, state.history, state.config) == (good.progress, good.history, good.config)
            assert {name: v.tobytes() for name, v in state.optimizer.items()} == optimizer
            assert (state.problem.labels, state.machines) == (good.problem.labels, good.machines)
            for of in ("input", "target"):
                one, other = getattr(state.problem, of), getattr(good.problem, of)
                assert (one.shift.tobytes(), one.spread.tobytes()) == (other.shift.tobytes(), other.spread.tobytes())
    assert found > 100


REGRESSION = record(history_columns(["rmse"]))


def missing(file: h5py.File) -> None:
    del file["/network/layer_2/W"]


def soft_link(file: h5py.File) -> None:
    del file["/network/layer_2/W"]
    file["/network/layer_2/W"] = h5py.SoftLink("/network/layer_3/W")


def external_link(file: h5py.File) -> None:
    del file["/network/layer_2/b"]
    file["/network/layer_2/b"] = h5py.ExternalLink("/etc/passwd", "/b")


def chunked(file: h5py.File) -> None:
    del file["/network/layer_2/b"]
    file.create_dataset("/network/layer_2/b", (2**40,), "f8", chunks=(1024,))


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((6,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "b", (6,))
    del file["/network/layer_2/b"]
    file.create_virtual_dataset("/network/layer_2/b", layout)


def external_storage(file: h5py.File) -> None:
    del file["/network/layer_2/b"]
    file.create_dataset("/network/layer_2/b", (6,), "f8", external=[("/etc/hostname", 0, 48)])


def objects(file: h5py.File) -> None:
    del file["/network/layer_2/b"]
    file.create_dataset("/network/layer_2/b", data=["x"], dtype=h5py.string_dtype())


def not_stored(file: h5py.File) -> None:
    del file["/network/layer_2/b"]
    file.create_dataset("/network/layer_2/b", (10**9,), "f8")


def future(file: h5py.File) -> None:
    file.attrs["format_version"] = 99


def extra(file: h5py.File) -> None:
    file["/network/layer_9"] = np.zeros(3)


ATTACKS = {
    missing: "/network/layer_2/W is missing",
    soft_link: "/network/layer_2/W is a link",
    external_link: "/network/layer_2/b is a link",
    chunked: "/network/layer_2/b is not a plain array",
    virtual: "/network/layer_2/b is not a plain array",
    external_storage: "/network/layer_2/b is not a plain array",
    objects: "/network/layer_2/b is not an array of numbers",
    not_stored: "/network/layer_2/b declares",
    future: "format version 99",
    extra: "'/network/layer_9' does not belong",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_file_from_elsewhere_is_refused(path: Path, attack: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        attack(file)
    with pytest.raises(CheckpointError, match=ATTACKS[attack]):
        read(path)


def forge(path: Path, change: Callable[[checkpoint.Tree, dict[str, object]], None]) -> None:
    """A file with a right checksum but other content."""
    with h5py.File(path, "r+") as file:
        tree: checkpoint.Tree = {}
        file.visititems(lambda name, item: tree.update({f"/{name}": item[()]}) if hasattr(item, "dtype") else None)
        attributes = dict(file.attrs)
        change(tree, attributes)
        for name in list(file):
            del file[name]
        for name, array in tree.items():
            file[name] = array
        del attributes["checksum"]
        version = {"format_version": np.max(attributes["format_version"])}
        attributes["checksum"] = np.bytes_(checkpoint._checksum(tree, {**attributes, **version}))
        for name, value in attributes.items():
            file.attrs[name] = value


def progress(name: str, value: object) -> Callable[[checkpoint.Tree, dict[str, object]], None]:
    return lambda tree, _: tree["/progress"].__setitem__(name, value)


def history(name: str, row: int, value: float) -> Callable[[checkpoint.Tree, dict[str, object]], None]:
    return lambda tree, _: tree["/history"][name].__setitem__(row, value)


def configure(**options: object) -> Callable[[checkpoint.Tree, dict[str, object]], None]:
    def change(tree: checkpoint.Tree, attributes: dict[str, object]) -> None:
        config = json.loads(bytes(attributes["config"]))  # type: ignore[arg-type]
        attributes["config"] = np.bytes_(json.dumps({**config, **options}))

    return change


def test_wrong_content_with_a_right_checksum_is_refused(path: Path) -> None:
    original = path.read_bytes()
    cases: list[tuple[Callable[[checkpoint.Tree, dict[str, object]], None], str]] = [
        (lambda tree, _: tree["/network/layer_2/W"].__setitem__((0, 0), np.nan), "layer_2/W holds values that are not"),
        (lambda tree, _: tree.update({"/network/layer_2/b": np.zeros(5)}), "layer_2/b is float64"),
        (lambda tree, _: tree.update({"/input/shift": np.zeros(9)}), "/input/shift"),
        (progress("epoch", -1), "/history does not have -1 rows|/progress/epoch is -1"),
        (progress("step", 2**60), "/progress/step is"),
        (progress("epoch_seconds", np.nan), "/progress/epoch_seconds is nan"),
        (
            lambda tree, _: tree.update({"/progress": np.zeros(1, tree["/progress"].dtype)}),
            r"/progress is of records \(1,\), expected",
        ),
        (lambda tree, _: tree.update({"/progress": np.zeros(8)}), "/progress is not an array of numbers"),
        (lambda tree, _: tree.update({"/input/spread": np.zeros(4)}), "spread holds values that are not above 0"),
        (lambda tree, _: tree["/optimizer/v"].__setitem__(0, -1.0), "/optimizer/v holds values below 0"),
        (lambda tree, _: tree.pop("/optimizer/m") is None, "/optimizer/m is missing"),
        (lambda tree, _: tree.pop("/history") is None, "/history is missing"),
        (lambda tree, _: tree.update({"/history": tree["/history"][["epoch", "step"]]}), "/history is not an array"),
        (lambda tree, _: tree.update({"/history": tree["/history"].astype(REGRESSION)}), "/history has the columns"),
        (history("epoch", 0, np.inf), "/history/epoch does not count"),
        (history("epoch", 1, 1.0), "/history/epoch does not count"),
        (history("step", 0, 99), "/history/step does not count"),
        (history("step", 0, 8), "/history/step does not count"),
        (history("step", 1, 7.5), "/history/step does not count"),
        (history("learning_rate", 0, np.inf), "/history/learning_rate holds"),
        (history("seconds", 1, np.nan), "/history/seconds holds"),
        (history("forward_seconds", 1, np.inf), "/history/forward_seconds holds"),
        (lambda tree, _: tree.update({"/history": tree["/history"][:1]}), "/history does not have 2 rows"),
        (lambda tree, _: tree.update({"/history": tree["/history"].reshape(2, 1)}), r"/history is of shape \(2, 1\)"),
        (lambda tree, _: tree.update({"/target/classes": np.arange(2)}), "/target/classes holds 2 labels"),
        (lambda tree, _: tree.update({"/target/classes": np.array([2, 1, 0])}), "/target/classes: labels are sorted"),
        (lambda tree, _: tree.pop("/target/classes") is None, "/target/classes is missing"),
        (lambda tree, _: tree.update({"/other": np.zeros(1)}), "'/other' does not belong"),
        (lambda tree, _: tree.pop("/progress") and None, "/progress is missing"),
        (configure(hidden=[7]), "layer_2/W is float64"),
        (configure(hidden=[10**12]), "layer_2/W is float64"),
        (configure(hidden=[-7]), "--hidden|hidden"),
        (configure(unknown=1), "unknown option 'unknown'"),
        (configure(dtype="float32"), "layer_2/W is float64"),
        (configure(loss="auto"), "not resolved"),
    ]
    for change, message in cases:
        path.write_bytes(original)
        forge(path, change)
        with pytest.raises(CheckpointError, match=message):
            read(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("machines", np.array([b"[]", b"[]"])),
        ("machines", np.bytes_(b"[" * 30000)),
        ("machines", np.bytes_(b'[{"cpu": "x"}]')),
        ("machines", np.bytes_(b'[{"step": 0, "cpu": [1]}]')),
        ("machines", np.bytes_(b'{"step": 0}')),
        ("config", np.bytes_(b"[" * 30000)),
        ("format_version", np.array([2, 2])),
        ("distbp_version", np.array([b"1", b"2"])),
    ],
)
def test_wrong_attributes_with_a_right_checksum_are_refused(path: Path, name: str, value: object) -> None:
    forge(path, lambda _, attributes: attributes.update({name: value}))
    with pytest.raises(CheckpointError, match=f"attribute {name}"):
        read(path)


def test_another_format_version_is_named(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 1
        del file.attrs["machines"]
    with pytest.raises(CheckpointError, match=r"format version 1, this distbp .* reads 2 to 7"):
        read(path)


def test_what_is_no_checkpoint(tmp_path: Path, data_file: str) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(CheckpointError, match="not a readable HDF5 file"):
        read(tmp_path / "text.h5")
    with pytest.raises(CheckpointError, match="not a distbp checkpoint"):
        read(Path(data_file))


def test_small_and_large_files_hold_the_same(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one is put together in memory; a large one is written part by part."""
    state = read(path)
    write(tmp_path / "small.h5", state)
    monkeypatch.setattr("distbp.files.write_arrays.IN_MEMORY", -1)
    write(tmp_path / "large.h5", state)
    with h5py.File(tmp_path / "small.h5") as small, h5py.File(tmp_path / "large.h5") as large:
        names: list[str] = []
        small.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        found: list[str] = []
        large.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        assert names == found
        for name in names:
            assert small[name].dtype == large[name].dtype
            assert np.array_equal(small[name][()], large[name][()])
        assert dict(small.attrs) == dict(large.attrs)
