"""Missing values, categories, and the type that inputs are stored in: what `distbp import` decides is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_table import FakeTable, read, write

from distbp.errors import DataError, TooLargeError
from distbp.tables.import_data import ImportOptions, import_data

Y = ["0", "1"] * 6
KIND = ["u", "v"] * 6
NUMBERS = [f"{i * i / 7:.5f}" for i in range(12)]
REAL = np.array(NUMBERS, np.float64)


def with_gaps(values: list[str], *rows: int) -> list[str]:
    return ["NA" if i in rows else value for i, value in enumerate(values)]


def test_missing_values_are_refused_with_their_places(tmp_path: Path) -> None:
    columns = {"a": with_gaps(NUMBERS, 1, 5, 6, 9), "b": NUMBERS, "y": with_gaps(Y, 4)}
    with pytest.raises(
        DataError,
        match=r"missing: a: 4 values \(the first in fake, row 1 and fake, row 5 and fake, row 6\); "
        r"y: 1 value \(fake, row 4\); leave out such rows with --on-missing drop, "
        "or .*--drop NAME, or .*--on-missing mean",
    ):
        write(tmp_path / "o.h5", FakeTable(columns))
    with pytest.raises(DataError, match=r"missing: y: 1 value \(fake, row 4\); a label, a target .* has no mean"):
        write(tmp_path / "o.h5", FakeTable(columns), on_missing="mean")


def test_rows_with_missing_values_are_left_out(tmp_path: Path) -> None:
    tables = FakeTable({"a": with_gaps(NUMBERS, 1, 5), "y": with_gaps(Y, 4)}), FakeTable({"a": NUMBERS, "y": Y})
    done = write(tmp_path / "o.h5", tables[0], test=[tables[1]], on_missing="drop")
    found, kept = read(tmp_path / "o.h5"), [0, 2, 3, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(found["train/x"][:, 0], REAL[kept].astype(np.float32))
    assert found["train/y"].tolist() == [i % 2 for i in kept]
    assert done.splits == {"train": 9, "test": 12}
    assert "left out for missing values: 3 rows of train (in a, y)" in done.notes
    nothing = FakeTable({"a": with_gaps(NUMBERS, *range(12)), "y": Y})
    with pytest.raises(DataError, match=r"each row of the split train has a missing value \(in a\)"):
        write(tmp_path / "p.h5", nothing, on_missing="drop")


def test_the_mean_is_that_of_the_training_rows(tmp_path: Path) -> None:
    a = np.array([1.0, np.nan, 3.0, 5.0, 100.0, np.nan], np.float32)
    table = FakeTable({"a": a, "b": np.arange(6) % 2, "label": np.array(["u", "v"] * 3, object)})
    done = write(tmp_path / "o.h5", table, on_missing="mean", test_last=1 / 3)
    found = read(tmp_path / "o.h5")
    assert found["train/x"][:, 0].tolist() == [1, 3, 3, 5]  # (1 + 3 + 5) / 3
    assert found["test/x"][:, 0].tolist() == [100, 3]
    assert "missing values are the mean of the training rows: 2 of a" in done.notes
    nothing = FakeTable({"a": np.full(6, np.nan), "label": np.array(["u", "v"] * 3, object)})
    with pytest.raises(DataError, match="a has no value in any training row"):
        write(tmp_path / "p.h5", nothing, on_missing="mean")


def test_the_mean_of_a_category_is_its_share(tmp_path: Path) -> None:
    kinds = np.array(["u", "v", "NA", "u", "u", "u"], object)
    table = FakeTable({"k": kinds, "i": np.arange(6) ** 2, "label": np.array(["a", "b"] * 3, object)})
    write(tmp_path / "o.h5", table, on_missing="mean")
    found = read(tmp_path / "o.h5")
    assert found["train/x columns"] == ["k=u", "k=v", "i"]
    np.testing.assert_allclose(found["train/x"][2], [0.8, 0.2, 4])


def test_infinite_values_are_refused(tmp_path: Path) -> None:
    labels = np.array(["u", "v", "u", "v", "u"], object)
    table = FakeTable({"a": np.array([1.0, np.nan, 2, np.inf, 1]), "label": labels})
    for policy in ("refuse", "drop", "mean"):
        with pytest.raises(DataError, match="fake, row 3: not finite: column 'a' is infinite"):
            write(tmp_path / "o.h5", table, on_missing=policy)


def test_words_for_missing_are_no_class(tmp_path: Path) -> None:
    """In typed strings too, as pandas' astype(str) writes them."""
    for word in ("NA", "nan", "None", "NULL", "?", "-", ""):
        labels = np.array(["a", "b", word, "a", "b", "a"], object)
        with pytest.raises(DataError, match=r"missing: label: 1 value \(fake, row 2\)"):
            write(tmp_path / "o.h5", FakeTable({"a": np.arange(6) % 2, "label": labels}))
    done = write(tmp_path / "o.h5", FakeTable({"a": np.arange(6) % 2, "label": labels}), on_missing="drop")
    assert done.y == "2 classes of label"
    labels[2] = "NA"
    write(
        tmp_path / "p.h5",
        FakeTable({"a": np.arange(6) % 2, "label": labels}),
        missing_words=("", "b"),
        on_missing="drop",
    )
    assert read(tmp_path / "p.h5")["train/y"].tolist() == ["a", "NA", "a", "a"]


