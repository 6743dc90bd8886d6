"""Data sets: what is read, and what is refused with a message that helps."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import configuration, train_on, write_data

from distbp.communicator import OneProcess, run_threads
from distbp.data import class_count, digits_path, read_split
from distbp.errors import DataError, DistbpError


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
    with pytest.raises(DataError, match=r"no data set train/labels; those in train are: x, y \(see --x and --y\)"):
        read(data_file, y="labels")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "train/x has 3 rows and train/y has 2"),
        (np.zeros((0, 2)), np.zeros(0, int), "train/x is empty"),
        (np.zeros((2, 0)), [0, 1], "no columns"),
        (np.array([b"a", b"b"]), [0, 1], "expected integers or real numbers"),
        (np.zeros((2, 2)), np.array([b"a", b"b"]), "train/y is of type"),
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
        ([0, 1, -1], "row 2: label -1; class labels are 0, 1, 2"),
        ([4, 4, 4], "all 3 labels are 4"),
        ([0, 1, 10**9], "row 2: label 1000000000 among 3 samples"),
    ],
)
def test_labels_are_refused(tmp_path: Path, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_count(read(write(tmp_path / "d.h5", np.zeros((3, 1)), labels)))


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cross_entropy"}, "needs class labels, which are integers; for regression use --loss mse"),
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


def test_files_that_do_not_agree(tmp_path: Path) -> None:
    first = write(tmp_path / "1.h5", np.zeros((4, 2)), [0, 1, 0, 1])
    second = write(tmp_path / "2.h5", np.zeros((4, 3)), [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"2\.h5: train/x has rows of shape \(3,\)"):
        read(first, second)


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
