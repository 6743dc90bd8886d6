"""Files that people bring: what is read from them is what was put in, and what would be a guess is refused or told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import configuration

from distbp.data.problem import pose
from distbp.data.row_numbers import RowNumbers
from distbp.data.split import read_split
from distbp.data.survey import Survey, look
from distbp.data.unmarked_missing import unmarked_missing
from distbp.errors import DataError, UsageError
from distbp.inspection.data_inspection import View
from distbp.inspection.file_inspection import describe
from distbp.ranks.communicator import OneProcess
from distbp.tables.choice import words
from distbp.tables.import_data import Imported, ImportOptions, import_data

RNG = np.random.default_rng(5)
N = 30
X = RNG.normal(size=(N, 4))
LEAST = -(2**31)


def write(path: Path, **columns: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name.replace("__", "/")] = values
    return str(path)


def surveyed(data: str, **options: Any) -> Survey:
    return look(configuration(data, "run", **options), [data])


def imported(source: str, out: Path, **options: Any) -> tuple[Imported, Any, Any]:
    """What was said, x and y of the split "train", or of the first one."""
    for name in ("x", "y", "categorical"):
        options[name] = words(options.get(name, ""), f"--{name}")
    done = import_data([source], [], out, ImportOptions(**options))
    with h5py.File(out) as file:
        group = file["train"] if "train" in file else file[next(iter(file))]
        return done, group["x"][()], group["y"][()]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ("a[:, 0:3]", "a[:, 2]", "what is to be learnt would be an input"),
        ("a", "a[:, 1]", "what is to be learnt would be an input"),
        ("a[:, 0:2],a[:, 1:3]", "t", "--x: .* have numbers in common"),
        ("a[:, 0:4:2]", "a[:, 2:3]", "what is to be learnt would be an input"),
    ],
)
def test_names_that_share_numbers(tmp_path: Path, x: str, y: str, words: str) -> None:
    data = write(tmp_path / "a.h5", a=X, t=X[:, 0])
    with pytest.raises(UsageError, match=words):
        surveyed(data, x=x, y=y)
    with pytest.raises(UsageError, match=words):
        imported(data, tmp_path / "o.h5", x=x, y=y)


@pytest.mark.parametrize(("x", "y"), [("a[:, 0:3]", "a[:, 2]"), ("a", "a[:, 1]"), ("a[:, -1]", "a[:, 3]")])
def test_names_that_share_numbers_in_an_archive(tmp_path: Path, x: str, y: str) -> None:
    np.savez(tmp_path / "a.npz", a=X, t=X[:, 0])
    with pytest.raises(UsageError, match="what is to be learnt would be an input"):
        imported(str(tmp_path / "a.npz"), tmp_path / "o.h5", x=x, y=y)
    _, inputs, targets = imported(str(tmp_path / "a.npz"), tmp_path / "o.h5", x="a[:, 0:3]", y="a[:, 3]")
    np.testing.assert_array_equal(inputs, X[:, 0:3])
    np.testing.assert_array_equal(targets, X[:, 3:])


@pytest.mark.parametrize(
    "words", [("x_train", "y_train", "x_test", "y_test"), ("train_x", "train_y", "test_x", "test_y")]
)
def test_parts_by_the_names_of_arrays(tmp_path: Path, words: tuple[str, str, str, str]) -> None:
    """As in NPZ files, and in HDF5 files that were made of these."""
    labels = np.arange(N) % 2
    arrays = dict(zip(words, (X, labels, X[:10] + 1, labels[:10]), strict=True))
    data = write(tmp_path / "p.h5", **arrays, names=np.array([b"cat", b"dog"]))
    imported(data, tmp_path / "o.h5")
    with h5py.File(tmp_path / "o.h5") as file:
        assert set(file) == {"train", "test"}
        np.testing.assert_array_equal(file["train/x"], X)
        np.testing.assert_array_equal(file["test/x"], X[:10] + 1)
        np.testing.assert_array_equal(file["test/y"], labels[:10])
    done, x, _ = imported(data, tmp_path / "o.h5", x="x[:, 1:3]", y="y", overwrite=True)
    np.testing.assert_array_equal(x, X[:, 1:3])
    assert list(done.splits) == ["train", "test"]
    done, x, _ = imported(data, tmp_path / "o.h5", x=words[0], y=words[1], overwrite=True)  # as the file has them
    np.testing.assert_array_equal(x, X)
    assert list(done.splits) == ["train"]
    with pytest.raises(UsageError, match="parts train, test, distbp import makes a split of each"):
        surveyed(data)


@pytest.mark.parametrize("chunks", [None, (2, 4)])
@pytest.mark.parametrize("soft", [False, True])
def test_one_data_set_of_two_names(tmp_path: Path, chunks: tuple[int, int] | None, soft: bool) -> None:
    """By a hard link, or by a link that is trusted: an identity would be learnt."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=chunks)
        file["y"] = h5py.SoftLink("/x") if soft else file["x"]
    with pytest.raises(UsageError, match="x in --x and y in --y have numbers in common"):
        surveyed(str(tmp_path / "a.h5"), trust_links=soft)
    with pytest.raises(UsageError, match="x in --x and y in --y have numbers in common"):
        imported(str(tmp_path / "a.h5"), tmp_path / "o.h5", x="x", y="y", trust_links=soft)
    part = surveyed(str(tmp_path / "a.h5"), x="x[:, :3]", y="y[:, 3]", trust_links=soft).training
    assert (part.width("x"), part.width("y")) == (3, 1)


