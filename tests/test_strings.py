"""Strings of any length in HDF5 files: read as h5py reads them, and refused in words where a heap is damaged.

The library itself goes in circles for ever in some of these files; so what reads them is a process with a time limit.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import BIN, LIMIT, environment

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
    """A file with 200 strings as labels, and where what can be damaged in it is."""

    def __init__(self, path: Path, **how: Any) -> None:
        self.path = path
        with h5py.File(path, "w") as file:
            file["train/x"] = np.arange(400.0).reshape(200, 2)
            file.create_dataset("train/y", data=np.array(["cat", "dog"] * 100, TEXT), **how)
            self.row = file["train/y"].id.get_offset()
        self.content = bytearray(path.read_bytes())
        self.heap = self.content.index(b"GCOL")

    def free(self) -> int:
        """Where the free space of the first heap begins."""
        at = self.heap + 16
        while number := self.number(at, "<H"):
            assert number
            at += 16 + (self.number(at + 8) + 7 & ~7)
        return at

    def number(self, at: int, size: str = "<Q") -> int:
        return int(struct.unpack_from(size, self.content, at)[0])

    def put(self, at: int, number: int, size: str = "<Q") -> None:
        struct.pack_into(size, self.content, at, number)


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
    for command in commands(path) if by_all else [[sys.executable, "-c", READ, path]]:
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 1, (command, done)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        for word in words:
            assert word in done.stderr, (command, done.stderr)


DAMAGE: dict[str, tuple[Callable[[Damaged], None], str]] = {
    "free space of no length": (lambda d: d.put(d.free() + 8, 0), "row 0: refers to a heap whose object 0 has 0 bytes"),
    "free space of 8 bytes": (lambda d: d.put(d.free() + 8, 8), "row 0: refers to a heap whose object 0 has 8 bytes"),
    "free space beyond the end": (
        lambda d: d.put(d.free() + 8, 2**40),
        "a heap whose object 0 has 1099511627776 bytes",
    ),
    "an object of no length": (lambda d: d.put(d.heap + 24, 0), "refers to a heap that has an object"),
    "an object beyond the end": (lambda d: d.put(d.heap + 24, 5000), "row 0: refers to a heap whose object"),
    "an object longer than any": (lambda d: d.put(d.heap + 24, 2**64 - 17), "row 0: refers to a heap whose object"),
    "an object of nearly 2**63": (lambda d: d.put(d.heap + 24, 2**63 - 1), "row 0: refers to a heap whose object"),
    "a number twice": (lambda d: d.put(d.heap + 40, d.number(d.heap + 16, "<H"), "<H"), "twice"),
    "no heap": (lambda d: d.put(d.heap, 0, "<I"), "row 0: refers to the heap at byte"),
    "another version": (lambda d: d.put(d.heap + 4, 2, "<B"), "row 0: refers to the heap at byte"),
    "a heap of no length": (lambda d: d.put(d.heap + 8, 0), "of 0 bytes; expected 4096 to"),
    "a heap longer than the file": (lambda d: d.put(d.heap + 8, 2**20), "which ends after the file"),
    "a heap longer than memory": (lambda d: d.put(d.heap + 8, 2**60), "bytes; expected 4096 to"),
    "a number that is not there": (
        lambda d: d.put(d.row + 16 * 3 + 12, 60000, "<I"),
        "row 3: refers to string 60000, of",
    ),
    "a number of the next heap": (
        lambda d: d.put(d.row + 16 * 3 + 12, 2**32 - 1, "<I"),
        "row 3: refers to string 4294",
    ),
    "number 0": (lambda d: d.put(d.row + 16 * 3 + 12, 0, "<I"), "row 3: refers to string 0"),
    "a string longer than its object": (lambda d: d.put(d.row + 16 * 3, 4, "<I"), "of 4 bytes, of the heap at byte"),
    "a string longer than memory": (lambda d: d.put(d.row + 16 * 3, 2**32 - 1, "<I"), "row 3: refers to string"),
    "an address beyond the end": (lambda d: d.put(d.row + 16 * 3 + 4, 2**50), "row 3: refers to the heap at byte 112"),
    "an address of nearly 2**64": (
        lambda d: d.put(d.row + 16 * 3 + 4, 2**64 - 2),
        "row 3: refers to the heap at byte 18",
    ),
    "an address of the row itself": (lambda d: d.put(d.row + 16 * 3 + 4, d.row), "row 3: refers to the heap at byte"),
    "an address of nothing": (
        lambda d: d.put(d.row + 16 * 3 + 4, 0),
        "row 3: refers to a string of 3 bytes that is now",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_heap(tmp_path: Path, damage: Callable[[Damaged], None], words: str) -> None:
    file = Damaged(tmp_path / "d.h5")
    damage(file)
    file.path.write_bytes(file.content)
    by_all = words.startswith("row 0: refers to a heap whose object 0 has 0")
    check_refused(file.path, "d.h5: train/y", words, "write or copy it again", by_all=by_all)


def test_a_heap_inside_another(tmp_path: Path) -> None:
    """Many of them, each of which leads through all that follow, would take a time that is the square of the file's."""
    file = Damaged(tmp_path / "d.h5")
    inner = file.heap + 16 + 16
    file.content[inner : inner + 16] = struct.pack("<4sB3xQ", b"GCOL", 1, 4096)
    file.put(file.row + 16 + 4, inner)
    file.path.write_bytes(file.content)
    check_refused(file.path, "d.h5: train/y, row", "with another one inside it")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_damage_where_hdf5_looks_as_it_opens_a_data_set(tmp_path: Path, libver: str) -> None:
    """What stands where nothing was written is in a heap, too; so is what a virtual data set is made of."""
    path = tmp_path / "d.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file["train/x"] = np.ones((4, 2))
        file.create_dataset("train/y", (4,), TEXT, fillvalue="none")
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 48 : heap + 56] = bytes(8)  # the length of the free space after one string
    path.write_bytes(content)
    check_refused(path, "d.h5: train/y: a heap whose object 0 has 0 bytes", by_all=True)


def test_a_damaged_virtual_data_set(tmp_path: Path) -> None:
    path, layout = tmp_path / "d.h5", h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 2))
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("train/x", layout)
        file["train/y"] = np.arange(4)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    free = heap + 32 + (int.from_bytes(content[heap + 24 : heap + 32], "little") + 7 & ~7)
    content[free + 8 : free + 16] = bytes(8)
    path.write_bytes(content)
    check_refused(path, "d.h5: train/x: a heap whose object 0 has 0 bytes", by_all=True)


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


@pytest.mark.parametrize("kind", ["strings", "numbers"])
def test_a_chunk_longer_than_a_chunk(tmp_path: Path, kind: str) -> None:
    """Asked for the bytes of such a chunk, HDF5 2.0 writes past the end of its memory; found by mutated files."""
    path = tmp_path / "d.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        values = np.array(["cat", "dog"] * 10, TEXT) if kind == "strings" else np.arange(40) % 2
        file["train/x"] = np.zeros((len(values), 2))
        file.create_dataset("train/y", data=values, chunks=(10,) if kind == "strings" else (20,))
    key = (160).to_bytes(8, "little")  # in the B-tree: size, and a mask of filters
    content = path.read_bytes()
    assert content.count(key + bytes(8)) == 1
    path.write_bytes(content.replace(key + bytes(8), (1600).to_bytes(8, "little") + bytes(8)))
    check_refused(path, "d.h5: train/y: a chunk of 1600 bytes at (0,)")
