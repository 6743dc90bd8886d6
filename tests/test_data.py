"""Data sets: what is read, and what is refused with a message that helps."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import configuration, train_on, write_data

from distbp.data.locate import find
from distbp.data.reader import Reader
from distbp.data.split import check_classes, data_files, digits_path, read_split
from distbp.errors import DataError, DistbpError
from distbp.inspection.file_inspection import describe
from distbp.prediction.predict import predict
from distbp.ranks.communicator import NodeArray, OneProcess, run_threads
from distbp.training import checkpoint


def write(path: Path, x: Any, y: Any, split: str = "train") -> str:
    with h5py.File(path, "a") as file:
        file[f"{split}/x"] = x
        file[f"{split}/y"] = y
    return str(path)


def read(*paths: str, split: str = "train", x: str = "x", y: str | None = "y") -> Any:
    return read_split(OneProcess(), list(paths), split, x, y)


def test_images_are_flattened_and_keep_their_type(tmp_path: Path) -> None:
    images = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
    data = read(write(tmp_path / "d.h5", images, np.arange(5)))
    assert data.x.dtype == np.uint8
    np.testing.assert_array_equal(data.x, images.reshape(5, 6))


def test_several_files_are_one_data_set(tmp_path: Path) -> None:
    first = write(tmp_path / "1.h5", np.zeros((2, 3)), [0, 1])
    second = write(tmp_path / "2.h5", np.ones((3, 3)), [1, 1, 0])
    data = read(first, second)
    assert data.x.sum(axis=1).tolist() == [0, 0, 3, 3, 3]
    assert data.y.tolist() == [0, 1, 1, 1, 0]
    assert data.place(3, "x") == f"{second}: train/x, row 1"


def test_byte_order_and_layouts(tmp_path: Path) -> None:
    values = np.arange(40.0).reshape(10, 4)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("train/x", data=values, dtype=">f4", chunks=(3, 4), compression="gzip")
        file["train/y"] = values[:, 0]
    data = read(str(tmp_path / "d.h5"))
    assert data.x.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(data.x, values)
    assert data.y.shape == (10, 1)
    assert not data.is_labelled


def test_missing_files_and_names_say_what_there_is(tmp_path: Path, data_file: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(str(tmp_path / "none.h5"))
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match=r"text\.h5: not an HDF5 file"):
        read(str(tmp_path / "text.h5"))
    with pytest.raises(DataError, match=r"no split 'validation'.*test, train"):
        read(data_file, split="validation")
    with pytest.raises(DataError, match=r"no data set train/labels; those in train are: x, y \(see --y\)"):
        read(data_file, y="labels")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "train/x has 3 rows and train/y has 2"),
        (np.zeros((0, 2)), np.zeros(0, int), "train/x is empty"),
        (np.zeros((2, 0)), [0, 1], "no columns"),
        (np.array([b"a", b"b"]), [0, 1], "expected integers or real numbers"),
        (
            np.zeros((2, 2)),
            np.zeros(2, complex),
            r"train/y is complex \(complex128\); store the real and the imaginary part",
        ),
        (np.zeros((2, 2)), np.array([[b"aa", b"b"]] * 2), "train/y: expected one string a sample"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "integers in 2 columns"),
        (np.array([[1.0, 2], [3, np.nan], [5, 6]]), [0, 1, 0], "train/x, row 1: nan"),
        (np.zeros((3, 1)), [0.0, 1.0, -np.inf], "train/y, row 2: -inf"),
    ],
)
def test_unusable_data_are_refused(tmp_path: Path, x: Any, y: Any, message: str) -> None:
    path = write(tmp_path / "d.h5", x, y)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_bad_value_is_found_in_the_right_file_and_row_on_any_number_of_ranks(tmp_path: Path) -> None:
    first = write(tmp_path / "1.h5", np.zeros((4, 2)), np.zeros(4))
    bad = np.zeros((5, 2))
    bad[4, 1] = np.inf
    second = write(tmp_path / "2.h5", bad, np.zeros(5))
    for ranks in (1, 2, 3, 12):
        with pytest.raises(DataError, match=r"2\.h5: train/x, row 4: inf") as error:
            run_threads(ranks, lambda comm: read_split(comm, [first, second], "train", "x", "y"))
        assert error.value.agreed


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([4, 4, 4], "all 3 labels are 4; a classifier needs two classes"),
        (["cat", "cat"], "all 2 labels are 'cat'"),
        (list(range(1500)), "train/y: 1500 different labels among 1500 samples"),
        (np.array([1, 2**63 + 1], np.uint64), "row 1: label 9223372036854775809, which is no label"),
        (["cat", "", "dog"], "row 1: an empty string, which is no label"),
    ],
)
def test_labels_are_refused(tmp_path: Path, labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_classes(read(write(tmp_path / "d.h5", np.zeros((len(labels), 1)), labels)))


@pytest.mark.parametrize(
    ("stored", "labels"),
    [
        ([3, -1, 3, 10**12], (-1, 3, 10**12)),
        (np.array([5, 1, 5], np.uint8), (1, 5)),
        (["mouse", "cat", "mouse", "Löwe"], ("Löwe", "cat", "mouse")),
        (np.array([b"b", b"aa", b"b"]), ("aa", "b")),
        ([True, False, False], (0, 1)),
    ],
    ids=["any integers", "bytes", "strings", "strings of fixed length", "booleans"],
)
def test_labels_become_classes_on_any_number_of_ranks(tmp_path: Path, stored: Any, labels: tuple[Any, ...]) -> None:
    path = write(tmp_path / "d.h5", np.zeros((len(stored), 1)), stored)
    values = [value.decode() if isinstance(value, bytes) else value for value in np.asarray(stored, object).tolist()]
    for ranks in (1, 2, 5):
        data = run_threads(ranks, lambda comm: read_split(comm, [path], "train", "x", "y"))[0]
        assert data.labels == labels
        assert data.is_labelled
        assert [data.labels[i] for i in data.y] == values


def test_names_of_classes_come_back_with_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = np.array(["cirrus", "cumulus", "nimbus"], object)
    path = tmp_path / "clouds.h5"
    for split, count in (("train", 90), ("test", 30)):
        which = rng.integers(0, 3, count)
        write(path, which[:, None] + rng.uniform(-0.1, 0.1, (count, 2)), names[which], split)
    run = train_on(2, configuration(str(path), tmp_path / "run", epochs=80, learning_rate=0.05))
    assert run.state.history["validation_accuracy"][-1] == 1.0
    state = checkpoint.read(sorted((tmp_path / "run").glob("checkpoint-*.h5"))[-1])
    assert state.problem.labels == ("cirrus", "cumulus", "nimbus")
    test = read_split(OneProcess(), [str(path)], "test", "x", None)
    predict(OneProcess(), state, test, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as out, h5py.File(path) as data:
        assert out["class"].asstr()[()].tolist() == data["test/y"].asstr()[()].tolist()
        assert out["classes"].asstr()[()].tolist() == list(names)
    write(path, np.zeros((2, 2)), np.array(["nimbus", "stratus"], object), "later")
    with pytest.raises(DataError, match=r"later/y, row 1: label 'stratus'.* 'cirrus', 'cumulus', 'nimbus'"):
        train_on(3, configuration(str(path), tmp_path / "again", validation_split="later"))


def simulation(path: Path) -> dict[str, Any]:
    """Data sets as simulations write them: one for each quantity, of several types, and a table."""
    rng = np.random.default_rng(1)
    columns = {
        "pressure": rng.standard_normal(50),
        "temperature": rng.standard_normal((50, 1)).astype(">f4"),
        "velocity": rng.standard_normal((50, 3)).astype(np.float16),
        "phase": rng.integers(0, 200, 50).astype(np.uint8),
        "drag": rng.standard_normal(50),
        "lift": rng.standard_normal(50),
    }
    table = np.zeros(50, [("cell", "i4"), ("force", "f8", (2,)), ("kind", "S4")])
    table["cell"], table["force"] = np.arange(50), rng.standard_normal((50, 2))
    table["kind"] = np.where(np.arange(50) % 3, b"wet", b"dry")
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(f"train/{name}", data=values, chunks=(7, *values.shape[1:]), compression="gzip")
        file["train/cells"] = table
        file["table"] = table
    return {**columns, "cells": table}


def test_columns_side_by_side(tmp_path: Path) -> None:
    there = simulation(tmp_path / "s.h5")
    path = str(tmp_path / "s.h5")
    data = read(path, x="pressure, temperature,velocity", y="drag,lift")
    assert data.x.dtype == np.float64
    expected = np.column_stack([there["pressure"], there["temperature"], there["velocity"]])
    np.testing.assert_array_equal(data.x, expected)
    np.testing.assert_array_equal(data.y, np.column_stack([there["drag"], there["lift"]]))
    assert data.place(9, "x") == f"{path}: train/pressure, temperature,velocity, row 9"
    narrow = read(path, x="velocity,phase", y="phase")
    assert narrow.x.dtype == np.result_type(np.float16, np.uint8)
    assert narrow.is_labelled
    assert read(path, x="velocity", y="drag").x.dtype == np.float16


def test_fields_of_tables(tmp_path: Path) -> None:
    table = simulation(tmp_path / "s.h5")["cells"]
    path = str(tmp_path / "s.h5")
    for split, prefix in (("train", "cells."), ("table", "")):
        data = read(path, split=split, x=f"{prefix}force,{prefix}cell", y=f"{prefix}kind")
        np.testing.assert_array_equal(data.x, np.column_stack([table["force"], table["cell"]]))
        assert data.labels == ("dry", "wet")
    with pytest.raises(
        DataError, match=r"train/cells is a table; name a field of it \(see --x\): cells.cell, cells.force"
    ):
        read(path, x="cells")
    with pytest.raises(DataError, match=r"no data set train/cells.speed; those in train are: cells.cell, .*phase"):
        read(path, x="cells.speed")
    with pytest.raises(DataError, match=r"table has no field x; it has cell, force, kind \(see --x\)"):
        read(path, split="table")
    with pytest.raises(DataError, match=r"train/cells\.kind is of type string; expected integers or real numbers"):
        read(path, x="cells.kind", y="drag")
    with pytest.raises(DataError, match="integers in 2 columns"):
        read(path, x="drag", y="phase,cells.cell")


def test_patterns_stand_for_files_in_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write(tmp_path / f"run-{number:02}.h5", np.full((2, 1), number), [0.5, 1.0])
    files = data_files([str(tmp_path / "run-*.h5")])
    assert [Path(file).name for file in files] == ["run-01.h5", "run-02.h5", "run-10.h5"]
    assert read(*files).x[:, 0].tolist() == [1, 1, 2, 2, 10, 10]
    run = train_on(2, configuration(str(tmp_path / "run-*.h5"), tmp_path / "run", validation_split=""))
    assert run.config.data == files
    with pytest.raises(DataError, match=r"none-\*\.h5: no file matches"):
        train_on(2, configuration(str(tmp_path / "none-*.h5"), tmp_path / "other"))


@pytest.mark.parametrize("chunks", [None, (3, 4)])
def test_rows_of_several_files_are_read_where_they_belong(tmp_path: Path, chunks: Any) -> None:
    rng = np.random.default_rng(2)
    wholes = []
    for number, rows in enumerate((5, 1, 17)):
        wholes.append(rng.standard_normal((rows, 2, 2)).astype(np.float32))
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file.create_dataset("train/x", data=wholes[-1], chunks=chunks and (1, 2, 2))
    layout = find([str(tmp_path / f"{number}.h5") for number in range(3)], "train", "x", None)
    whole = np.concatenate(wholes).reshape(23, 4)
    for start in range(0, 23, 4):
        for stop in range(start + 1, 24, 5):
            out = np.empty((stop - start, 4), np.float32)
            with Reader(layout) as reader:
                reader.read("x", start, stop, out)
            np.testing.assert_array_equal(out, whole[start:stop])


def test_large_blocks_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = simulation(tmp_path / "s.h5")
    monkeypatch.setattr("distbp.data.reader.BLOCK_BYTES", 40)
    monkeypatch.setattr("distbp.data.split.BLOCK_BYTES", 100)
    data = read(str(tmp_path / "s.h5"), x="pressure,velocity", y="cells.kind")
    np.testing.assert_array_equal(data.x, np.column_stack([expected["pressure"], expected["velocity"]]))
    assert [data.labels[i].encode() for i in data.y] == expected["cells"]["kind"].tolist()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cross_entropy"}, "needs class labels, which are integers or strings; for regression use --loss mse"),
        ({"loss": "binary_cross_entropy"}, "needs targets from 0 to 1"),
        ({"validation_split": "nowhere"}, "no split 'nowhere'"),
        ({"validation_split": "wide"}, "has 3 columns, but the network has 4 inputs"),
        ({"validation_split": "labelled"}, "class labels, but the network was trained on real targets"),
    ],
)
def test_what_does_not_fit_the_network(tmp_path: Path, ranks: int, options: dict[str, Any], message: str) -> None:
    data = Path(write_data(tmp_path / "d.h5", kind="targets"))
    write(data, np.zeros((3, 3)), np.zeros((3, 2)), "wide")
    write(data, np.zeros((3, 4)), [0, 1, 0], "labelled")
    with pytest.raises(DistbpError, match=message) as error:
        train_on(ranks, configuration(str(data), tmp_path / "run", **options))
    assert error.value.agreed


def test_a_label_the_network_does_not_know(tmp_path: Path, data_file: str) -> None:
    write(Path(data_file), np.zeros((2, 4)), [0, 7], "later")
    with pytest.raises(DataError, match="row 1: label 7, but the network knows the classes 0 … 2"):
        train_on(2, configuration(data_file, tmp_path / "run", validation_split="later"))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((4, 3)), [0, 1, 0, 1], "train/x has rows of shape (3,) and type float64, but "),
        (np.zeros((4, 2), np.float32), [0, 1, 0, 1], "train/x has rows of shape (2,) and type float32, but "),
        (np.zeros((4, 2)), [0.0, 1.0, 0.0, 1.0], "train/y has rows of shape () and type float64, but "),
        (np.zeros((4, 2)), ["a", "b", "a", "b"], "train/y has rows of shape () and type string, but "),
        (np.zeros((4, 2)), [0, 1, 0], "train/x has 4 rows and train/y has 3"),
    ],
    ids=["shape", "type", "targets", "names", "rows"],
)
def test_files_that_do_not_agree(tmp_path: Path, x: Any, y: Any, message: str) -> None:
    first = write(tmp_path / "1.h5", np.zeros((4, 2)), [0, 1, 0, 1])
    second = write(tmp_path / "2.h5", x, y)
    with pytest.raises(DataError, match=re.escape(f"{second}: {message}")):
        read(first, second)


def test_strings_of_fixed_length_are_utf_8_whatever_their_mark_says(tmp_path: Path) -> None:
    """NumPy's bytes are marked as ASCII, also where there is more in them."""
    path = write(tmp_path / "d.h5", np.zeros((3, 1)), np.array(["Löwe".encode(), b"cat", b"cat"]))
    assert read(path).labels == ("Löwe", "cat")
    assert "2 labels, samples of each: 'Löwe': 1, 'cat': 2" in "\n".join(describe(path))
    latin = write(tmp_path / "latin.h5", np.zeros((3, 1)), np.array(["Löwe".encode("latin-1"), b"cat", b"cat"]))
    with pytest.raises(DataError, match=r"train/y, row 0 to 2: text that is not UTF-8: b'L\\xf6we'"):
        read(latin)