@pytest.mark.parametrize(
    ("x", "y", "inputs", "targets"),
    [
        ("a[:, 0:4:2]", "a[:, 1]", X[:, 0:4:2], X[:, 1:2]),
        ("a[:-1]", "a[1:]", X[:-1], X[1:]),
        ("a[:, :2]", "a[:, 2:]", X[:, :2], X[:, 2:]),
    ],
)
def test_names_that_share_none(tmp_path: Path, x: str, y: str, inputs: Any, targets: Any) -> None:
    """Also a step in time, and the one behind it."""
    data = write(tmp_path / "a.h5", a=X)
    _, found, learnt = imported(data, tmp_path / "o.h5", x=x, y=y)
    np.testing.assert_array_equal(found, inputs)
    np.testing.assert_array_equal(learnt, targets)
    assert surveyed(data, x=x, y=y).training.rows == len(found)


def test_coordinates_of_another_length_are_coordinates(tmp_path: Path) -> None:
    """The axes x, y and time of a simulation are not data, though x and y are equally long."""
    axes = {f"dimensions__{name}": np.linspace(0, 1, length) for name, length in (("x", 8), ("y", 8), ("time", 6))}
    data = write(tmp_path / "well.h5", t0_fields__pressure=np.zeros((5, 6, 8, 8)), **axes)
    with pytest.raises(UsageError, match="beside them are time: they may be coordinates"):
        surveyed(data, split="dimensions")
    assert "refused: dimensions: x and y hold one number a row each" in "\n".join(describe(data, View()))


def test_an_index_of_pandas_is_no_input_of_training(tmp_path: Path) -> None:
    table = np.zeros(N, [("index", "i8"), ("temp", "f8"), ("y", "i8")])
    table["index"], table["temp"], table["y"] = np.arange(N), X[:, 0], np.arange(N) % 2
    data = write(tmp_path / "store.h5", readings__table=table)
    with h5py.File(data, "a") as file:
        file["readings"].attrs["pandas_type"] = "frame_table"
    survey = surveyed(data, split="readings/table")
    assert survey.training.x_name == "temp"
    assert "index (index of pandas)" in "\n".join(survey.notes)


def test_rows_of_matlab_are_counted_as_matlab_has_them(tmp_path: Path) -> None:
    """A matrix and a column: in the file both have their axes reversed, and other first axes."""
    data = write(tmp_path / "m.mat", X=X.T, y=(np.arange(N) % 3).astype("u1")[None, :])
    with h5py.File(data, "a") as file:
        for name in ("X", "y"):
            file[name].attrs["MATLAB_class"] = np.bytes_("double" if name == "X" else "uint8")
    survey = surveyed(data)
    assert (survey.training.x_name, survey.training.rows, survey.training.width("x")) == ("X", N, 4)


@pytest.mark.parametrize("name", ["x", "data"])
def test_turned_over_inputs_are_told_with_the_way_out(tmp_path: Path, name: str) -> None:
    data = write(tmp_path / "r.h5", **{name: X.T, "y": np.arange(N) % 2})
    with pytest.raises(DataError, match=rf"{name} has 4 rows and y has {N}.* write '{name}\[:, samples\]'"):
        surveyed(data)
    assert surveyed(data, x=f"{name}[:, samples]").training.rows == N


