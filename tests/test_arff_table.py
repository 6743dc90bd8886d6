"""ARFF files, against what scipy reads, which comes with scikit-learn in the test environment."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distbp.errors import DataError
from distbp.tables import arrow_text
from distbp.tables.arff_table import ArffTable
from distbp.tables.open_text import open_text
from distbp.tables.text_options import TextOptions

IRIS = """% 1. Title: Iris
%
@RELATION iris

@ATTRIBUTE sepallength\tREAL
@ATTRIBUTE 'petal width, cm' NUMERIC
@attribute n integer
@ATTRIBUTE class {Iris-setosa,'Iris versicolor', "it's"}

@DATA
5.1,0.2,1,Iris-setosa
?, 1.5e0 ,2,'Iris versicolor'
% a comment
4.9,?,3,"it's"
"""


def opened(path: Path, content: str, **options: Any) -> ArffTable:
    path.write_text(content, encoding="utf-8", newline="")
    table = open_text(str(path), TextOptions(**options))
    assert isinstance(table, ArffTable)
    return table


def read(table: ArffTable, *names: str) -> list[list[Any]]:
    columns: list[list[Any]] = [[] for _ in names or table.columns]
    for block in table.blocks(list(names) or [column.name for column in table.columns]):
        for column, values in zip(columns, block, strict=True):
            missing = np.zeros(values.array.shape, bool) if values.missing is None else values.missing
            column += [None if gone else v for v, gone in zip(values.array[:, 0].tolist(), missing[:, 0], strict=True)]
    return columns


def test_a_file_like_iris(tmp_path: Path) -> None:
    table = opened(tmp_path / "iris.arff", IRIS)
    assert [column.name for column in table.columns] == ["sepallength", "petal width, cm", "n", "class"]
    assert read(table) == [[5.1, None, 4.9], [0.2, 1.5, None], [1, 2, 3], ["Iris-setosa", "Iris versicolor", "it's"]]
    assert "line 14" in table.place(2)
    assert "line 11" in table.place(0)


@pytest.mark.parametrize("arrow", [True, False])
def test_as_scipy_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrow: bool) -> None:
    arff = pytest.importorskip("scipy.io.arff")
    random = np.random.default_rng(0)
    rows = [f"{v!r},{random.choice(['red', 'blue'])},{random.integers(2)}" for v in random.normal(size=300).tolist()]
    header = "@relation r\n@attribute v real\n@attribute colour {red,blue}\n@attribute bit {0,1}\n@data\n"
    content = header + "\n".join(rows) + "\n"
    expected, _ = arff.loadarff(io.StringIO(content))
    if not arrow:
        monkeypatch.setattr(arrow_text, "_pyarrow_csv", lambda: None)
    v, colour, bit = read(opened(tmp_path / "a.arff", content))
    assert v == expected["v"].tolist()
    assert [word.encode() for word in colour] == expected["colour"].tolist()
    assert bit == [float(word) for word in expected["bit"]]


def test_sparse_rows(tmp_path: Path) -> None:
    content = IRIS[: IRIS.index("5.1")] + "{0 1.5, 3 'Iris versicolor'}\n{}\n{1 -2 ,2 ?} % all else is zero\n"
    table = opened(tmp_path / "a.arff", content)
    assert read(table) == [[1.5, 0, 0], [0, 0, -2], [0, 0, None], ["Iris versicolor", "Iris-setosa", "Iris-setosa"]]


def test_only_a_question_mark_is_missing(tmp_path: Path) -> None:
    header = "@relation r\n@attribute a {None,NA,-}\n@data\n"
    assert read(opened(tmp_path / "a.arff", header + "None\nNA\n-\n?\n")) == [["None", "NA", "-", None]]
    assert read(opened(tmp_path / "a.arff", header + "None\nNA\n?\n", missing_words=("NA",))) == [["None", None, None]]


def test_other_ways_to_write_it(tmp_path: Path) -> None:
    keel = "@relation k\n@attribute A real [4.3,7.9]\n@attribute c{x, y}\n@inputs A\n@outputs c\n@data\n4.5, x\n5 y\n"
    assert read(opened(tmp_path / "k.dat", keel)) == [[4.5, 5], ["x", "y"]]
    quoted = "@relation 'a b'\n@attribute 'it\\'s 100\\%' string\n@attribute t date 'yyyy'\n@data\n'a\\tb\\\\','1999'\n"
    table = opened(tmp_path / "q.arff", quoted)
    assert [(column.name, column.not_data) for column in table.columns] == [("it's 100%", ""), ("t", "dates")]
    assert read(table, "it's 100%") == [["a\tb\\"]]
    with pytest.raises(DataError, match="column 't' holds dates"):
        read(table, "t")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("5.1,0.2,1,Iris-virginica\n", r"line 11 .*column 'class' is 'Iris-virginica'; declared are \{Iris-setosa, "),
        ("5.1,0.2,1\n", "line 11: expected 4 values, got 3"),
        ("\n5.1,0.2,1,'it\n", 'line 12: cannot be read from "\'it" on'),
        ("5.1,0.2,1,it's\n", "line 11: cannot be read"),
        ("5.1,0.2,1,Iris-setosa,{5}\n", "line 11: cannot be read"),
        ("{0 1, 4 2}\n", "line 11: '4 2': expected a place, in ascending order and below 4"),
        ("{1 1, 0 2}\n", "line 11: '0 2': expected a place"),
        ("{x 1}\n", "line 11: 'x 1': expected a place"),
        ("{0 1}, {5}\n", "line 11: expected {place value"),
    ],
)
def test_rows_that_are_not_right(tmp_path: Path, content: str, message: str) -> None:
    table = opened(tmp_path / "a.arff", IRIS[: IRIS.index("5.1")] + content)
    with pytest.raises(DataError, match=message):
        read(table)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("@attribute a\n@data\n", "line 2: type ''; expected numeric"),
        ("@attribute a relational\n@data\n", "line 2: type 'relational'"),
        ("@attribute a {x,'y}\n@data\n", "line 2: expected values between"),
        ("@attribute a {x\n@data\n", "line 2: expected values between"),
        ("@attribute\n@data\n", "line 2: expected @attribute NAME TYPE"),
        ("@data\n1\n", "line 2: no attribute before @data"),
        ("a,b\n1,2\n", "line 2: expected @attribute NAME TYPE or @data"),
        ("@attribute a real\n", "no line @data"),
        ("@attribute a real\n@attribute a real\n@data\n", "both called 'a'"),
    ],
)
def test_headers_that_are_not_right(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "a.arff", "@relation r\n" + header)


def test_what_is_found_without_arrow_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = opened(tmp_path / "a.arff", IRIS)
    expected = read(table)
    monkeypatch.setattr(arrow_text, "_pyarrow_csv", lambda: None)
    assert read(table) == expected