def test_a_file_that_its_writer_never_closed(tmp_path: Path) -> None:
    """Copies of a file that is open: HDF5's newer formats carry a mark, older ones an end that is not there yet."""
    for version, message in (("latest", r"is marked as open for writing.*h5clear -s"), ("earliest", "is truncated")):
        with h5py.File(tmp_path / f"{version}.h5", "w", libver=version) as file:
            file["train/x"], file["train/y"] = np.zeros((1000, 4)), np.arange(1000) % 2
            file.flush()
            copy = shutil.copy(tmp_path / f"{version}.h5", tmp_path / "copy.h5")
        if version == "earliest":
            os.truncate(copy, 9000)
        with pytest.raises(DataError, match=rf"copy\.h5: {message}"):
            read(str(copy))


def test_links_and_values_in_other_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "soft.h5", "w") as file:
        file["train/x"], file["train/y"] = np.zeros((2, 2)), h5py.SoftLink("/train/x")
    with pytest.raises(DataError, match="train/y is a link"):
        read(str(tmp_path / "soft.h5"))
    with h5py.File(tmp_path / "dangling.h5", "w") as file:
        file["train/x"], file["train/y"] = np.zeros((2, 2)), h5py.ExternalLink("none.h5", "/y")
    with pytest.raises(DataError, match="train/y is a link"):
        read(str(tmp_path / "dangling.h5"))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((2, 2), "f8")
        layout[:] = h5py.VirtualSource("none.h5", "x", (2, 2))
        file.create_virtual_dataset("train/x", layout)
        file["train/y"] = [0, 1]
    with pytest.raises(DataError, match="keeps its values in other files"):
        read(str(tmp_path / "virtual.h5"))