def test_text_becomes_categories(tmp_path: Path) -> None:
    table = FakeTable({"a": NUMBERS, "k": ["b", "c", "a", "b", "c", "a"] * 2, "f": ["True", "false"] * 6, "y": Y})
    done = write(tmp_path / "o.h5", table)
    found = read(tmp_path / "o.h5")
    assert found["train/x columns"] == ["a", "k=a", "k=b", "k=c", "f"]
    np.testing.assert_array_equal(found["train/x"][:3, 1:], [[0, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1]])
    assert "a column for each value of k (3)" in done.notes
    assert "true is 1 and false is 0 in f" in done.notes


def test_text_that_is_no_category(tmp_path: Path) -> None:
    names = [f"name {i}" for i in range(12)]
    with pytest.raises(DataError, match=r"column 'k' is text .*too many .*--drop k, .*--categorical k"):
        write(tmp_path / "o.h5", FakeTable({"a": NUMBERS, "k": names, "y": Y}))
    assert write(tmp_path / "o.h5", FakeTable({"a": NUMBERS, "k": names, "y": Y}), categorical=("k",)).width == 13
    typo = [*NUMBERS[:7], "1..5", *NUMBERS[8:]]
    with pytest.raises(DataError, match=r"fake, row 7: column 'a' is '1\.\.5', expected a number"):
        write(tmp_path / "p.h5", FakeTable({"a": typo, "y": Y}))
    typo = [*NUMBERS[:7], "1..5", *NUMBERS[8:]]
    with pytest.raises(DataError, match=r"copy, row 7: column 'a' is '1\.\.5', expected a number"):
        write(tmp_path / "p.h5", FakeTable({"a": NUMBERS, "y": Y}), FakeTable({"a": typo, "y": Y}, "copy"))
    with pytest.raises(DataError, match=r"copy, row 7: column 'a' is '1\.\.5', expected a number"):
        write(tmp_path / "p.h5", FakeTable({"a": NUMBERS, "y": Y}), test=[FakeTable({"a": typo, "y": Y}, "copy")])


@pytest.mark.parametrize("is_text", [False, True])
def test_numbers_as_categories(tmp_path: Path, is_text: bool) -> None:
    codes: Any = np.array([10, 2, 3] * 4)
    columns: dict[str, Any] = {"c": codes, "b": codes / 2, "label": np.array(KIND, object)}
    if is_text:
        columns = {name: [str(value) for value in values] for name, values in columns.items()}
        columns["c"][0] = "1e+01"
    write(tmp_path / "o.h5", FakeTable(columns), categorical=("c",))
    found = read(tmp_path / "o.h5")
    assert found["train/x columns"] == ["c=2", "c=3", "c=10", "b"]
    np.testing.assert_array_equal(found["train/x"][:, :3], np.column_stack([codes == 2, codes == 3, codes == 10]))


def test_codes_with_leading_zeros_stay_names(tmp_path: Path) -> None:
    write(tmp_path / "o.h5", FakeTable({"c": ["007", "7"] * 6, "y": Y}), categorical=("c",))
    assert read(tmp_path / "o.h5")["train/x columns"] == ["c=7", "c=007"]


def test_all_splits_have_the_same_categories(tmp_path: Path) -> None:
    train = [FakeTable({"k": ["c", "a"] * 6, "y": Y}), FakeTable({"k": ["b"] * 12, "y": Y})]
    write(tmp_path / "o.h5", *train, test=[FakeTable({"k": ["b", "a"] * 6, "y": Y})])
    found = read(tmp_path / "o.h5")
    assert found["train/x columns"] == found["test/x columns"] == ["k=a", "k=b", "k=c"]
    assert found["test/x"][:2].tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(
        DataError, match="later, row 1: column 'k' is 'z' in the split test, which the split train never"
    ):
        write(tmp_path / "p.h5", *train, test=[FakeTable({"k": ["a", "z"] * 6, "y": Y}, "later")])
    done = write(tmp_path / "p.h5", FakeTable({"k": [*["a", "b"] * 5, "z", "z"], "y": Y}), test_last=1 / 6)
    assert "no row of train has k=z" in done.notes


