"""LibSVM's text format, against scikit-learn's reader of it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from distbp.errors import DataError
from distbp.tables import libsvm_table, text_file
from distbp.tables.libsvm_table import LibSVMTable, agree, is_libsvm, plain_rows
from distbp.tables.open_text import open_text
from distbp.tables.text_options import TextOptions


def opened(path: Path, content: str, format: str = "auto") -> LibSVMTable:
    path.write_text(content, encoding="utf-8", newline="")
    table = open_text(str(path), TextOptions(format=format))
    assert isinstance(table, LibSVMTable)
    return table


def dense(table: LibSVMTable) -> tuple[np.ndarray, np.ndarray]:
    blocks = [[values.array for values in block] for block in table.blocks(["x", "y"])]
    return np.concatenate([x for x, _ in blocks]), np.concatenate([y for _, y in blocks])[:, 0]


@pytest.mark.heavy
@pytest.mark.parametrize("first_index", [0, 1])
@pytest.mark.parametrize("plain", [True, False])
def test_as_scikit_learn_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_index: int, plain: bool
) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 30)) * (random.random((200, 30)) < 0.2)
    x[:, 0] = x[:, -1] = 1
    y = random.integers(0, 3, 200)
    path = tmp_path / "a"
    datasets = pytest.importorskip("sklearn.datasets")
    comment = None if plain else "made for a test"
    datasets.dump_svmlight_file(x, y, str(path), zero_based=first_index == 0, comment=comment)
    expected_x, expected_y = datasets.load_svmlight_file(str(path), zero_based=first_index == 0)
    monkeypatch.setattr(text_file, "CHUNK_BYTES", 500)
    monkeypatch.setattr(libsvm_table, "BLOCK_NUMBERS", 100)  # three rows
    table = open_text(str(path), TextOptions())
    assert isinstance(table, LibSVMTable)
    assert (table.first_index, table.width) == (first_index, 30)
    found_x, found_y = dense(table)
    assert np.array_equal(found_x, expected_x.toarray())
    assert np.array_equal(found_y, expected_y)
    assert np.allclose(found_x, x, rtol=1e-14, atol=0)  # it writes 16 digits


def test_a_file_like_a9a(tmp_path: Path) -> None:
    table = opened(tmp_path / "a9a", "-1 3:1 11:1 \r\n+1 5:1\r\n\r\n-1\r\n")
    x, y = dense(table)
    assert x.shape == (3, 11)
    assert [row.nonzero()[0].tolist() for row in x] == [[2, 10], [4], []]
    assert y.tolist() == [-1, 1, -1]
    assert [values.array.tolist() for values in next(table.blocks(["y"], frozenset({"y"})))] == [
        [["-1"], ["+1"], ["-1"]]
    ]
    assert "indices from 1, 11 inputs" in table.notes[0]
    assert table.place(2) == f"{table.name}, line 4"
    assert [column.name for column in table.columns] == ["y", "x"]


def test_queries_comments_and_indices_from_0(tmp_path: Path) -> None:
    table = opened(tmp_path / "t", "# ranking\n2 qid:1 0:.5 3:-1e-3 # doc 7\n1 qid:2 1:2\n")
    assert [column.name for column in table.columns] == ["y", "x", "qid"]
    assert table.column("qid").not_data
    y, x, qid = (values.array.tolist() for values in next(table.blocks(["y", "x", "qid"])))
    assert (y, qid) == ([[2], [1]], [[1], [2]])
    assert x == [[0.5, 0, 0, -1e-3], [0, 2, 0, 0]]


def test_another_width(tmp_path: Path) -> None:
    table = opened(tmp_path / "t", "1 2:5\n0 1:3\n")
    table.widen(4, 1)
    assert dense(table)[0].tolist() == [[0, 5, 0, 0], [3, 0, 0, 0]]
    table.widen(4, 0)  # the other file has an index 0
    assert dense(table)[0].tolist() == [[0, 0, 5, 0], [0, 3, 0, 0]]
    with pytest.raises(DataError, match="indices from 1 to 2; expected 0 to 1"):
        table.widen(2, 0)


def test_files_of_one_data_set_have_the_same_inputs(tmp_path: Path) -> None:
    train, test = opened(tmp_path / "a", "1 2:5\n0 0:3\n"), opened(tmp_path / "b", "1 1:1 3:4\n")
    assert (train.width, test.width) == (3, 3)
    agree([train, test])
    assert dense(train)[0].tolist() == [[0, 0, 5, 0], [3, 0, 0, 0]]
    assert dense(test)[0].tolist() == [[0, 1, 0, 4]]
    assert "indices from 0, 4 inputs" in test.notes[0]
    agree([test], 6)
    assert dense(test)[0].tolist() == [[0, 1, 0, 4, 0, 0]]
    with pytest.raises(DataError, match="b: indices from 1 to 3; expected 0 to 2"):
        agree([test], 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 1:1\n0 2:1 2:2\n", "line 2: index 2 comes after 2"),
        ("1 1:1\n0 2:1 1:2\n", "line 2: index 1 comes after 2"),
        ("1 1:1\n0 2:x\n", "line 2: expected index:value, got '2:x'"),
        ("1 1:1\n0 2:1_0\n", "line 2: expected index:value, got '2:1_0'"),
        ("1 1:1\n0 2\n", "line 2: expected index:value, got '2'"),
        ("1 1:1\n0 2:3:4\n", "line 2: expected index:value"),
        ("1 1:1\n0 2:3:4 5 6:7\n", "line 2: expected index:value"),
        ("1 1:1\n0 1.0:3\n", r"line 2: expected index:value, got '1\.0:3'"),
        ("1 1:1\n0 1e0:3\n", "line 2: expected index:value"),
        ("1 1:1\n0 -1:3\n", "line 2: expected index:value"),
        ("1 1:1\n0 1: 3\n", "line 2: expected index:value, got '1:'"),
        ("1 1:1\n0 1 :3\n", "line 2: expected index:value, got '1'"),
        ("1 1:1\n2:1 3:1\n", "line 2: expected a label before"),
        ("1 1:1\n1,2 3:1\n", "line 2: expected one label"),
        ("1 4000000000:1\n", "line 1: index '4000000000'; dense rows of more than"),
        ("1 99999999:1\n", "line 1: index '99999999'; dense rows of more than"),
        ("1\n2\n", "no number with an index"),
        ("\n", "no rows"),
    ],
)
def test_lines_that_are_not_right(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "t", content, "libsvm")


def test_all_rows_at_once_and_line_by_line(tmp_path: Path) -> None:
    pairs = ["1:1", "2:2.5", "4:-1e5", "7:.5", "10:1", "010:1", "2:", ":1", "1:1:1", "1e1:2", "1.0:1", "3", "x"]
    reader = opened(tmp_path / "t", "1 1:1\n")
    agreed = 0
    for seed in range(1000):
        random = Random(seed)
        lines = []
        for _ in range(random.randint(1, 4)):
            words = [random.choice(["1", "-1", "0.5"]), *pairs[random.randint(0, 2) : random.randint(2, 5)]]
            if random.random() < 0.1:
                words.insert(random.randint(0, len(words)), random.choice(pairs))
            lines.append(random.choice(["", " ", "\t"]) + random.choice([" ", "  ", "\t"]).join(words))
            lines += random.choice([[], [], [""], [" "]])
        text = "\n".join(lines) + random.choice(["", "\n"])
        fast = plain_rows(text.encode(), 5)
        if fast is None:
            continue
        slow = reader._checked_rows(text, 5)
        agreed += 1
        assert (fast.labels, list(fast.lines)) == (slow.labels, list(slow.lines)), text
        for name in ("row", "index", "value"):
            assert list(getattr(fast, name)) == list(getattr(slow, name)), text
    assert agreed > 500


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *(("1 1:2", True), ("-1.5 1:2 7:1 # x", True), ("1 qid:3 1:2", True), ("1", False), ("1 2 3", False)),
        *(
            ("a 1:2", False),
            ("1 7:1 2:1", False),
            ("12:30 1", False),
            ("1,1:2", False),
            ("1 " + "9" * 5000 + ":1", False),
        ),
    ],
)
def test_known_by_looking(line: str, expected: bool) -> None:
    assert is_libsvm([line, "", "# c"]) == expected