def test_trusted_links_are_followed(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(6, 2)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["x"], file["y"], file["group/x"], file["group/y"] = values, np.arange(6) % 2, values, np.arange(6) % 2
    with h5py.File(tmp_path / "view.h5", "w") as file:
        layout = h5py.VirtualLayout((6, 2), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "raw.h5"), "x", (6, 2))
        file.create_virtual_dataset("train/x", layout)
        file["train/y"] = h5py.ExternalLink("raw.h5", "/y")
        file["all"] = h5py.ExternalLink("raw.h5", "/group")
        file["lost/x"] = h5py.ExternalLink("raw.h5", "/nothing")
    path = str(tmp_path / "view.h5")
    for split in ("train", "all"):
        for ranks in (1, 3):
            data = run_threads(
                ranks, lambda comm, split=split: read_split(comm, [path], split, "x", "y", trust_links=True)
            )[0]
            np.testing.assert_array_equal(data.x, values)
            assert data.y.tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(DataError, match=r"all is a link; .*--trust-links"):
        read(path, split="all")
    with pytest.raises(DataError, match="lost/x is a link, and what it points to is not there"):
        read_split(OneProcess(), [path], "lost", "x", "y", trust_links=True)


def test_damaged_files_give_a_clear_error_or_their_data(tmp_path: Path) -> None:
    content = digits_path().read_bytes()
    rng = np.random.default_rng(1)
    damaged, refused = tmp_path / "damaged.h5", 0
    for attempt in range(300):
        changed = bytearray(content)
        if attempt % 3 == 0:
            del changed[int(rng.integers(len(changed))) :]
        for position in rng.integers(0, 4096, 4):
            if position < len(changed):
                changed[position] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(changed)
        with contextlib.suppress(DataError):  # anything else is a traceback to a user
            read(str(damaged), split="test")
            continue
        refused += 1
    assert refused > 100


