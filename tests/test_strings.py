"""Strings of any length in HDF5 files: read as h5py reads them, and refused in words where a heap is damaged.

The library itself does not end in some damaged files; so what reads them is a process with a time limit.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import BIN, LIMIT, environment, forks

from distbp.data.locate import find
from distbp.data.reader import Reader
from distbp.tables.hdf5_table import hdf5_tables

TEXT = h5py.string_dtype()
NAMES = ["cat", "", "Übergröße", "a dog", "x" * 70, "cat", "日本語", "cats", "y" * 5000, "e"]
NESTED = np.dtype([("n", "i2"), ("inner", [("s", TEXT), ("f", "f4")]), ("name", TEXT), ("z", "f8")])
TABLE = np.dtype(
    [("a", "i1"), ("pair", TEXT, (2,)), ("list", h5py.vlen_dtype("i4")), ("name", TEXT), ("x", "f8"), ("fix", "S4")]
)


def many(count: int) -> np.ndarray[Any, Any]:
    return np.array([NAMES[i * 7 % len(NAMES)] for i in range(count)], object)


def read(path: Path, name: str, split: str = "train", start: int = 0, stop: int | None = None) -> list[Any]:
    layout = find([str(path)], split, name, None)
    stop = layout.rows if stop is None else stop
    out = np.empty((stop - start, layout.width("x")), layout.dtype("x"))
    with Reader(layout) as reader:
        reader.read("x", start, stop, out)
    return out.tolist()


def as_h5py(values: Any) -> list[Any]:
    return [[v.decode() if isinstance(v, bytes) else v for v in np.ravel(row)] for row in values]


LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (7,)},
    "one large chunk": {"chunks": (500,), "maxshape": (None,)},
    "gzip": {"chunks": (16,), "compression": "gzip"},
    "shuffled": {"chunks": (16,), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (16,), "compression": "lzf"},
}


@pytest.mark.parametrize("libver", ["earliest", "latest", "v108"])
@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("how", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_read_as_h5py_reads_it(
    tmp_path: Path, how: dict[str, Any], userblock: int, libver: str
) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("train/y", data=many(300), dtype=TEXT, **how)
    with h5py.File(path) as file:
        expected = as_h5py(file["train/y"][()])
    assert read(path, "y") == expected
    assert read(path, "y", start=31, stop=77) == expected[31:77]


@pytest.mark.parametrize("how", LAYOUTS.values(), ids=LAYOUTS)
def test_fields_of_tables(tmp_path: Path, how: dict[str, Any]) -> None:
    table = np.zeros(60, TABLE)
    table["a"], table["x"], table["name"], table["fix"] = np.arange(60), np.arange(60) / 7, many(60), b"abc"
    table["pair"] = many(120).reshape(60, 2)
    table["list"] = [np.arange(i, dtype="i4") for i in range(60)]
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("train", data=table, **how)
    values = {name: as_h5py(table[name]) for name in ("pair", "name", "fix")}
    for name, expected in values.items():
        assert read(tmp_path / "s.h5", name) == expected
    together = [[a, *pair, x] for a, pair, x in zip(table["a"], values["pair"], table["x"], strict=True)]
    assert read(tmp_path / "s.h5", "a,pair,x") == together


def test_what_was_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for fill in (None, "none"):
            for name, chunks in (("whole", None), ("chunked", (4,)), ("tall", (4, 1))):
                shape = (10, 3) if name == "tall" else (10,)
                file.create_dataset(f"train/{name}-{fill}", shape, TEXT, fillvalue=fill, chunks=chunks)
            file[f"train/chunked-{fill}"][5] = "a"
            file[f"train/tall-{fill}"][5, 1] = "a"
        expected = {name: as_h5py(one[()]) for name, one in file["train"].items()}
    for name, values in expected.items():
        assert read(tmp_path / "s.h5", name) == values, name
    assert {value for (value,) in expected["chunked-none"]} == {"a", "none"}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_values_in_the_header_itself(tmp_path: Path, libver: str) -> None:
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    with h5py.File(tmp_path / "s.h5", "w", libver=libver) as file:
        group, space = file.create_group("train"), h5py.h5s.create_simple((10,))
        h5py.Dataset(h5py.h5d.create(group.id, b"y", h5py.h5t.py_create(TEXT, logical=True), space, dcpl=how))[:] = (
            NAMES
        )
    assert read(tmp_path / "s.h5", "y") == [[name] for name in NAMES]


def test_a_zero_ends_a_string(tmp_path: Path) -> None:
    """As in C; h5py does not write such, others do."""
    file = Damaged(tmp_path / "d.h5")
    file.path.write_bytes(file.content.replace(b"cat", b"c\0t"))
    with h5py.File(file.path) as opened:
        assert set(opened["train/y"].asstr()[()]) == {"c", "dog"}
    assert read(file.path, "y") == [["c"], ["dog"]] * 100


def test_addresses_of_four_bytes(tmp_path: Path) -> None:
    how = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    how.set_sizes(4, 4)
    with h5py.File(h5py.h5f.create(bytes(tmp_path / "s.h5"), fcpl=how)) as file:
        file["train/x"], file["train/y"] = np.ones((3, 1)), np.array(["a", "b", "c"], TEXT)
    check_refused(tmp_path / "s.h5", "s.h5: train/y: its file has addresses of other than 8 bytes")


class Damaged:
    """A file with 200 strings as labels, to be damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with h5py.File(path, "w") as file:
            file["train/x"] = np.arange(400.0).reshape(200, 2)
            file.create_dataset("train/y", data=np.array(["cat", "dog"] * 100, TEXT))
        self.content = path.read_bytes()