def test_few_rows_of_wide_matrices(tmp_path: Path) -> None:
    data = write(tmp_path / "r.h5", x=X.T, y=2 * X.T)
    told = r"x and y have 4 rows of 30 numbers: files of R"
    assert any(told in note for note in surveyed(data).notes)
    done, _, _ = imported(data, tmp_path / "o.h5")
    assert any(told in note for note in done.notes)
    straight = write(tmp_path / "s.h5", x=X, y=2 * X)
    assert not any("files of R" in note for note in surveyed(straight).notes)


def test_blocks_of_one_row_follow_no_row_number() -> None:
    random, counting = RowNumbers(), RowNumbers()
    for row in range(N):
        random.add(X[row : row + 1])
        counting.add(np.array([[row, 3.0 + row / 7]]))
    assert random.found() == {}
    assert counting.found() == {0: "counts the rows", 1: "follows the row number"}


def test_each_group_a_sample_is_no_row_number(tmp_path: Path) -> None:
    groups = {f"s{i:02d}__{name}": X[i] * k for i in range(N) for name, k in (("a", 1), ("b", 2))}
    data = write(tmp_path / "g.h5", **groups)
    done, x, y = imported(data, tmp_path / "o.h5", x="*/a", y="*/b", each=True)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, 2 * X)
    assert not any("row number" in note for note in done.notes)


@pytest.mark.parametrize(("of", "told"), [("x", "'x' has -2147483648"), ("y", "a class is -2147483648")])
def test_the_least_integer_is_told(tmp_path: Path, of: str, told: str) -> None:
    """R's NA without a mark: R writes it as the least number of int32."""
    columns = {"x": np.arange(N, dtype="i4") % 7, "y": np.arange(N, dtype="i4") % 2}
    columns[of][4] = LEAST
    data = write(tmp_path / "r.h5", train__x=columns["x"], train__y=columns["y"])
    split = read_split(OneProcess(), [data], "train", x="x", y="y")
    _, problem = pose(OneProcess(), configuration(data, "run", task="classes"), split)
    found = unmarked_missing(OneProcess(), split, problem.input)
    assert len(found) == 1
    assert told in found[0].replace("column 0", "'x'")
    done, _, _ = imported(data, tmp_path / "o.h5", task="classes")
    assert any(f"warning: {of} has {LEAST}" in note and "row 4" in note for note in done.notes)


def test_a_class_called_nan_is_told(tmp_path: Path) -> None:
    data = write(tmp_path / "n.h5", train__x=X, train__y=np.array([b"u", b"nan", b"v"] * 10))
    split = read_split(OneProcess(), [data], "train", x="x", y="y")
    _, problem = pose(OneProcess(), configuration(data, "run"), split)
    (told,) = unmarked_missing(OneProcess(), split, problem.input)
    assert "a class is 'nan'" in told
    plain = write(tmp_path / "p.h5", train__x=X, train__y=np.array([b"u", b"w", b"v"] * 10))
    split = read_split(OneProcess(), [plain], "train", x="x", y="y")
    assert unmarked_missing(OneProcess(), split, problem.input) == []


def test_why_the_split_test_is_not_used(tmp_path: Path) -> None:
    data = write(tmp_path / "t.h5", train__x=X, train__y=np.arange(N) % 2, test__x=X)
    survey = surveyed(data)
    assert survey.validation is None
    assert any("the split test is not used: no data set test/y" in note for note in survey.notes)
    other = write(tmp_path / "v.h5", train__x=X, train__y=np.arange(N) % 2, val__x=X, val__y=np.arange(N) % 2)
    assert any("--validation-split val" in note for note in surveyed(other).notes)


def test_numbers_with_a_decimal_comma_are_no_categories(tmp_path: Path) -> None:
    source = tmp_path / "r.csv"
    source.write_text("a;y\n" + "".join(f"{i % 3},5;{i % 2}\n" for i in range(N)))
    with pytest.raises(DataError, match=r"'0,5', '1,5', '2,5'.*--decimal ,"):
        imported(str(source), tmp_path / "o.h5", y="y")
    _, x, _ = imported(str(source), tmp_path / "o.h5", y="y", decimal=",")
    assert x.ravel().tolist() == [i % 3 + 0.5 for i in range(N)]
    _, x, _ = imported(str(source), tmp_path / "o.h5", y="y", categorical="a", overwrite=True)
    assert x.shape == (N, 3)