def test_booleans_are_numbers_and_targets_have_columns(tmp_path: Path) -> None:
    data = read(write(tmp_path / "b.h5", np.array([[True, False], [False, True]]), [True, False]))
    assert data.x.tolist() == [[1, 0], [0, 1]]
    assert data.is_labelled
    with pytest.raises(DataError, match="train/y has no columns"):
        read(write(tmp_path / "none.h5", np.zeros((2, 1)), np.zeros((2, 0))))


@pytest.mark.parametrize("factor", [1e300, 1e60, 1e-60])
def test_columns_out_of_the_range_of_the_dtype_are_named(tmp_path: Path, factor: float) -> None:
    x = np.random.default_rng(0).standard_normal((20, 3))
    x[:, 1] *= factor
    path = write(tmp_path / "d.h5", x, np.arange(20) % 2)
    with pytest.raises(DataError, match=r"train/x, column 1: .*out of the range of float32.*--dtype float64"):
        train_on(2, configuration(path, tmp_path / "run", dtype="float32", validation_split=""))


def test_probabilities_of_every_split_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "d.h5", np.arange(6.0).reshape(3, 2), [[0.0], [0.5], [1.0]])
    write(Path(path), np.zeros((2, 2)), [[0.5], [50.0]], "test")
    with pytest.raises(DataError, match=r"test/y, row 1: \[50\.0\].*from 0 to 1"):
        train_on(1, configuration(path, tmp_path / "run", loss="binary_cross_entropy"))


