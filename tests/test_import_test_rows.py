"""Which rows become the split test, by what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_table import FakeTable, read, write

from distbp.errors import DataError, UsageError
from distbp.tables.import_data import ImportOptions, import_tables
from distbp.tables.import_plan import SplitTables

N = 40
YEAR = np.repeat([2019, 2020, 2021, 2022], 10)
SITE = np.array(["A", "B, big", "C", "D"] * 10, object)
VALUE = np.cos(np.arange(N)) * 5


def table(**more: Any) -> FakeTable:
    return FakeTable({"v": VALUE, "year": YEAR, "site": SITE, "label": np.arange(N) % 2, **more})


def test_rows_with_a_value(tmp_path: Path) -> None:
    done = write(tmp_path / "o.h5", table(), test_where="year=2021,year=2022")
    found = read(tmp_path / "o.h5")
    assert found["train/x columns"] == ["v", "site=A", "site=B, big", "site=C", "site=D"]
    np.testing.assert_array_equal(found["test/x"][:, 0], VALUE[20:])
    np.testing.assert_array_equal(found["train/x"][:, 0], VALUE[:20])
    assert done.splits == {"train": 20, "test": 20}
    assert "year (--test-where)" in done.notes[0]
    write(tmp_path / "p.h5", table(), test_where='"site=B, big",year=2.019e3', drop=("site",), x=())
    np.testing.assert_array_equal(read(tmp_path / "p.h5")["test/x"][:, 0], VALUE[(YEAR == 2019) & (SITE == "B, big")])
    write(tmp_path / "q.h5", table(), test_where="year=2019", x=("year", "v"))
    assert read(tmp_path / "q.h5")["test/x"][:, 0].tolist() == [2019] * 10


def test_values_in_text_are_compared_as_numbers(tmp_path: Path) -> None:
    texts = FakeTable({"v": [str(v) for v in VALUE], "t": ["0.50", "1", "1.5", "2"] * 10, "y": ["0", "1"] * 20})
    write(tmp_path / "o.h5", texts, test_where="t=.5,t=2.0")
    np.testing.assert_array_equal(
        read(tmp_path / "o.h5")["test/x"][:, 0], VALUE[[i for i in range(N) if i % 4 in (0, 3)]].astype(np.float32)
    )
    write(tmp_path / "p.h5", texts, test_where="t=.5", x=("v", "t"))  # read as a number, then
    assert read(tmp_path / "p.h5")["test/x"][:, 1].tolist() == [0.5] * 10


def test_the_last_rows(tmp_path: Path) -> None:
    write(tmp_path / "o.h5", table(), test_last=0.25, drop=("site",))
    np.testing.assert_array_equal(read(tmp_path / "o.h5")["test/x"][:, 0], VALUE[30:])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_stay_together(tmp_path: Path, seed: int) -> None:
    group = np.array([f"g{i // 3}" for i in range(N)], object)
    write(tmp_path / "o.h5", table(group=group), test_group="group", test_fraction=0.3, seed=seed)
    found = read(tmp_path / "o.h5")
    test = np.isin(VALUE, found["test/x"][:, 0])
    assert not set(group[test]) & set(group[~test])
    assert abs(test.sum() - 0.3 * N) <= 2  # groups of 3, and one of 1
    assert not any("group" in name for name in found["train/x columns"])


def test_drawn_rows_without_missing_ones(tmp_path: Path) -> None:
    gaps = np.where(np.arange(N) % 5 == 0, np.nan, VALUE)
    done = write(tmp_path / "o.h5", table(g=gaps), test_fraction=0.25, on_missing="drop")
    assert done.splits == {"train": 24, "test": 8}


@pytest.mark.parametrize("name", ["learn", "test"])
def test_a_split_that_is_not_called_train(tmp_path: Path, name: str) -> None:
    import_tables({name: SplitTables([table()])}, tmp_path / "o.h5", ImportOptions(test_last=0.5))
    found = read(tmp_path / "o.h5")
    assert (len(found["train/y"]), len(found["test/y"])) == (20, 20)


def test_of_several_splits_one_is_named(tmp_path: Path) -> None:
    sources = {"a": SplitTables([table()]), "b": SplitTables([table()])}
    with pytest.raises(
        UsageError, match="--test-last: of which split\\? There are a, b; name one of them with --split"
    ):
        import_tables(sources, tmp_path / "o.h5", ImportOptions(test_last=0.5))
    import_tables(sources, tmp_path / "o.h5", ImportOptions(test_last=0.5, splits=("a",)))
    assert sorted(name for name in read(tmp_path / "o.h5") if name.endswith("/y")) == ["b/y", "test/y", "train/y"]


def test_what_is_refused(tmp_path: Path) -> None:
    for options, message in (
        (
            {"test_where": "year=1999"},
            r"--test-where year=1999: no row has that value; there are 2019, 2020, 2021, 2022",
        ),
        ({"test_where": "month=1"}, r"--test-where 'month=1': no column 'month'; there are v, year"),
        ({"test_where": "year"}, r"--test-where 'year': expected COLUMN=VALUE"),
        ({"test_where": "year=2019", "test_last": 0.5}, "--test-where and --test-last: expected one of them"),
        ({"test_fraction": 0.5, "test_last": 0.5}, "--test-fraction and --test-last: expected one of them"),
        ({"test_group": "site"}, "--test-group: goes with --test-fraction"),
        ({"test_last": 0.001}, "--test-last 0.001: of 40 rows, a split would have none: test"),
        ({"test_where": ",".join(f"year={y}" for y in (2019, 2020, 2021, 2022))}, "a split would have none: train"),
        ({"test_group": "grp", "test_fraction": 0.5}, "no column 'grp'"),
        ({"test_group": "one", "test_fraction": 0.5}, "a split would have none"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            write(tmp_path / "o.h5", table(one=np.ones(N)), **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there are sources for the test split already"):
        write(tmp_path / "o.h5", table(), test=[table()], test_last=0.5)
    gap = np.where(np.arange(N) == 7, "NA", SITE.astype(str)).astype(object)
    with pytest.raises(DataError, match=r"missing: place: 1 value \(fake, row 7\)"):
        write(tmp_path / "o.h5", table(place=gap), test_where="place=A", on_missing="mean")
    assert not list(tmp_path.iterdir())


def test_labels_that_only_test_rows_have(tmp_path: Path) -> None:
    """A point behind each label, as in a well-known test file."""
    one = FakeTable({"v": VALUE[:4], "label": np.array(["<=50K", ">50K"] * 2, object)})
    two = FakeTable({"v": VALUE[:4], "label": np.array(["<=50K", ">50K."] * 2, object)}, name="two")
    with pytest.raises(DataError, match=r"two, row 1: the split test has labels that train never has: '>50K\.'"):
        write(tmp_path / "o.h5", one, test=[two])
    rare = np.where(np.arange(N) == 39, "rare", "often").astype(object)
    rare[3] = "also"
    with pytest.raises(DataError, match=r"fake, row 39: the split test has labels that train never has: 'rare'"):
        write(tmp_path / "o.h5", FakeTable({"v": VALUE, "label": rare}), test_last=0.25)
