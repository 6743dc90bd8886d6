"""Labels or targets: what `distbp import` takes a column for, and where it asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_table import FakeTable, read, write

from distbp.data.task import looks_like_labels, looks_like_quantities
from distbp.errors import DataError, UsageError

RNG = np.random.default_rng(0)
WINE = {3: 20, 4: 163, 5: 1457, 6: 2198, 7: 880, 8: 175, 9: 5}  # white wine quality, P. Cortez 2009
RINGS = [1, 1, 15, 57, 115, 259, 391, 568, 689, 634, 487, 267, 203, 126, 103, 67, 58, 42, 32, 26, 14, 6, 9, 2, 1, 1, 2]
ABALONE = {i + 1: count for i, count in enumerate(RINGS)} | {29: 1}  # W. Nash 1994


def drawn(values: Any) -> dict[int, int]:
    found, counts = np.unique(np.asarray(values).astype(int), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def test_integers_that_are_labels() -> None:
    for counts in (
        {0: 50, 1: 50, 2: 50},  # iris
        dict.fromkeys(range(10), 180),  # digits
        WINE,
        dict.fromkeys(range(26), 770),  # letters
        dict.fromkeys(range(100), 500),  # CIFAR-100
        {-1: 3, 1: 4},
        {0: 1, 1: 2, 2: 1},
        {1: 1, 2: 1, 3: 1, 4: 1},
        {11: 900, 21: 400, 31: 70, 41: 2000, 90: 12, 95: 33},  # land cover
        dict.fromkeys(range(1000), 1300),  # ImageNet
        {7: 1},
    ):
        assert looks_like_quantities(counts) == ""


def test_integers_that_may_be_quantities() -> None:
    for counts, why in (
        (ABALONE, "has 28 different whole numbers from 1 to 29 in 4177 rows, 7 of them in one or two rows only"),
        (drawn(RNG.normal(38, 13, 30000).clip(17, 90)), "72 different whole numbers from 17 to 89 in 30000 rows"),
        (drawn(RNG.uniform(14, 500, 20640)), "from 14 to 499"),  # house values
        (drawn(RNG.integers(1970, 2018, 3000)), "48 different whole numbers from 1970 to 2017"),
        (drawn(RNG.normal(0, 1000, 120)), "in one or two rows only"),
        (drawn(RNG.integers(0, 40, 90) * 5), "of them in one or two rows only"),
        ({0: 5, 10: 5, 20: 5}, "with gaps between them, and fewer than 10 rows for each"),
        (dict.fromkeys(range(1001), 100), "1001 different"),
        ({i: 1 for i in range(60)}, "60 of them in one or two rows only"),
    ):
        assert why in looks_like_quantities(counts)


def test_floats_that_may_be_labels() -> None:
    assert looks_like_labels([0.0, 1.0])
    assert looks_like_labels([-100.0, 3.0, 100.0])
    assert not looks_like_labels([0.0, 1.5])
    assert not looks_like_labels([0.0, 101.0])
    assert not looks_like_labels(map(float, range(21)))
    assert looks_like_labels(map(float, range(20)))
    assert not looks_like_labels([])
    assert not looks_like_labels([float("inf")])
    assert not looks_like_labels([float("nan")])


def task_of(out: Path, y: Any, **options: Any) -> Any:
    """What becomes of y: its dtype and values."""
    x = [str(i % 7) for i in range(len(y))] if isinstance(y, list) else np.arange(len(y)) % 7
    write(out / "o.h5", FakeTable({"a": x, "y": y}), overwrite=True, **options)
    return read(out / "o.h5")["train/y"]


def test_what_becomes_of_a_column(tmp_path: Path) -> None:
    many = RNG.normal(size=30).astype(np.float32)
    for y, wanted in (
        (np.arange(30) % 3, np.arange(30) % 3),
        (np.arange(30) % 2 == 0, np.arange(30) % 2 == 0),
        ([str(i % 3) for i in range(30)], np.arange(30) % 3),
        ([f"{i % 2}.000e+00" for i in range(30)], np.arange(30) % 2),
        (["1e+05", "2e+05", "123456"] * 10, np.array([100000, 200000, 123456] * 10)),
        (many, many[:, None]),
        ([f"{v:.3f}" for v in many], np.array([float(f"{v:.3f}") for v in many])[:, None]),
        (np.arange(30.0) * 1000, np.arange(30.0)[:, None] * 1000),
    ):
        found = task_of(tmp_path, y)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == ("int64" if wanted.ndim == 1 else wanted.dtype)
    assert task_of(tmp_path, ["TRUE", "FALSE"] * 15).tolist() == ["TRUE", "FALSE"] * 15


def test_what_is_asked(tmp_path: Path) -> None:
    """Each can be said with --task."""
    for y, why in (
        (
            np.arange(30) % 3 / 1.0,
            r"y is of a floating-point type, and has whole numbers only: 0, 1, 2; .*--task targets",
        ),
        (np.arange(30) ** 2, r"y has 30 different whole numbers from 0 to 841 in 30 rows, 30 of them in one or two"),
        ([str(i * i) for i in range(30)], r"y has 30 different whole numbers"),
        ([f"{i * i}.0" for i in range(30)], r"y has 30 different whole numbers"),
    ):
        with pytest.raises(UsageError, match=why):
            task_of(tmp_path, y)
        values = [float(v) for v in y]
        assert task_of(tmp_path, y, task="targets").tolist() == [[v] for v in values]
        assert task_of(tmp_path, y, task="classes").tolist() == values
        assert task_of(tmp_path, y, task="classes").dtype == np.int64


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fake, row 1: y is 0\.5; labels are whole numbers or text"):
        task_of(tmp_path, np.arange(30) / 2, task="classes")
    with pytest.raises(DataError, match=r"fake, row 4: y is 'e'; targets are finite numbers"):
        task_of(tmp_path, [*"0123e", *"56789"], task="targets")
    with pytest.raises(DataError, match=r"fake, row 4: y is 'high'; targets are finite numbers"):
        task_of(tmp_path, np.array(["1", "2", "1", "1", "high"], object), task="targets")
    with pytest.raises(DataError, match=r"whole numbers up to 9007199254740993"):
        task_of(tmp_path, np.array([2**53 + 1, 2]), task="targets")


def test_text_that_begins_with_numbers(tmp_path: Path) -> None:
    """The first blocks are numbers, and what comes later is not."""
    y = ["1"] * 6 + ["cat", "dog", "cat", "dog"] * 3
    assert task_of(tmp_path, y).tolist() == y
    with pytest.raises(DataError, match="row 20: y is 'high', and nearly all others are numbers"):
        task_of(tmp_path, [f"{i}.5" for i in range(20)] + ["high"])


def columns(**values: Any) -> FakeTable:
    return FakeTable({"a": np.arange(12) % 5, **values})


def test_columns_of_0_and_1(tmp_path: Path) -> None:
    cat = np.arange(12) % 3 == 0
    flags = {"cat": cat.astype(np.int8), "dog": ~cat}
    done = write(tmp_path / "o.h5", columns(**flags), y=("cat", "dog"))
    assert read(tmp_path / "o.h5")["train/y"].tolist() == [[c, not c] for c in cat.tolist()]
    assert read(tmp_path / "o.h5")["train/y"].dtype == np.float64
    assert any("targets, one for each" in note and "--task classes" in note for note in done.notes)
    done = write(tmp_path / "p.h5", columns(**flags), y=("cat", "dog"), task="classes")
    assert read(tmp_path / "p.h5")["train/y"].tolist() == ["cat" if c else "dog" for c in cat.tolist()]
    flags["dog"] = np.arange(12) % 3 != 2
    with pytest.raises(DataError, match=r"fake, row 0: cat, dog are '\[1, 1\]'; for --task classes one of them is 1"):
        write(tmp_path / "q.h5", columns(**flags), y=("cat", "dog"), task="classes")
    assert write(tmp_path / "q.h5", columns(**flags), y=("cat", "dog")).y == "2 targets: cat, dog"


def test_one_hot_rows_are_drawn_by_class(tmp_path: Path) -> None:
    one_hot = np.eye(3)[np.arange(30) % 3]
    write(tmp_path / "o.h5", FakeTable({"x": np.arange(30) % 7, "y": one_hot}), task="classes", test_fraction=0.2)
    names, counts = np.unique(read(tmp_path / "o.h5")["test/y"], return_counts=True)
    assert names.tolist() == ["y[0]", "y[1]", "y[2]"]
    assert counts.tolist() == [2, 2, 2]


def test_several_columns_that_are_no_flags(tmp_path: Path) -> None:
    table = columns(u=np.arange(12) % 3, v=np.linspace(0, 1, 12) ** 2)
    write(tmp_path / "o.h5", table, y=("v", "u"))
    np.testing.assert_array_equal(
        read(tmp_path / "o.h5")["train/y"], np.column_stack([np.linspace(0, 1, 12) ** 2, np.arange(12) % 3])
    )
    assert read(tmp_path / "o.h5")["train/y columns"] == ["v", "u"]
    with pytest.raises(DataError, match="v,u are several columns; for --task classes expected one column of labels"):
        write(tmp_path / "p.h5", table, y=("v", "u"), task="classes")