def test_rows_of_an_array_type_and_names_that_are_none(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(20, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("train/x", (20,), np.dtype(("f4", (3,))))
        file["train/x"][...] = values
        file["train/y"] = np.arange(20) % 2
    np.testing.assert_array_equal(read(str(tmp_path / "a.h5")).x, values)
    for option in ("x", "y"):
        with pytest.raises(DataError, match=f"--{option} ' ,': expected the name of a data set"):
            read(str(tmp_path / "a.h5"), **{option: " ,"})


def test_inputs_that_could_not_be_shared_are_told_though_targets_could(tmp_path: Path) -> None:
    class Crowded(OneProcess):
        def node_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NodeArray:
            return NodeArray(np.empty(shape, dtype), 0, 1, "no room" if shape[1] == 4 else "")

    path = write_data(tmp_path / "d.h5", kind="targets")
    assert read_split(Crowded(), [path], "train", "x", "y").why_not_shared == "no room"


def test_single_rows_are_those_of_whole_blocks(tmp_path: Path) -> None:
    """Read from where they lie in the file: any byte order and width, fields of a table, after a user block."""
    rng, path = np.random.default_rng(0), str(tmp_path / "d.h5")
    table = np.zeros(50, np.dtype([("a", ">i2"), ("b", "f4", (2, 2)), ("flag", "?"), ("z", "u1")], align=True))
    table["a"], table["b"], table["flag"] = (
        rng.integers(-99, 99, 50),
        rng.normal(size=(50, 2, 2)),
        rng.integers(0, 2, 50),
    )
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["t/table"] = table
        file["t/image"] = rng.integers(0, 255, (50, 3, 5), np.uint8)
        file["t/big"] = rng.normal(size=(50, 2)).astype(">f8")
        file["t/half"] = rng.normal(size=50).astype(np.float16)
        file["t/flag"] = rng.integers(0, 2, 50).astype(bool)
        file["t/grid"] = np.zeros((50, 3), table.dtype)
        file.create_dataset("t/chunked", data=rng.normal(size=50), chunks=(5,))
        file.create_dataset("t/unwritten", (50,), "f4")
    for names in ("image", "big", "half", "flag", "table.a", "table.b,big,table.flag", "image,half"):
        layout = find([path], "t", names, None)
        assert layout.is_plain, names
        rows = np.array([0, 1, 2, 7, 30, 31, 49])
        whole, some = (np.empty((count, layout.width("x")), layout.dtype("x")) for count in (50, 7))
        with Reader(layout) as reader:
            reader.read("x", 0, 50, whole)
            reader.read_rows("x", rows, some)
        np.testing.assert_array_equal(some, whole[rows], err_msg=names)
    for names in ("chunked", "unwritten", "grid.a", "image,chunked"):
        assert not find([path], "t", names, None).is_plain, names


def test_a_row_beyond_the_end_of_a_truncated_file(tmp_path: Path) -> None:
    path = str(tmp_path / "d.h5")
    with h5py.File(path, "w") as file:
        file["t/x"] = np.arange(9000.0)
    layout = find([path], "t", "x", None)
    out, size = np.empty((1, 1)), os.path.getsize(path) - 10_000
    with Reader(layout) as reader:
        reader.read_rows("x", np.array([5]), out)
        os.truncate(path, size)
        reader.layout = replace(layout, parts=(replace(layout.parts[0], bytes=size),), changed={})
        with pytest.raises(DataError, match=r"t/x ends before row 8000; the file is truncated"):
            reader.read_rows("x", np.array([8000]), out)


def test_fields_of_a_wide_table_take_little_memory_and_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbp.data.reader.BLOCK_BYTES", 5000)
    table = np.zeros(300, [(f"f{i}", "f8" if i % 2 else ">i4") for i in range(60)])
    for i, name in enumerate(table.dtype.names):
        table[name] = np.arange(300) * (i + 1)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["plain"] = table
        file.create_dataset("packed", data=table, chunks=(70,), compression="gzip")
    chosen = [3, 4, 59, 4]
    whole = np.stack([np.arange(300.0) * (i + 1) for i in chosen], axis=1)
    for split in ("plain", "packed"):
        layout = find([str(tmp_path / "d.h5")], split, ",".join(f"f{i}" for i in chosen), None)
        found, sizes = np.empty((300, 4)), []
        read_into = os.preadv

        def counted(descriptor: int, buffers: Any, at: int, sizes: Any = sizes, read_into: Any = read_into) -> int:
            sizes.append(len(buffers[0]))
            return int(read_into(descriptor, buffers, at))

        with Reader(layout) as reader, monkeypatch.context() as patched:
            patched.setattr(os, "preadv", counted)
            reader.read("x", 0, 300, found)
            np.testing.assert_array_equal(found, whole)
            if split == "plain":
                assert max(sizes) <= 5000
                assert sum(sizes) <= table.nbytes  # each row once
                rows = np.array([0, 1, 7, 8, 9, 250, 299])
                reader.read_rows("x", rows, found[:7])
                np.testing.assert_array_equal(found[:7], whole[rows])


def test_a_pipe_is_no_data_set(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(DataError, match=r"pipe\.h5: is a pipe or a device; expected a file"):
        read(str(tmp_path / "pipe.h5"))


def test_the_column_of_a_missing_value_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "d.h5")
    with h5py.File(path, "w") as file:
        for name in ("a", "b", "c"):
            file[f"train/{name}"] = np.arange(9.0)
        file["train/b"][7] = np.nan
        file["train/y"] = np.arange(9) % 2
    with pytest.raises(DataError, match=r"d\.h5: train/b, row 7: nan in the data"):
        read(path, x="a,b,c")


def test_a_virtual_data_set_without_its_sources(tmp_path: Path) -> None:
    """HDF5 would give its fill value in silence."""
    layout = h5py.VirtualLayout((20, 2), "f8")
    layout[:10] = h5py.VirtualSource("here.h5", "x", (10, 2))
    layout[10:] = h5py.VirtualSource("gone.h5", "x", (10, 2))
    for name in ("here", "gone"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.ones((10, 2))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("train/x", layout)
        file["train/y"] = np.arange(20) % 2
    path = str(tmp_path / "v.h5")
    assert (read_split(OneProcess(), [path], "train", "x", "y", trust_links=True).x == 1).all()
    os.remove(tmp_path / "gone.h5")
    with pytest.raises(DataError, match=r"train/x takes values from gone\.h5, which is not there"):
        read_split(OneProcess(), [path], "train", "x", "y", trust_links=True)


def test_ranks_that_predict_read_their_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d.h5", np.zeros((4000, 4)), np.arange(4000) % 2)
    spans: list[tuple[int, int]] = []
    read_rows = Reader.read

    def counted(reader: Reader, of: str, start: int, stop: int, out: Any) -> None:
        spans.append((start, stop))
        read_rows(reader, of, start, stop, out)

    def work(comm: Any) -> None:
        data = read_split(comm, [path], "train", "x", None, memory=0)
        spans.clear()
        comm.allgather(None)
        start, end = 1000 * comm.rank, 1000 * (comm.rank + 1)
        for first in range(start, end, 100):
            data.read(first, first + 100, end)

    monkeypatch.setattr(Reader, "read", counted)
    run_threads(4, work)
    assert sorted(spans) == [(0, 1000), (1000, 2000), (2000, 3000), (3000, 4000)]