def test_numbers_that_are_stored_as_text_are_no_categories(tmp_path: Path) -> None:
    data = write(tmp_path / "s.h5", train__x=np.array([b"1.5", b"2", b"7"] * 10), train__y=np.arange(N) % 2)
    with pytest.raises(DataError, match="stored as text: store them as numbers"):
        imported(data, tmp_path / "o.h5")
    _, x, _ = imported(data, tmp_path / "o.h5", categorical="x")
    assert x[:3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_name_that_is_deeper_in_the_file(tmp_path: Path) -> None:
    data = write(tmp_path / "d.h5", ignition__training__T=X[:, 0], ignition__training__tau=X[:, 1])
    with pytest.raises(DataError, match=r"no data set tau; .*; there is ignition/training/tau$"):
        imported(data, tmp_path / "o.h5", y="tau")
    with pytest.raises(DataError, match=r"there is ignition/training/tau \(see --y\)"):
        surveyed(data, x="ignition/training/T", y="tau")


@pytest.mark.parametrize(
    ("groups", "words"),
    [(("train", "test"), "train has no data sets; expected inputs"), ((), "has no data sets; expected inputs")],
)
def test_files_without_data(tmp_path: Path, groups: tuple[str, ...], words: str) -> None:
    data = write(tmp_path / "e.h5")
    with h5py.File(data, "a") as file:
        for group in groups:
            file.create_group(group)
    with pytest.raises(DataError, match=words):
        surveyed(data)
    assert "there are no data sets in it" in "\n".join(describe(data, View()))


def test_groups_that_are_no_split_of_their_own(tmp_path: Path) -> None:
    data = write(tmp_path / "s.h5", subject_1__x=X, subject_2__x=X)
    with pytest.raises(DataError, match=r"its groups are subject_1, subject_2. Take one of them with --split"):
        surveyed(data)


def test_a_coded_group_at_the_top_is_a_column_and_no_split(tmp_path: Path) -> None:
    """A sparse matrix of anndata: 3 numbers in the rows (0, 1), (2), ()."""
    parts = {"X__data": [1.0, 2.0, 3.0], "X__indices": [0, 1, 1], "X__indptr": [0, 2, 3, 3], "y": [0, 1, 0]}
    data = write(tmp_path / "a.h5ad", **{name: np.array(values) for name, values in parts.items()})
    with h5py.File(data, "a") as file:
        file["X"].attrs["encoding-type"], file["X"].attrs["shape"] = "csr_matrix", [3, 2]
    _, x, y = imported(data, tmp_path / "o.h5")
    assert x.tolist() == [[1, 2], [0, 3], [0, 0]]
    assert y.tolist() == [0, 1, 0]


def test_why_no_column_is_left(tmp_path: Path) -> None:
    data = write(tmp_path / "l.h5", train__signal=X.astype(np.complex128), train__y=np.arange(N) % 2)
    with pytest.raises(DataError, match=r"no column is left for the inputs beside y; there are signal \(.*complex"):
        imported(data, tmp_path / "o.h5")


def test_trusted_links_are_looked_at(tmp_path: Path) -> None:
    data = write(tmp_path / "l.h5", x=X, y=np.arange(N) % 2)
    with h5py.File(data, "a") as file:
        file["there"], file["nowhere"] = h5py.SoftLink("/x"), h5py.SoftLink("/none")
    assert "there  a link, not followed (see --trust-links)" in "\n".join(describe(data, View()))
    text = "\n".join(describe(data, View(trust_links=True)))
    assert f"there  ({N}, 4) float64, contiguous, behind a link" in text
    assert "nowhere  a link, and what it points to is not there" in text


def test_a_csv_to_train(tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_text("a,y\n1,0\n")
    with pytest.raises(DataError, match=r"d.csv: not an HDF5 file.*by distbp import .*d.csv --out data.h5"):
        surveyed(str(source))


def test_columns_of_another_length_are_left_out_alike(tmp_path: Path) -> None:
    """By train and by import: a mean and the names of classes beside the data."""
    few = {"train__mean": X[0], "train__names": np.array([b"a", b"b"])}
    data = write(tmp_path / "m.h5", train__images=X, train__labels=np.arange(N) % 2, **few)
    survey = surveyed(data)
    assert (survey.training.x_name, survey.training.y_name) == ("images", "labels")
    assert f"mean (4 rows, labels has {N})" in "\n".join(survey.notes)
    done, x, _ = imported(data, tmp_path / "o.h5")
    np.testing.assert_array_equal(x, X)
    assert f"mean (4 rows, where labels has {N})" in "\n".join(done.notes)


def test_x_is_never_left_out_for_its_length(tmp_path: Path) -> None:
    data = write(tmp_path / "r.h5", x=X.T, y=np.arange(N) % 2, z=X)
    with pytest.raises(DataError, match=rf"x has 4 rows and y has {N}"):
        surveyed(data)
    with pytest.raises(DataError, match=rf"x has 4 rows and y has {N}"):
        imported(data, tmp_path / "o.h5")


def test_classes_are_those_of_the_rows_that_stay(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("a,kind\n1,u\n2,v\n3,u\n,w\n")
    done, _, y = imported(str(source), tmp_path / "o.h5", y="kind", on_missing="drop")
    assert done.y == "2 classes of kind"
    assert y.tolist() == [b"u", b"v", b"u"]


def test_one_hot_classes_of_the_test_part_alone(tmp_path: Path) -> None:
    """As for labels in one column: the network never saw such a class."""
    flags = np.eye(3)
    arrays = {"x_train": X[:4], "y_train": flags[[0, 1, 0, 1]], "x_test": X[:2], "y_test": flags[[1, 2]]}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=r"row 1: the split test has labels that train never has: .*2"):
        imported(str(tmp_path / "a.npz"), tmp_path / "o.h5", task="classes")


def test_a_number_too_wide_for_its_field(tmp_path: Path) -> None:
    """Fortran writes stars, which are no name of a column, in the first row and in others."""
    for first, second in (("********", "3.0"), ("2.0", "********")):
        source = tmp_path / "f.txt"
        source.write_text(f"{first} 1.0 0\n 2.0 {second} 1\n 2.5 4.0 0\n 1.5 2.0 1\n")
        with pytest.raises(DataError, match=r"line [12] .*'\*{8}', expected a number \(the field was too narrow"):
            imported(str(source), tmp_path / "o.h5", y="2", overwrite=True)
        _, x, _ = imported(
            str(source), tmp_path / "o.h5", y="2", missing_words=("", "********"), on_missing="drop", overwrite=True
        )
        assert len(x) == 3


def test_advice_on_missing_values_fits_the_options(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("a,b,kind\n1,2,u\n2,,v\n3,4,u\n")
    with pytest.raises(DataError, match="such a column with --drop NAME"):
        imported(str(source), tmp_path / "o.h5", y="kind")
    with pytest.raises(DataError, match="such a column by not naming it in --x"):
        imported(str(source), tmp_path / "o.h5", x="a,b", y="kind")


@pytest.mark.parametrize("ending", ["h5", "npz"])
@pytest.mark.parametrize("name", ["x", "y"])
def test_x_and_y_of_no_number_are_refused(tmp_path: Path, ending: str, name: str) -> None:
    """Another column is left out with a word; without these nothing would be what the user meant."""
    arrays = {"x": X, "y": np.arange(N) % 2, "z": X[:, :2]} | {name: np.ones((N, 2) if name == "x" else N, complex)}
    path = str(tmp_path / f"c.{ending}")
    np.savez(path, **arrays) if ending == "npz" else write(Path(path), **arrays)
    with pytest.raises(DataError, match="complex"):
        imported(path, tmp_path / "o.h5")
    if ending == "h5":
        with pytest.raises(DataError, match=rf"{name} is complex"):
            surveyed(path)


def timed_table(path: Path) -> None:
    """A table with a column of HDF5's own times, for which NumPy has no type, as PyTables writes it."""
    table = h5py.h5t.create(h5py.h5t.COMPOUND, 28)
    for name, at, kind in (
        (b"a", 0, h5py.h5t.IEEE_F64LE),
        (b"when", 8, h5py.h5t.UNIX_D64LE),
        (b"b", 16, h5py.h5t.IEEE_F64LE),
        (b"y", 24, h5py.h5t.STD_I32LE),
    ):
        table.insert(name, at, kind)
    rows = np.zeros(N, [("a", "f8"), ("b", "f8"), ("y", "i4")])
    rows["a"], rows["b"], rows["y"] = X[:, 0], X[:, 1], np.arange(N) % 2
    with h5py.File(path, "w") as file:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((8,))
        events = h5py.h5d.create(file.id, b"events", table, h5py.h5s.create_simple((N,)), how)
        events.write(h5py.h5s.ALL, h5py.h5s.ALL, rows, h5py.h5t.py_create(rows.dtype))


def test_a_column_of_times_beside_others(tmp_path: Path) -> None:
    timed_table(tmp_path / "e.h5")
    data = str(tmp_path / "e.h5")
    survey = surveyed(data, split="events")
    assert survey.training.x_name == "a,b"
    assert "left out: when (of type H5T_TIME, which NumPy does not have)" in "\n".join(survey.notes)
    for x_name, y_name, splits in (("a,b", "y", ("events",)), ("", "events.y", ())):
        done, x, y = imported(data, tmp_path / "o.h5", overwrite=True, x=x_name, y=y_name, splits=splits)
        np.testing.assert_array_equal(x, X[:, :2])
        np.testing.assert_array_equal(y, np.arange(N) % 2)
    assert "when (events.when is of type H5T_TIME" in "\n".join(done.notes)
    with pytest.raises(DataError, match=r"events\.when is of type H5T_TIME"):
        surveyed(data, split="events", x="a,when", y="y")


@pytest.mark.parametrize("task", ["targets", "classes"])
def test_the_data_set_keeps_what_y_is(tmp_path: Path, task: str) -> None:
    """Told once, to import; train does not ask again, unless --loss says more."""
    source, data = tmp_path / "w.csv", str(tmp_path / "o.h5")
    source.write_text("a,quality\n" + "".join(f"{i},{i % 7 + 3}\n" for i in range(70)))
    imported(str(source), Path(data), y="quality", task=task)
    assert surveyed(data).config.task == task
    told = surveyed(data, loss="mse").config
    assert (told.task, told.loss) == ("auto", "mse")


def anndata(path: Path, x: Any, genes: list[str], layout: str) -> None:
    """Genes and cells as anndata writes them: X dense or sparse, var with the names of the genes."""
    with h5py.File(path, "w") as file:
        var = file.create_group("var")
        var.attrs["_index"], var["names"] = "names", np.array(genes, object)
        if layout == "csr":
            rows, columns = np.nonzero(x)
            group = file.create_group("X")
            group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", x.shape
            group["data"], group["indices"] = x[rows, columns], columns
            group["indptr"] = np.searchsorted(rows, np.arange(len(x) + 1))
        else:
            file["layers/counts" if layout == "layer" else "X"] = x
        file["obs/kind"] = (np.arange(len(x)) % 2).astype(np.int64)


@pytest.mark.parametrize("layout", ["dense", "layer", "csr"])
def test_genes_are_the_names_of_columns(tmp_path: Path, layout: str) -> None:
    genes, name = ["g0", "g1", "g2", "g3"], "layers/counts" if layout == "layer" else "X"
    anndata(tmp_path / "a.h5ad", X, genes, layout)
    assert surveyed(str(tmp_path / "a.h5ad"), x=name, y="obs/kind").training.names("x") == tuple(genes)
    part = surveyed(str(tmp_path / "a.h5ad"), x=f"{name}[:, 1:4:2]", y="obs/kind").training
    assert part.names("x") == ("g1", "g3")
    imported(str(tmp_path / "a.h5ad"), tmp_path / "o.h5", x=name, y="obs/kind")
    with h5py.File(tmp_path / "o.h5") as file:
        assert [one.decode() for one in file["train/x"].attrs["columns"]] == genes
    anndata(tmp_path / "b.h5ad", X, ["g0", "g1", "g1", "g3"], layout)  # not every file has names that differ
    assert surveyed(str(tmp_path / "b.h5ad"), x=name, y="obs/kind").training.names("x") == ()


def test_columns_of_a_frame_in_the_fixed_format(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["df/block0_values"], file["df/block0_items"] = X, np.array([b"p", b"q", b"r", b"s"])
        file["df/block1_values"], file["df/block1_items"] = np.arange(N)[:, None] % 2, np.array([b"lab"])
    found = surveyed(str(tmp_path / "f.h5"), split="df", x="block0_values", y="block1_values[:, 0]").training
    assert (found.names("x"), found.names("y")) == (("p", "q", "r", "s"), ("lab",))