@pytest.mark.parametrize(
    ("values", "dtype", "why"),
    [
        (["0.1", "0.3", "1e-3"], "float32", ""),
        (["16777216", "3", "5"], "float32", ""),
        (["16777217", "3", "5"], "float64", "16777217 would become 16777216"),
        (["1700000001", "1700000002", "1700000003"], "float64", "1700000001 would become 1700000000"),
        (["2459000.5001", "2459000.5002", "2459000.9"], "float64", "would become one number"),
        (["2459000.5", "2459000.75", "2459001.3"], "float64", "2459000.5 to 2459001.3 are 3 steps of float32"),
        (["101324.87", "101411.02", "101025.5"], "float32", ""),
        (["1e-35", "2e-35", "7e-36"], "float64", "no value is larger than 2e-35"),
        (["6.02e23", "1.1e20", "3e22"], "float32", ""),
        (["2459000.1", "2459000.1", "2459000.1"], "float32", ""),
    ],
)
def test_digits_widen_the_inputs(tmp_path: Path, values: list[str], dtype: str, why: str) -> None:
    done = write(tmp_path / "o.h5", FakeTable({"b": NUMBERS, "t": values * 4, "y": Y}))
    stored = read(tmp_path / "o.h5")["train/x"]
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored[:, 1], np.array(values * 4, np.float64).astype(dtype))
    notes = [note for note in done.notes if "lose digits" in note]
    assert len(notes) == bool(why)
    assert not why or ("inputs are stored as float64: float32 would lose digits of t (" in notes[0] and why in notes[0])


def test_random_numbers_stay_float32(tmp_path: Path) -> None:
    a = np.random.default_rng(0).random(3000)
    table = FakeTable({"a": [repr(float(v)) for v in a], "y": ["0", "1"] * 1500}, block=1000)
    assert write(tmp_path / "o.h5", table).dtype == "float32"


def test_whole_numbers_beyond_float64(tmp_path: Path) -> None:
    long = np.array([2**53 + 1, 5, 7] * 4)
    table = FakeTable({"a": REAL, "i": long, "label": np.array(KIND, object)})
    with pytest.raises(DataError, match="column 'i' has whole numbers such as 9007199254740993, which float64 would"):
        write(tmp_path / "o.h5", table)
    write(tmp_path / "o.h5", table, drop=("a",))
    assert read(tmp_path / "o.h5")["train/x"][0, 0] == 2**53 + 1
    assert read(tmp_path / "o.h5")["train/x"].dtype == np.int64
    with pytest.raises(DataError, match=r"fake, row 0: column 'i' is 9007199254740993, which has more digits"):
        write(tmp_path / "p.h5", FakeTable({"a": NUMBERS, "i": [str(v) for v in long], "y": Y}))
    unsigned = FakeTable({"i": long, "u": np.array([2**63, 1, 2] * 4, np.uint64), "label": np.array(KIND, object)})
    write(tmp_path / "q.h5", unsigned)
    assert read(tmp_path / "q.h5")["train/x"].dtype == np.uint64
    assert read(tmp_path / "q.h5")["train/x"][0].tolist() == [2**53 + 1, 2**63]


def test_types_stay_as_they_are(tmp_path: Path) -> None:
    kinds = np.array(KIND, object)
    for columns, dtype in (
        ({"x": np.ones((12, 3), np.uint8)}, "uint8"),
        ({"a": np.ones(12, np.float16), "k": kinds}, "float16"),
        ({"a": np.ones(12, np.float32), "b": np.arange(12, dtype=np.int16) % 5}, "float32"),
        ({"b": np.arange(12) % 2 == 0, "k": kinds}, "uint8"),
        ({"a": np.ones(12, np.int32), "b": np.ones(12, np.float32)}, "float64"),
    ):
        done = write(tmp_path / "o.h5", FakeTable({**columns, "label": kinds}))  # type: ignore[dict-item]
        assert done.dtype == dtype
        (tmp_path / "o.h5").unlink()


def test_what_is_kept_of_rows_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match=r"takes more than the .* bytes of --memory"):
        write(tmp_path / "o.h5", FakeTable({"a": NUMBERS, "y": Y}), memory=1e-9)


def test_missing_words_of_text_files(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(
        "a,b,y\n" + "".join(f"{i * i},{-9 if i == 3 else i % 4},{i % 2}\n" for i in range(12))
    )
    import_data(
        [str(tmp_path / "c.csv")], [], tmp_path / "o.h5", ImportOptions(missing_words=("-9",), on_missing="drop")
    )
    assert read(tmp_path / "o.h5")["train/x"][:, 0].tolist() == [i * i for i in range(12) if i != 3]