READ = """
import sys
from distbp.data.split import read_split
from distbp.errors import DistbpError
from distbp.ranks.communicator import OneProcess
try:
    read_split(OneProcess(), [sys.argv[1]], "train", "x", "y")
except DistbpError as error:
    sys.exit(str(error))
"""


def commands(path: Path) -> list[list[Any]]:
    """All that read labels."""
    run = ["--epochs", "1", "--hidden", "3", "--validation-split", "", "--out", path.parent / "run"]
    return [
        [BIN / "distbp", "train", path, *run],
        [BIN / "distbp", "inspect", path],
        [BIN / "distbp", "import", path, "--split", "train", "--out", path.parent / "new.h5"],
    ]


def check_refused(path: Path, *words: str, by_all: bool = False) -> None:
    """Soon, and in words."""
    for command in commands(path) if by_all else [["python", READ, path]]:
        done = forks().run_apart([*map(str, command)], path.parent, environment(), LIMIT)
        assert done.returncode == 1, (command, done)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        for word in words:
            assert word in done.stderr, (command, done.stderr)


@pytest.mark.slow
def test_a_damaged_heap(tmp_path: Path) -> None:
    """Every command names file, data set and row.  All that is refused is in `test_string_heap`."""
    file = Damaged(tmp_path / "d.h5")
    file.path.write_bytes(file.content.replace(b"GCOL", b"LOCG"))
    words = ("d.h5: train/y", "row 0: refers to the heap at byte", "write or copy it again")
    check_refused(file.path, *words, by_all=True)


@pytest.mark.slow
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_damage_where_hdf5_looks_as_it_opens_a_data_set(tmp_path: Path, libver: str) -> None:
    """What stands where nothing was written is in a heap, too; so is what a virtual data set is made of."""
    path = tmp_path / "d.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file["train/x"] = np.ones((4, 2))
        file.create_dataset("train/y", (4,), TEXT, fillvalue="none")
    path.write_bytes(path.read_bytes().replace(b"GCOL", b"LOCG"))
    check_refused(path, "d.h5: train/y: the heap at byte", "where there is none", by_all=True)


@pytest.mark.slow
def test_a_damaged_virtual_data_set(tmp_path: Path) -> None:
    path, layout = tmp_path / "d.h5", h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 2))
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("train/x", layout)
        file["train/y"] = np.arange(4)
    path.write_bytes(path.read_bytes().replace(b"GCOL", b"LOCG"))
    check_refused(path, "d.h5: train/x: the heap at byte", "where there is none", by_all=True)


def test_other_fields_of_a_table_are_read_past_a_damaged_heap(tmp_path: Path) -> None:
    file = Damaged(tmp_path / "d.h5")
    table = np.zeros(20, [("name", TEXT), ("x", "f8")])
    table["name"], table["x"] = "cat", np.arange(20)
    with h5py.File(file.path, "w") as new:
        new["train"] = table
    content = file.path.read_bytes()
    file.path.write_bytes(content.replace(b"GCOL", b"LOCG"))
    code = f"import test_strings, pathlib; print(test_strings.read(pathlib.Path({str(file.path)!r}), 'x')[19])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == "[19.0]\n", done


def test_tables_for_import_open_no_damaged_member(tmp_path: Path) -> None:
    file = Damaged(tmp_path / "d.h5")
    file.path.write_bytes(file.content)
    (table,) = hdf5_tables(str(file.path), "train", (), trust_links=False).values()
    assert sorted(column.name for column in table.columns) == ["x", "y"]
