"""Text as a table: what is found by looking, which values are read, and what is said of a file that is not right."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.errors import DataError, UsageError
from distbp.tables import arrow_text, text_file, text_look, text_table
from distbp.tables.arrow_text import ArrowText, single_blanks
from distbp.tables.open_text import open_text
from distbp.tables.table import Table
from distbp.tables.text_file import is_text
from distbp.tables.text_numbers import TextNumbers, why_no_number
from distbp.tables.text_options import DEFAULT_MISSING, TextOptions
from distbp.tables.text_quotes import end_of_rows

Write = Callable[..., Table]


@pytest.fixture
def table(tmp_path: Path) -> Write:
    """Writes a file and opens it."""

    def write(content: str | bytes, name: str = "t.csv", **options: Any) -> Table:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_text(str(path), TextOptions(**options))

    return write


def names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def read(table: Table, *chosen: str, text: frozenset[str] = frozenset()) -> list[list[Any]]:
    """All values of each column, None where one is missing."""
    columns: list[list[Any]] = [[] for _ in chosen or table.columns]
    for block in table.blocks(list(chosen) or names(table), text):
        for column, values in zip(columns, block, strict=True):
            assert values.array.shape[1:] == (1,)
            missing = np.zeros(values.array.shape, bool) if values.missing is None else values.missing
            column += [None if gone else value for value, gone in zip(values.array[:, 0], missing[:, 0], strict=True)]
    return columns


# What is found by looking


@pytest.mark.parametrize(
    "content",
    [
        "a,b,c\n1,2.5,x\n-3,4,y\n",
        "a;b;c\n1;2.5;x\n-3;4;y\n",
        "a\tb\tc\n1\t2.5\tx\n-3\t4\ty\n",
        "a b c\n1 2.5 x\n-3 4 y\n",
        "a, b, c\r\n1, 2.5, x \r\n-3,4 , y",
        "a,b,c\r1,2.5,x\r-3,4,y\r",
        "  a   b\t c\n\n  1  2.5 x  \n\t-3  4 \t y\n   \n",
        '"a","b","c"\n"1","2.5","x"\n"-3","4","y"\n',
        '"a" "b" "c"\n"1" 2.5 "x"\n-3 4 "y"\n',
        "# made by a program\n#\n% and more\na,b,c\n1,2.5,x\n# in between\n-3,4,y\n# end\n",
        "# a b c\n1 2.5 x\n-3 4 y",
        "#a,b,c\n1,2.5,x\n-3,4,y\n",
        "# text before\n% a\tb\tc\n1\t2.5\tx\n-3\t4\ty\n",
        "a|b|c\n1|2.5|x\n-3|4|y\n",
        "\ufeffa,b,c\n1,2.5,x\n-3,4,y\n",
        "@attribute of another kind\na,b,c\n1,2.5,x\n-3,4,y\n",
    ],
)
def test_the_same_table_in_many_ways_to_write_it(table: Write, content: str) -> None:
    t = table(content, delimiter="|" if "|" in content else "auto")
    assert names(t) == ["a", "b", "c"]
    assert [column.not_data for column in t.columns] == ["", "", ""]
    assert read(t) == [[1, -3], [2.5, 4], ["x", "y"]]
    assert t.is_text


def test_files_of_the_uci_repository(table: Write) -> None:
    iris = table("5.1,3.5,1.4,0.2,Iris-setosa\n4.9,3.0,1.4,0.2,Iris-setosa\n7.0,3.2,4.7,1.4,Iris-versicolor\n\n")
    assert names(iris) == ["0", "1", "2", "3", "4"]
    assert read(iris, "0", "4") == [[5.1, 4.9, 7.0], ["Iris-setosa", "Iris-setosa", "Iris-versicolor"]]
    adult = table("|1x3 Cross validator\n25, Private, ?, <=50K.\n38, ?, 89814, >50K.\n28, Private, 336951, >50K.\n")
    assert read(adult) == [
        [25, 38, 28],
        ["Private", None, "Private"],
        [None, 89814, 336951],
        ["<=50K.", ">50K.", ">50K."],
    ]
    assert "line 3" in adult.place(1)
    seeds = table("15.26\t14.84\t1\n14.88\t14.57\t\t1\n14.29\t14.09\t1\n")
    assert read(seeds) == [[15.26, 14.88, 14.29], [14.84, 14.57, 14.09], [1, 1, 1]]
    yacht = table("-2.3 0.568 4.78 0.11 \n-2.3 0.568 4.78 0.27 \n\n")
    assert read(yacht, "3") == [[0.11, 0.27]]


def test_what_savetxt_writes(table: Write) -> None:
    values = np.array([[0.1, 1e-300, 0], [2 / 3, -5e120, 1]])
    for options in [
        {},
        {"header": "a b c"},
        {"delimiter": ",", "header": "a,b,c"},
        {"fmt": "%.17g", "delimiter": "\t"},
    ]:
        file = io.StringIO()
        np.savetxt(file, values, **options)
        t = table(file.getvalue())
        assert names(t) == (["a", "b", "c"] if "header" in options else ["0", "1", "2"])
        assert read(t) == values.T.tolist()


def test_row_names_of_r_and_of_pandas_are_no_data(table: Write) -> None:
    for content in [
        '"","a","f"\n"1",1.5,"x"\n"2",NA,"x y"\n',
        '"a" "f"\n"1" 1.5 "x"\n"2" NA "x y"\n',
        '"";"a";"f"\n"1";1.5;"x"\n"2";NA;"x y"\n',
        ",a,f\n1,1.5,x\n2,NA,x y\n",
    ]:
        t = table(content)
        assert names(t) == ["column 0", "a", "f"]
        assert "no name" in t.columns[0].not_data
        assert [column.not_data for column in t.columns[1:]] == ["", ""]
        assert read(t) == [[1, 2], [1.5, None], ["x", "x y"]]
        assert t.column("") == t.column("column 0")
    assert table("Unnamed: 0,a\n0,1.5\n1,2.5\n").columns[0].not_data
    assert not table("id,a\n0,1.5\n1,2.5\n").columns[0].not_data


def test_ecsv_of_astropy(table: Write) -> None:
    t = table(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: v, unit: km / s, datatype: float64, description: speed}\n"
        '# - {name: kind, datatype: string}\n# schema: astropy-2.0\nv kind\n1.5 "a star"\n"" dwarf\n'
    )
    assert [(column.name, column.units) for column in t.columns] == [("v", "km / s"), ("kind", "")]
    assert read(t) == [[1.5, None], ["a star", "dwarf"]]


def test_each_row_ends_with_a_delimiter(table: Write) -> None:
    t = table("a,b\n1,2,\n3,4,\n")
    assert names(t) == ["a", "b", "column 2"]
    assert [bool(column.not_data) for column in t.columns] == [False, False, True]
    assert read(t, "a", "b") == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("content", "has_names"),
    [
        ("1,2\n3,4\n", False),
        ("2.5,0,1\n1,2,3\n", False),
        ("5,5,a\n5,6,b\n", False),  # names would be different
        ("1,a\n2,b\n3,a\n", False),  # a word that comes again
        ("-1,a\n2,b\n", False),
        ("x,y\n1,2\n", True),
        ("date,x\n2020-01-01,1\n", True),
        ("NA,b\n1,2\n", True),
        ("x,y\n1,NA\n", True),
        ("x,y\n", True),
        ("0\n1\n0\n", False),
        ("colour,kind\n" + "red,b\nblue,c\n" * 10, True),
        ("red,c\n" + "red,b\nblue,c\n" * 10, False),
        ("0,1,2\n1,2,3\n", None),  # what pandas writes above columns without names
        (",0,1,2\n0,1,2,3\n", None),
        ("2019,2020,country\n1,2,Chad\n", None),
        ("1,2\na,b\n", None),
        ("colour,kind\nred,b\n", None),
        ("NA,?\n1,2\n", None),
    ],
)
def test_whether_the_first_row_has_names(table: Write, content: str, has_names: bool | None) -> None:
    rows = content.count("\n")
    if has_names is None:
        with pytest.raises(DataError, match=r"t\.csv, line 1: it cannot be said .*--header or --no-header"):
            table(content)
    else:
        assert len(read(table(content))[0]) == rows - has_names
    assert len(read(table(content, header=False))[0]) == rows
    first = content.split("\n")[0].split(",")
    if len(set(first)) == len(first):
        assert len(read(table(content, header=True))[0]) == rows - 1


def test_names_that_are_unusual(table: Write) -> None:
    long, escape = "n" * 10_000, "\x1b[31mred\x1b[0m"
    t = table(f'{long},"a, b",{escape},"two\nlines",,y\n1,2,3,4,5,6\n')
    assert names(t) == [long, "a, b", escape, "two\nlines", "column 4", "y"]
    assert read(t) == [[1], [2], [3], [4], [5], [6]]
    assert t.columns[4].not_data == ""
    assert "line 3" in t.place(0)
    with pytest.raises(DataError) as error:
        t.column("\x1b[32m" + "m" * 10_000)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 2000
    with pytest.raises(DataError, match=r"line 1: columns 0 and 2, counted from 0, are both called 'a'"):
        table("a,b,a\n1,2,3\n")
    assert names(table("a,b,a\n1,2,3\n", header=False)) == ["0", "1", "2"]


# Values


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-0", "+1", "1.", ".5", "1e5", "1E+05", "1e-400", "0.1", "0.30000000000000004", "9007199254740993"),
        *("2.2250738585072011e-308", "1" * 400 + "e-399", "0." + "0" * 400 + "1e401", "179769313486231580793e289"),
        *("123456789012345678901234567890", "8.41e21", "5e-324", "2.47e-324", "1e23"),
    ],
)
def test_numbers_are_what_python_reads(table: Write, text: str) -> None:
    expected = struct.pack("<d", float(text))
    (number,), _ = read(table(f"a,b\n{text},x\n"))
    assert struct.pack("<d", number) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("1_000", "0x10", "1,5", "٣", "１", "−1", "1 2", "1e", "e5", "1d5", "3D5", "1.5f", "*****", "1.0000-100"),
        *("True", "TRUE", "T", "1\u00a0000", "\u200b1", "12:30", "1.0.0", "--1"),
    ],
)
def test_what_is_no_number_is_text(table: Write, text: str) -> None:
    assert read(table(f"a;b\n{text};0\n2;0\n"), "a") == [[text, "2"]]


def test_words_that_are_not_finite_are_numbers_and_missing_words_are_missing(table: Write) -> None:
    assert read(table("a,b\ninf,1\n-Infinity,2\n1e400,3\n"), "a") == [[np.inf, -np.inf, np.inf]]
    for word in DEFAULT_MISSING:
        assert read(table(f"a,b\n{word},x\n 1,{word}\n")) == [[None, 1], ["x", None]]
    assert np.isnan(read(table("a,b\nnan,1\n", missing_words=("-999",)), "a")[0][0])
    assert read(table("a,b\n-999,NA\n2,x\n", missing_words=("-999",))) == [[None, 2], ["NA", "x"]]
    assert read(table("a,b\n,1\n2,3\n", missing_words=("NA",))) == [["", "2"], [1, 3]]


def test_numbers_as_text(table: Write) -> None:
    t = table("a,b,c\n01,1e+05, x\n007,NA,y \n")
    assert read(t, text=frozenset({"a", "b"})) == [["01", "007"], ["1e+05", None], ["x", "y"]]
    assert read(t, "b", "a") == [[1e5, None], [1, 7]]


def test_numbers_of_fortran(table: Write) -> None:
    t = table(
        "   1.0000E+00  0.1D+06 1.0000000000000000E-010  -0.00000000\n   2.0000E+00 -1.5d-3 1 NaN\n", missing_words=()
    )
    assert read(t, "0", "1", "2") == [[1, 2], [1e5, -1.5e-3], [1e-10, 1]]
    assert str(read(t, "3")[0]) == "[np.float64(-0.0), np.float64(nan)]"
    assert "too narrow" in why_no_number("********")
    assert "E of the exponent" in why_no_number("-1.0000-100")
    assert "--decimal ," in why_no_number("1,5")
    assert "--thousands" in why_no_number("1.234.567")
    assert why_no_number("cat") == why_no_number("") == ""


def test_decimal_commas_and_thousands_only_as_asked(table: Write) -> None:
    assert read(table("a;b\n1,5;2\n1.5;3\n", decimal=","), "a") == [["1,5", "1.5"]]
    assert read(table("a;b\n1,5;2\n-1,5e3;3\n", decimal=",")) == [[1.5, -1500], [2, 3]]
    assert read(table("1,5 2,5\n2,5 3\n", decimal=",")) == [[1.5, 2.5], [2.5, 3]]
    assert read(table('a,b\n"1,5","2"\n"2,5","x"\n', decimal=","), "a") == [[1.5, 2.5]]
    assert read(table("a;b\n1.234,5;2\n1.234.567;3\n12,3;1\n", decimal=",", thousands=".")) == [
        [1234.5, 1234567, 12.3],
        [2, 3, 1],
    ]
    assert read(table('a,b\n"1,234",x\n"12,34",x\n', thousands=","), "a") == [["1,234", "12,34"]]
    assert read(table('a,b\n"1,234",x\n-5.5e1,x\n', thousands=","), "a") == [[1234, -55]]
    assert read(table("1,234 5\n2 6\n", thousands=",")) == [[1234, 2], [5, 6]]
    assert read(table("a;b\n1'234;x\n", thousands="'"), "a") == [[1234]]
    assert read(table('a,b\n"1,234",0\n'), "a") == [["1,234"]]


@pytest.mark.parametrize(
    "options",
    [
        *({"delimiter": text} for text in ("", "ab", '"', "a", "1", ".", "é", "\n", "-")),
        *({"decimal": ":"}, {"thousands": "."}, {"decimal": ",", "thousands": ","}, {"thousands": "x"}),
        *({"encoding": "klingon"}, {"encoding": "hex"}, {"format": "excel"}),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, str]) -> None:
    if options == {"thousands": "."}:
        options["decimal"] = "."
    with pytest.raises(UsageError, match=f"--{next(iter(options))}"):
        TextOptions(**options)  # type: ignore[arg-type]


# Files


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        archive.writestr("__MACOSX/._a.csv", b"\0\1")
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return file.getvalue()


CONTENT = "Größe,b\n1,ä\n2,日本\n"


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(CONTENT.encode()),
        gzip.compress(CONTENT[:9].encode()) + gzip.compress(CONTENT[9:].encode()),
        bz2.compress(CONTENT.encode()),
        lzma.compress(CONTENT.encode()),
        zipped(a_csv=CONTENT.encode()),
        CONTENT.encode("utf-16"),
        CONTENT.encode("utf-8-sig"),
        gzip.compress(b"\xfe\xff" + CONTENT.encode("utf-16-be")),
        CONTENT.encode("utf-32"),
    ],
)
def test_packed_and_encoded(table: Write, tmp_path: Path, content: bytes) -> None:
    t = table(content, "t.dat")
    assert is_text(str(tmp_path / "t.dat"))
    assert names(t) == ["Größe", "b"]
    assert read(t) == [[1, 2], ["ä", "日本"]]


def test_encodings_that_must_be_named(table: Write, tmp_path: Path) -> None:
    latin = "a,b\n1,x\n2,é\n3,y\n".encode("latin-1")
    with pytest.raises(DataError, match=r"t\.csv, line 3: the byte 0xe9 is not UTF-8.*--encoding latin-1"):
        read(table(latin))
    assert read(table(latin, encoding="latin-1"), "b") == [["x", "é", "y"]]
    assert is_text(str(tmp_path / "t.csv"))
    wide = CONTENT.encode("utf-16-le")
    with pytest.raises(DataError, match="--encoding utf-16-le"):
        table(wide)
    assert is_text(str(tmp_path / "t.csv"))
    assert read(table(wide, encoding="utf-16-le"), "b") == [["ä", "日本"]]
    japanese = "a,b\n1,日本\n2,y\n"
    for encoding in ("shift-jis", "iso2022_jp", "euc_jp"):
        assert read(table(japanese.encode(encoding), encoding=encoding), "b") == [["日本", "y"]]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", True),
        (b"plain", True),
        (b"a\x1b[31m,b\n\x0c", True),
        (b"caf\xe9,1\n", True),
        (b"\x93NUMPY\x01\0v\0{'descr'", False),
        (b"\x89HDF\r\n\x1a\n\0\0", False),
        (b"PAR1\x15\x04\x15", False),
        (gzip.compress(b"\0\0\x08\x03" * 4), False),
        (zipped(**{"x_npy": b"\x93NUMPY\x01\0"}), False),
        (zipped(**{"x_csv": b"1,2\n", "y_csv": b"1\n"}), True),  # and it says that it has two files
        (zipped(**{"x_xml": b"<a>", "y_xml": b"<b>"}), False),
        (b"PK\x03\x04", False),
    ],
)
def test_what_is_text(tmp_path: Path, content: bytes, text: bool) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    assert is_text(str(path)) == text


def test_files_that_cannot_be_read(table: Write, tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 10_000)
    for content in (packed[:-9], packed[:60], bz2.compress(b"a,b\n1,2\n")[:-3], lzma.compress(b"a,b\n1,2\n")[:-9]):
        with pytest.raises(DataError, match=r"t\.csv: cannot be read: "):
            read(table(content))
    with pytest.raises(DataError, match=r"2 files: 'a\.csv', 'b\.csv'; expected one"):
        table(zipped(a_csv=b"", b_csv=b""))
    with pytest.raises(DataError, match="a zip archive with 0 files"):
        table(zipped())
    with pytest.raises(DataError, match="no such file"):
        open_text(str(tmp_path / "none.csv"), TextOptions())
    for content in (b"", b"\n\n", b"# a\n# b\n"):
        with pytest.raises(DataError, match=r"t\.csv: .*(empty|blank|no row)"):
            table(content)
    with pytest.raises(DataError, match="line 3: a NUL byte"):
        read(table(b"a,b\n1,2\n1,\0\n"))
    for content in ("<!DOCTYPE html><p>404</p>", '{"a": [1]}', "<?xml?><VOTABLE>", "[[1, 2], [3, 4]]"):
        with pytest.raises(DataError, match="looks like"):
            table(content)


# Messages


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A title\na,b\n1,2\n3,4\n", r"line 1: expected 2 values, as in the rows below, got 1: 'A title'"),
        ("a,b\n1,2\n3\n", r"line 3: expected 2 values, got 1: '3'"),
        ("a,b\n1,2\n3,4,5\n", r"line 3: expected 2 values, got 3: '3,4,5'"),
        ('# c\n\na,b\n1,"x\ny"\n\n# c\n3\n', r"line 8: expected 2 values, got 1"),
        ('a,b\n1,"x\ny"\n2,"z\n3,4\n', r"line 4: a quote opens in this line and is not closed: '2,\"z'"),
        ('a,b\n1,"x"y\n', r"line 2: a quote with neither ',' nor the row's end"),
        ('1 2\n1 "x\n2 "y"\n', r"line 2: a cell that begins with a quote does not end"),
        ("1 2\n3 4\n5\n", r"line 3: expected 2 values, got 1: '5'"),
    ],
)
def test_lines_in_messages(table: Write, content: str, message: str) -> None:
    for end in ("\n", "\r\n", "\r"):
        with pytest.raises(DataError, match=r"t\.csv, " + message):
            read(table(content.replace("\n", end)))


def test_the_place_of_a_row(table: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_file, "CHUNK_BYTES", 40)
    monkeypatch.setattr(text_table, "BYTES_A_COLUMN", 1)
    lines = ['"a";b']
    for i in range(100):
        lines += [f'{i};"{i}\n"' if i % 7 == 0 else f"{i};x{i}", *[""] * (i % 3 == 0)]
    t = table("\n".join(lines))
    begins = {line.split(";")[0]: number for number, line in enumerate("\n".join(lines).split("\n"), 1)}
    for again in range(2):  # before the file was read through, and after it
        for i in (0, 1, 7, 56, 98, 99):
            assert t.place(i).startswith(f"{t.name}, line {begins[str(i)]} ('{i};"), again
        assert read(t, "a") == [list(range(100))]


def test_columns_that_are_not_there(table: Write) -> None:
    t = table(",".join(f"c{i}" for i in range(30)) + "\n" + ",".join("1" * 30) + "\n")
    with pytest.raises(DataError, match=r"t\.csv: no column 'z'; it has 'c0', 'c1', .*'c9', …, 'c29'"):
        list(t.blocks(["z"]))


# The two ways of reading give the same

SEEDS = 60  # of the files below, for each size of chunk


CELLS = [
    *(
        "NA",
        "?",
        "-",
        "nan",
        "NAN",
        "inf",
        "1e400",
        "1_0",
        "0x1",
        "1.5D3",
        "T",
        "+1",
        "x",
        "é",
        "٣",
        "#1",
        "%",
        "'",
        'q"q',
    ),
    *("1,5", "a;b", "1.", ".5", "-.5e-3", "1\u00a0", "1\x0b", "nan(a)", "", " 2 ", "x y", "\ttab", '"a', "two\nlines"),
    *DEFAULT_MISSING,
]


def some_file(random: Random) -> tuple[str, dict[str, Any]]:
    """A file without names, and options to read it."""
    mark = random.choice(",;\t ")
    numeric = [random.random() < 0.6 for _ in range(random.randint(1, 4))]
    odd, ragged, quotes = random.choice([0, 0.1, 0.6]), random.choice([0, 0.03]), random.choice([0, 0.5])

    def cell(is_number: bool) -> str:
        if random.random() < odd:
            text = random.choice(CELLS)
        elif is_number:
            text = random.choice([repr(random.uniform(-10, 10)), str(random.randint(-(10**20), 10**20)), "-0.0", "1e5"])
        else:
            text = random.choice(["x", "y y", "NA"])
        special = (
            mark in text or "\n" in text or text[:1] == '"' or (mark == " " and (not text or text != text.strip()))
        )
        return '"' + text.replace('"', '""') + '"' if special or random.random() < quotes else text

    lines = []
    for _ in range(random.randint(1, 30)):
        cells = [cell(is_number) for is_number in numeric][random.random() < ragged :]
        lines.append((mark * (random.randint(1, 2) if mark == " " else 1)).join(cells))
        if random.random() < 0.1:
            lines.append(
                random.choice(["", "", "", "  ", "\t"] if random.random() < 0.9 else ["# c", '"a', '"b\nc",1'])
            )
    end = random.choice(["\n", "\r\n", "\r"])
    content = random.choice(["", "# c\n"]) + "\n".join(lines) + random.choice(["", "\n"])
    options = {
        "delimiter": mark,
        "header": False,
        "decimal": random.choice("..,"),
        "missing_words": random.choice([DEFAULT_MISSING, ("x",), ("1e5", "")]),
    }
    return content.replace("\n", end), options


def outcome(path: Path, options: dict[str, Any], text: bool) -> Any:
    try:
        t = open_text(str(path), TextOptions(format="text", **options))
        found = []
        for block in t.blocks(names(t), frozenset(names(t)[:1]) if text else frozenset()):
            for values in block:
                missing = np.zeros(values.array.shape, bool) if values.missing is None else values.missing
                assert values.missing is None or missing.any()
                cells = zip(values.array[:, 0].tolist(), missing[:, 0].tolist(), strict=True)
                array = [None if gone else v if values.is_text else struct.pack("<d", v) for v, gone in cells]
                found.append((values.is_text, array))
        return found
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("chunk", [7, 40, 2**20])
def test_with_arrow_and_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    path = tmp_path / "same.csv"
    monkeypatch.setattr(text_file, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(text_table, "BYTES_A_COLUMN", 1)
    for seed in range(chunk, chunk + SEEDS):
        random = Random(seed)
        content, options = some_file(random)
        path.write_bytes(content.encode())
        text = random.random() < 0.3
        with_arrow = outcome(path, options, text)
        with monkeypatch.context() as patch:
            patch.setattr(arrow_text, "_pyarrow_csv", lambda: None)
            assert outcome(path, options, text) == with_arrow, (content, options)


@pytest.mark.parametrize(
    "content", ["a,b\n" + "1.5,x\n-2,NA\n" * 1000, ' "a"  b\n' + '1.5 "x y"\n-2\t "NA"  \n' * 1000, "a\n" + "1\n" * 9]
)
def test_arrow_reads_what_is_beyond_doubt(table: Write, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    pytest.importorskip("pyarrow.csv")
    blocks: list[bool] = []
    plain = ArrowText.values

    def counted(self: ArrowText, *args: Any) -> Any:
        found = plain(self, *args)
        blocks.append(found is not None)
        return found

    monkeypatch.setattr(ArrowText, "values", counted)
    monkeypatch.setattr(text_file, "CHUNK_BYTES", 1000)
    read(table(content))
    assert blocks
    assert all(blocks)


@given(st.text(alphabet='a" \t\n', max_size=30))
def test_single_blanks(text: str) -> None:
    text = text if text.count('"') % 2 == 0 else text.replace('"', "")
    inside, outside = text.split('"')[1::2], text.split('"')[::2]
    if not any("\n" in part for part in inside):
        kept = single_blanks(text.encode()).decode()
        assert kept.split('"')[1::2] == inside
        assert "".join("".join(outside).split()) == "".join("".join(kept.split('"')[::2]).split())
        if '"' not in text:
            assert kept == "\n".join(" ".join(line.split()) for line in text.split("\n"))


def test_where_rows_end() -> None:
    assert end_of_rows(b"a,b\nc", b",") == 4
    assert end_of_rows(b'a,"b\nc"\nd', b",") == 8
    assert end_of_rows(b'a,"b\n', b",") == 0
    assert end_of_rows(b'1\n"a""\n"\n"', b",") == 9
    assert end_of_rows(b'a,"b" \n', b",") is None
    assert end_of_rows(b'a"b\n', b",") is None


def test_memory_is_bounded_by_blocks(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n" + "1.25,2.5,word\n" * 2_000_000, encoding="ascii")  # 28 MB
    t = open_text(str(path), TextOptions())
    tracemalloc.start()
    try:
        rows = sum(len(block[0].array) for block in t.blocks(["a", "c"]))
        assert rows == 2_000_000
        assert tracemalloc.get_traced_memory()[1] < 24e6
    finally:
        tracemalloc.stop()


def test_a_row_that_does_not_end(table: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from distbp.tables import text_rows

    for module in (text_rows, text_table):
        monkeypatch.setattr(module, "LONGEST_ROW", 1000)
    monkeypatch.setattr(text_look, "LOOKED_AT", 10)
    monkeypatch.setattr(text_file, "CHUNK_BYTES", 300)
    monkeypatch.setattr(text_table, "BYTES_A_COLUMN", 1)
    with pytest.raises(DataError, match="line 4: a quote opens in this line and is not closed"):
        read(table('a,b\n1,2\n3,4\n5,"6\n' + "7,8\n" * 2000))
    with pytest.raises(DataError, match="line 3: a row of more than 1000 bytes"):
        read(table("a,b\n1,2\n" + "7," * 2000))


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = TextNumbers(TextOptions()).number(text)
    if number is not None and "d" not in text.lower():
        assert str(float(text)) == str(number)
    why_no_number(text)
