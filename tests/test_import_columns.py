"""Which columns `distbp import` takes, and under which names they are kept; nothing is guessed without a word."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_table import FakeTable, read, write
from runs import configuration, train_on

from distbp.data.names import Name
from distbp.errors import DataError, UsageError
from distbp.tables.import_data import ImportOptions, import_data
from distbp.tables.like import Like
from distbp.tables.table import TableColumn

N = 12
A, B = np.linspace(0, 3, N) ** 2, np.cos(np.arange(N))
KIND = np.array(["u", "v"] * 6, object)


def test_names_and_units_are_kept(tmp_path: Path) -> None:
    about = [TableColumn("flow", "m/s", ("east", "north")), TableColumn("p", "Pa")]
    table = FakeTable({"flow": np.column_stack([A, B]), "p": A, "label": KIND}, about=about)
    done = write(tmp_path / "o.h5", table)
    found = read(tmp_path / "o.h5")
    assert found["train/x columns"] == ["east", "north", "p"]
    assert found["train/x units"] == ["m/s", "m/s", "Pa"]
    assert found["train/y columns"] == ["label"]
    assert done.notes[0] == "inputs: flow, p; y: label"
    write(tmp_path / "a.h5", FakeTable({"x": np.column_stack([A, B]), "y": KIND}))
    assert "train/x columns" not in read(tmp_path / "a.h5")  # x[0], x[1] would be no names


def test_as_many_names_as_there_are(tmp_path: Path) -> None:
    names = tuple(f"gene of the chromosome number {i}" for i in range(5000))
    x = np.zeros((3, 5000), np.float32)
    write(tmp_path / "o.h5", FakeTable({"x": x, "y": KIND[:3]}, about=[TableColumn("x", names=names)]))
    assert read(tmp_path / "o.h5")["train/x columns"] == list(names)


def test_where_x_is_there_it_is_x(tmp_path: Path) -> None:
    x = np.column_stack([A, B])
    table = FakeTable({"x": x, "ids": np.arange(N), "y": KIND, "sample_weight": A, "label": KIND})
    done = write(tmp_path / "o.h5", table)
    np.testing.assert_array_equal(read(tmp_path / "o.h5")["train/x"], x)
    assert done.notes[0] == (
        "inputs: x; y: y; left out: sample_weight (weights of the samples), ids (x is there), label (x is there)"
    )
    done = write(tmp_path / "p.h5", FakeTable({"x": [str(a) for a in A], "y": KIND.tolist()}))
    assert done.width == 1


@pytest.mark.parametrize("is_text", [False, True])
def test_coordinates_are_asked_about(tmp_path: Path, is_text: bool) -> None:
    columns: dict[str, Any] = {"x": A, "y": B, "z": A + 1, "mass": B + 1}
    if is_text:
        columns = {name: [str(value) for value in values] for name, values in columns.items()}
    with pytest.raises(UsageError, match=r"x and y stand beside z, mass.*--x, and the labels or targets with --y"):
        write(tmp_path / "o.h5", FakeTable(columns))
    done = write(tmp_path / "o.h5", FakeTable(columns), y=("mass",), drop=("z",))
    assert done.notes[0] == "inputs: x, y; y: mass; left out: z (--drop)"
    with pytest.raises(UsageError, match="x and y stand beside image"):
        write(tmp_path / "p.h5", FakeTable({"x": A, "y": B, "image": np.ones((N, 4))}))
    marked = [TableColumn("x", not_data="a dimension scale"), TableColumn("y", not_data="a dimension scale")]
    with pytest.raises(UsageError, match=r"there are x \(a dimension scale\), y \(a dimension scale\), image"):
        write(tmp_path / "p.h5", FakeTable({"x": A, "y": B, "image": np.ones((N, 4))}, about=marked))


def test_an_index_is_no_input(tmp_path: Path) -> None:
    rows = [str(i) for i in range(N)]
    values = [f"{a:.6f}" for a in A]
    for name in ("", "Unnamed: 0", "__index_level_0__"):
        done = write(tmp_path / "o.h5", FakeTable({name: rows, "a": values, "label": KIND.tolist()}))
        assert done.width == 1
        assert "left out" in done.notes[0]
        assert "an index" in done.notes[0]
    pandas = [TableColumn("row", not_data="index of pandas")]
    done = write(tmp_path / "o.h5", FakeTable({"row": np.arange(N), "a": A, "label": KIND}, about=pandas))
    assert done.notes[0] == "inputs: a; y: label; left out: row (index of pandas)"
    done = write(tmp_path / "o.h5", FakeTable({"row": np.arange(N), "a": A, "label": KIND}, about=pandas), x=("row",))
    assert done.width == 1
    assert read(tmp_path / "o.h5")["train/x"][:, 0].tolist() == list(range(N))


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (np.arange(N), "n counts the rows"),
        (np.arange(1.0, N + 1), "n counts the rows"),
        (7 - 0.5 * np.arange(N), "n follows the row number"),
        (np.float32(0.1) * np.arange(N, dtype=np.float32), "n follows the row number"),
        (np.round(np.arange(N) / 3, 3), "n follows the row number"),
        (np.arange(N) // 2, ""),
        (np.full(N, 3), ""),
        (np.append(np.arange(N - 1), 3), ""),
    ],
)
def test_what_follows_the_row_number_is_warned_of(tmp_path: Path, values: np.ndarray, warning: str) -> None:
    for table in (
        FakeTable({"a": B, "n": values, "label": KIND}),
        FakeTable({"a": B, "n": values, "label": KIND}, block=100),
        FakeTable(
            {"x": np.column_stack([B, values, B]), "label": KIND}, about=[TableColumn("x", names=("a", "n", "b"))]
        ),
    ):
        notes = [note for note in write(tmp_path / "o.h5", table).notes if note.startswith("warning")]
        assert len(notes) == bool(warning)
        assert not warning or notes[0].startswith(f"warning: {warning}")


def test_rows_of_several_tables_are_counted_anew(tmp_path: Path) -> None:
    tables = [FakeTable({"a": B, "n": np.arange(N), "label": KIND}, name=name) for name in "pq"]
    assert any("n counts the rows" in note for note in write(tmp_path / "o.h5", *tables).notes)
    tables = [FakeTable({"a": B[:2], "n": A[:2] + i, "label": KIND[:2]}, name=str(i)) for i in range(9)]
    assert not any("warning" in note for note in write(tmp_path / "o.h5", *tables).notes)  # 2 rows are always a line


def test_many_columns_are_shortened(tmp_path: Path) -> None:
    columns = {f"c{i:02}": B + i for i in range(30)}
    done = write(tmp_path / "o.h5", FakeTable({**columns, "label": KIND}))
    assert done.notes[0].startswith("inputs: c00, c01, ")
    assert "c17, … c29 (30 in all); y: label" in done.notes[0]


def test_columns_that_cannot_be_meant(tmp_path: Path) -> None:
    table = FakeTable({"a": A, "b": B, "label": KIND})
    for options, message in (
        ({"x": ("a", "label"), "y": ("label",)}, "label is in --x and in --y"),
        ({"x": ("a", "a")}, "--x: names a 2 times"),
        ({"y": ("label", "label")}, "--y: names label 2 times"),
        ({"drop": ("c",)}, "no column 'c'"),
        ({"drop": ("a",), "x": ("a", "b")}, "--drop a: is named as --x or --y too"),
        ({"drop": ("label",), "y": ("label",)}, "--drop label: is named as --x or --y too"),
        ({"drop": ("a", "b")}, "no column is left for the inputs beside label"),
        ({"x": ("a",), "categorical": ("b",)}, "--categorical b: is not among the inputs"),
        ({"unlabelled": True, "x": (Name("a[0]", quoted=True),)}, r"no column 'a\[0\]'"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            write(tmp_path / "o.h5", table, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_table_without_labels(tmp_path: Path) -> None:
    done = write(tmp_path / "o.h5", FakeTable({"a": A, "label": KIND, "b": B}), unlabelled=True)
    assert (done.width, done.y) == (2, "without labels or targets")
    assert "label (--unlabelled)" in done.notes[0]
    assert sorted(read(tmp_path / "o.h5")) == ["train/x", "train/x columns"]


def test_labels_from_other_tables(tmp_path: Path) -> None:
    """Their blocks need not be as long as those of the inputs."""
    inputs = [FakeTable({"a": A[:5], "b": B[:5]}), FakeTable({"a": A[5:], "b": B[5:]})]
    labels = [FakeTable({"0": KIND.tolist()}, block=5)]
    write(tmp_path / "o.h5", *inputs, labels=labels)
    found = read(tmp_path / "o.h5")
    np.testing.assert_array_equal(found["train/x"], np.column_stack([A, B]))
    assert found["train/y"].tolist() == KIND.tolist()
    with pytest.raises(DataError, match="11 rows of labels or targets, and 12 of inputs"):
        write(tmp_path / "p.h5", *inputs, labels=[FakeTable({"0": KIND.tolist()[:11]})])
    with pytest.raises(UsageError, match="has label, and --y-from is there too"):
        write(tmp_path / "p.h5", FakeTable({"a": A, "label": KIND}), labels=labels)


def like(monkeypatch: pytest.MonkeyPatch, x: tuple[str, ...], y: tuple[str, ...] = (), labels: Any = None) -> None:
    monkeypatch.setattr("distbp.tables.import_data.names_of", lambda checkpoint: Like(checkpoint, x, y, labels))


def test_inputs_as_a_network_knows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like(monkeypatch, ("b", "kind=v", "kind=u", "a"), ("label",), ("no", "yes"))
    table = FakeTable({"a": A, "extra": A, "kind": KIND, "label": np.array(["no", "yes"] * 6, object), "b": B})
    done = write(tmp_path / "o.h5", table, like="run")
    found = read(tmp_path / "o.h5")
    np.testing.assert_array_equal(found["train/x"], np.column_stack([B, KIND == "v", KIND == "u", A]))
    assert found["train/x columns"] == ["b", "kind=v", "kind=u", "a"]
    assert "extra (no input of run)" in done.notes[0]
    strange = FakeTable({"a": A, "kind": np.append(KIND[:-1], "w"), "label": KIND, "b": B})
    with pytest.raises(
        DataError, match=r"fake, row 11: column 'kind' is 'w', which is none of the values of run: 'v', 'u'"
    ):
        write(tmp_path / "p.h5", strange, like="run")
    with pytest.raises(
        DataError, match=r"run has inputs that are not there: b; its inputs are b, kind=v, kind=u, a, and"
    ):
        write(tmp_path / "p.h5", FakeTable({"a": A, "kind": KIND, "label": KIND}), like="run")
    with pytest.raises(DataError, match=r"has the target label, which is not there.*--unlabelled"):
        write(tmp_path / "p.h5", FakeTable({"a": A, "kind": KIND, "b": B}), like="run")
    assert write(tmp_path / "p.h5", FakeTable({"a": A, "kind": KIND, "b": B}), like="run", unlabelled=True).width == 4


def test_columns_of_arrays_as_a_network_knows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like(monkeypatch, ("flow[1]", "north", "flow[0]"))
    about = [TableColumn("wind", names=("east", "north"))]
    table = FakeTable({"flow": np.column_stack([A, B]), "wind": np.column_stack([A + 1, B + 1])}, about=about)
    write(tmp_path / "o.h5", table, like="run", unlabelled=True)
    np.testing.assert_array_equal(read(tmp_path / "o.h5")["train/x"], np.column_stack([B, B + 1, A]))


def test_y_is_what_the_network_has_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.arange(N) % 3 / 1.0
    for labels, wanted in ((None, [[v] for v in y]), ((0, 1, 2), y.tolist())):
        like(monkeypatch, ("a",), ("t",), labels)
        write(tmp_path / "o.h5", FakeTable({"a": A, "t": y}), like="run", overwrite=True)
        assert read(tmp_path / "o.h5")["train/y"].tolist() == wanted


def test_names_come_from_a_checkpoint(tmp_path: Path) -> None:
    """Another table, its columns in another order, and without labels: what the network makes of it is the same."""
    (tmp_path / "a.csv").write_text(
        "a,k,label\n" + "".join(f"{i * i % 7},{'uvw'[i % 3]},{['no', 'yes'][i % 2]}\n" for i in range(24))
    )
    import_data([str(tmp_path / "a.csv")], [], tmp_path / "a.h5", ImportOptions())
    run = train_on(1, configuration(str(tmp_path / "a.h5"), tmp_path / "run", epochs=1))
    assert run.problem.columns.x == ("a", "k=u", "k=v", "k=w")
    (tmp_path / "b.csv").write_text("k,extra,a\nw,3,1\nu,4,2\n")
    import_data(
        [str(tmp_path / "b.csv")], [], tmp_path / "b.h5", ImportOptions(like=str(tmp_path / "run"), unlabelled=True)
    )
    found = read(tmp_path / "b.h5")
    assert found["train/x"].tolist() == [[1, 0, 0, 1], [2, 1, 0, 0]]
    assert found["train/x columns"] == ["a", "k=u", "k=v", "k=w"]
    write(tmp_path / "c.h5", FakeTable({"x": np.column_stack([A, B]), "y": KIND}))
    train_on(1, configuration(str(tmp_path / "c.h5"), tmp_path / "other", epochs=1))
    with pytest.raises(UsageError, match="inputs without names"):
        import_data([str(tmp_path / "b.csv")], [], tmp_path / "d.h5", ImportOptions(like=str(tmp_path / "other")))


def test_the_same_file_twice(tmp_path: Path) -> None:
    def refused(message: str, train: tuple[str, ...], *test: str, **options: Any) -> None:
        with pytest.raises(UsageError, match=message):
            import_data(
                [str(tmp_path / name) for name in train],
                [str(tmp_path / name) for name in test],
                tmp_path / "o.h5",
                ImportOptions(**options),
            )

    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("p,y\n" + "".join(f"{i * i},{i % 2}\n" for i in range(9)))
    os.symlink(tmp_path / "a.csv", tmp_path / "link.csv")
    os.link(tmp_path / "b.csv", tmp_path / "hard.csv")
    refused("a.csv: is named twice", ("a.csv", "a.csv"))
    refused("link.csv: is the same file as .*a.csv", ("[al]*.csv",))
    refused("link.csv: is the same file as .*a.csv", ("a.csv", "link.csv"))
    refused("hard.csv: is the same file as .*b.csv", ("b.csv", "hard.csv"))
    refused("--test .*a.csv: is a source of the training rows too; a test", ("a.csv",), "a.csv")
    refused(r"--test .*link.csv: is a source of the training rows too \(.*a.csv\)", ("b.csv", "a.csv"), "link.csv")
    refused("--y-from: 1 sources .* 1 for training and 1 for testing", ("a.csv",), "b.csv", y_from=("no.csv",))


@pytest.mark.parametrize("name", ["o.csv", "o.npy", "o.parquet", "o.json", "o.h5.gz", "o.TXT", "o.tsv", "o.mat"])
def test_the_name_of_the_file_says_its_format(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text("p,y\n1,0\n2,1\n")
    with pytest.raises(UsageError, match=r"is written in HDF5, and .* files are .*; expected a name that ends in \.h5"):
        import_data([str(tmp_path / "a.csv")], [], tmp_path / name, ImportOptions())


class Knowing(FakeTable):
    """A table that tells more of a column that is asked for, as that of an HDF5 file does."""

    def column(self, name: str) -> TableColumn:
        return replace(super().column(name), units="K", notes=("unpacked",))


def test_a_column_is_known_by_its_name(tmp_path: Path) -> None:
    for options in ({"y": ("t",)}, {"x": ("a", "b"), "y": ("t",)}, {"y": ("t",), "drop": ("b",)}):
        done = write(tmp_path / "o.h5", Knowing({"a": A, "b": B, "t": A + B}), overwrite=True, **options)
        assert done.width == 2 - ("drop" in options)
        assert "t: unpacked" in done.notes
        assert read(tmp_path / "o.h5")["train/y units"] == ["K"]
    with pytest.raises(UsageError, match="b is in --x and in --y"):
        write(tmp_path / "p.h5", Knowing({"a": A, "b": B}), x=("a", "b"), y=("b",))
    with pytest.raises(UsageError, match="--drop b: is named as --x or --y too"):
        write(tmp_path / "p.h5", Knowing({"a": A, "b": B}), drop=("b",), y=("b",))


def test_text_is_parsed_once_where_there_is_room(tmp_path: Path) -> None:
    class Counting(FakeTable):
        readings = 0

        def blocks(self, names: Any, text: Any = frozenset()) -> Any:
            Counting.readings += len(names) > 1
            return super().blocks(names, text)

    columns = {"a": [f"{a:.4f}" for a in A], "k": KIND.tolist(), "y": ["0", "1"] * 6}
    wanted = None
    for memory, readings in ((0.0, 1), (1e-6, 2)):
        Counting.readings = 0
        write(tmp_path / "o.h5", Counting(columns), memory=memory, overwrite=True)
        assert Counting.readings == readings
        found = read(tmp_path / "o.h5")["train/x"]
        np.testing.assert_array_equal(found, found if wanted is None else wanted)
        wanted = found
