"""FITS, classic netCDF, MATLAB, Zarr and ROOT as tables; small files are written here, byte by byte."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_table_readers import not_data, read, refused, small_blocks, table, tables, write

from distbp.errors import DataError

__all__ = ["small_blocks"]
RNG = np.random.default_rng(5)


def fits_cards(**cards: Any) -> bytes:
    def text(value: Any) -> str:
        if isinstance(value, bool):
            return f"{'T' if value else 'F':>20}"
        return f"'{value}'" if isinstance(value, str) else f"{value:>20}"

    lines = [f"{key:8}= {text(value)}".ljust(80) for key, value in cards.items()] + ["END".ljust(80)]
    return "".join(lines).encode().ljust(-(-80 * len(lines) // 2880) * 2880)


def padded(content: bytes) -> bytes:
    return content.ljust(-(-len(content) // 2880) * 2880, b"\0")


def fits_table_bytes(columns: dict[str, tuple[str, np.ndarray, dict[str, Any]]], **more: Any) -> bytes:
    """A binary table: of each column the format, what is stored, and further keywords."""
    rows = len(next(iter(columns.values()))[1])
    parts = [stored.reshape(rows, -1).view(np.uint8).reshape(rows, -1) for _, stored, _ in columns.values()]
    record = np.concatenate(parts, axis=1)
    cards: dict[str, Any] = {
        "XTENSION": "BINTABLE",
        "BITPIX": 8,
        "NAXIS": 2,
        "NAXIS1": record.shape[1],
        "NAXIS2": rows,
        "PCOUNT": 0,
        "GCOUNT": 1,
        "TFIELDS": len(columns),
    }
    for i, (name, (form, _, own)) in enumerate(columns.items()):
        cards |= {f"TTYPE{i + 1}": name, f"TFORM{i + 1}": form, **{f"{key}{i + 1}": v for key, v in own.items()}}
    return fits_cards(**cards, **more) + padded(record.tobytes())


EMPTY_PRIMARY = fits_cards(SIMPLE=True, BITPIX=8, NAXIS=0)
FITS = {
    "mag": ("J", np.arange(6, dtype=">i4"), {"TNULL": 4, "TUNIT": "mag"}),
    "u2": ("I", np.array([-32768, -1, 0, 1, 2, 32767], ">i2"), {"TZERO": 32768}),
    "u8": ("K", np.full(6, -(2**63), ">i8"), {"TZERO": 9223372036854775808}),
    "i1": ("B", np.array([0, 127, 128, 129, 254, 255], "u1"), {"TZERO": -128}),
    "flux": ("2E", np.array([[1, np.nan]] * 6, ">f4"), {"TUNIT": "km / s"}),
    "scaled": ("I", np.arange(6, dtype=">i2"), {"TSCAL": 0.5, "TZERO": 10.0}),
    "grid": ("6B", np.arange(36, dtype="u1"), {"TDIM": "(3,2)"}),
    "name": ("4A", np.array(["ab  ", "c\0xx", "d''e"] * 2, "S4"), {}),
    "ok": ("L", np.array([b"T", b"F", b"\0"] * 2, "S1"), {}),
    "bits": ("10X", np.array([[0b10100000, 0b01000000]] * 6, "u1"), {}),
    "z": ("C", np.ones(6, ">c8"), {}),
    "list": ("1PJ(3)", np.zeros((6, 2), ">i4"), {}),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_fits_tables(tmp_path: Path, small_blocks: None, pack: Any) -> None:
    one = table(write(tmp_path / "a", pack(EMPTY_PRIMARY + fits_table_bytes(FITS))))
    assert not_data(one) == {
        "z": "has complex numbers; expected numbers or strings",
        "list": "has rows of different lengths; expected numbers or strings",
    }
    about = {column.name: column for column in one.columns}
    assert (about["mag"].units, about["flux"].units) == ("mag", "km / s")
    assert about["scaled"].notes == ("unpacked: 0.5 x stored + 10",)
    names = [name for name in about if not about[name].not_data]
    found = dict(zip(names, read(one, *names), strict=True))
    values = {name: column.array.reshape(-1).tolist() for name, column in found.items()}
    assert values["mag"] == [0, 1, 2, 3, 4, 5]
    assert found["mag"].missing[:, 0].tolist() == [False] * 4 + [True, False]
    assert (values["u2"], values["i1"]) == ([0, 32767, 32768, 32769, 32770, 65535], [-128, -1, 0, 1, 126, 127])
    assert (values["u8"], found["u8"].array.dtype) == ([0] * 6, np.uint64)
    assert found["flux"].missing.tolist() == [[False, True]] * 6
    assert values["scaled"] == [10, 10.5, 11, 11.5, 12, 12.5]
    assert values["name"] == ["ab", "c", "d''e"] * 2
    assert (values["ok"][:2], found["ok"].missing[:3, 0].tolist()) == ([True, False], [False, False, True])
    assert found["bits"].array[0].tolist() == [True, False, True, False, False, False, False, False, False, True]
    assert read(one, "grid[:, 1, 2]")[0].array[:, 0].tolist() == [5, 11, 17, 23, 29, 35]  # the last axis is the fastest


def test_fits_images_and_text_tables(tmp_path: Path) -> None:
    image = RNG.integers(-9, 9, (3, 2, 4)).astype(">i2")
    cards = {"NAXIS": 3, "NAXIS1": 4, "NAXIS2": 2, "NAXIS3": 3, "BSCALE": 2.0, "BZERO": 1.0, "BLANK": -9}
    primary = fits_cards(SIMPLE=True, BITPIX=16, **cards, BUNIT="Jy") + padded(image.tobytes())
    alone = table(write(tmp_path / "i", primary))
    assert [(column.name, column.units) for column in alone.columns] == [("image", "Jy")]
    found = read(alone, "image")[0]
    assert np.array_equal(found.array, 2.0 * image.reshape(3, 8) + 1)
    assert (found.missing is None) == (not (image == -9).any())
    lines = b"  1 1.5D+01 ab", b"  - 2.5E-01 c ", b" 30 1.0     d "
    text = fits_cards(XTENSION="TABLE", BITPIX=8, NAXIS=2, NAXIS1=14, NAXIS2=3, PCOUNT=0, GCOUNT=1, TFIELDS=3,
                      TTYPE1="n", TFORM1="I3", TBCOL1=1, TNULL1="-", TTYPE2="v", TFORM2="D8.1", TBCOL2=4,
                      TTYPE3="s", TFORM3="A2", TBCOL3=13, EXTNAME="CAT")  # fmt: skip
    both = table(write(tmp_path / "b", primary + text + padded(b"".join(lines))))
    n, v, s = read(both, "CAT/n", "CAT/v", "CAT/s")
    assert (n.array[[0, 2], 0].tolist(), n.missing[:, 0].tolist()) == ([1, 30], [False, True, False])
    assert (v.array[:, 0].tolist(), s.array[:, 0].tolist()) == ([15, 0.25, 1], ["ab", "c", "d"])
    packed = fits_table_bytes({"a": ("B", np.zeros(3, "u1"), {})}, ZIMAGE=True)
    refused("is compressed inside; unpack it first: funpack", write(tmp_path / "z", EMPTY_PRIMARY + packed))


def test_damaged_fits(tmp_path: Path) -> None:
    whole = EMPTY_PRIMARY + fits_table_bytes(FITS)
    refused("ends inside the header", write(tmp_path / "a", whole[: 2880 + 700]))
    refused("it is cut or damaged", write(tmp_path / "b", whole[:-2880]))
    for old, new in ((b"'10X'", b"'10Y'"), (b"'2E'", b"'9E'"), (b"NAXIS1  = ", b"NAXIS1  =-"), (b"END", b"ENE")):
        path = write(tmp_path / "c", whole.replace(old, new))
        with pytest.raises(DataError):
            read(table(path), "mag")


def netcdf(
    version: int,
    dimensions: dict[str, int],
    variables: dict[str, tuple[list[str], int, np.ndarray, dict[str, tuple[int, Any]]]],
    records: int = 0,
) -> bytes:
    """A classic file after the specification.  A dimension of length 0 is the unlimited one, with `records`."""

    def count(n: int) -> bytes:
        return struct.pack(">q" if version == 5 else ">i", n)

    def name(text: str) -> bytes:
        return count(len(text)) + text.encode().ljust(-(-len(text) // 4) * 4, b"\0")

    def items(tag: int, them: list[bytes]) -> bytes:
        return struct.pack(">i", tag if them else 0) + count(len(them)) + b"".join(them)

    def attribute(key: str, kind: int, value: Any) -> bytes:
        raw = value.encode() if kind == 2 else np.atleast_1d(value).astype(CODES[kind]).tobytes()
        length = len(raw) // np.dtype(CODES[kind]).itemsize
        return name(key) + struct.pack(">i", kind) + count(length) + raw.ljust(-(-len(raw) // 4) * 4, b"\0")

    def header(begins: dict[str, int]) -> bytes:
        order = list(dimensions)
        them = [
            name(key)
            + count(len(axes))
            + b"".join(count(order.index(axis)) for axis in axes)
            + items(12, [attribute(k, *value) for k, value in attributes.items()])
            + struct.pack(">i", kind)
            + count(0)
            + struct.pack(">i" if version == 1 else ">q", begins.get(key, 0))
            for key, (axes, kind, _, attributes) in variables.items()
        ]
        sizes = items(10, [name(key) + count(length) for key, length in dimensions.items()])
        return b"CDF" + bytes([version]) + count(records) + sizes + items(12, []) + items(11, them)

    def four(raw: bytes) -> bytes:
        return raw.ljust(-(-len(raw) // 4) * 4, b"\0")

    begins, at, content = {}, len(header({})), b""
    grows = [key for key, (axes, *_) in variables.items() if axes and dimensions[axes[0]] == 0]
    for key, (_, kind, values, _) in variables.items():
        if key not in grows:
            begins[key] = at + len(content)
            content += four(values.astype(CODES[kind]).tobytes())
    stored = {key: variables[key][2].astype(CODES[variables[key][1]]) for key in grows}
    one_record = {key: [four(stored[key][i : i + 1].tobytes()) for i in range(records)] for key in grows}
    offset = at + len(content)
    for key in grows:
        begins[key], offset = offset, offset + len(one_record[key][0])
    for i in range(records):
        content += b"".join(one_record[key][i] for key in grows)
    return header(begins) + content


CODES = {1: ">i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8", 7: ">u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
T2M = RNG.integers(-500, 500, (5, 3, 4))
KINDS = np.array([list("ab "), list("c\0x"), list("def"), list("g  "), list("hi ")], "S1")


def weather(version: int) -> bytes:
    packed = {"scale_factor": (6, 0.01), "add_offset": (6, 280.0), "_FillValue": (3, -999), "units": (2, "K")}
    t2m = T2M.copy()
    t2m[0, 0, 0] = -999
    return netcdf(
        version,
        {"time": 0, "lat": 3, "lon": 4, "letters": 3},
        {
            "lat": (["lat"], 5, np.array([1.5, 2.5, 3.5]), {}),
            "time": (["time"], 6, np.arange(5), {"units": (2, "hours since 2000-01-01")}),
            "t2m": (["time", "lat", "lon"], 3, t2m, packed),
            "flag": (["time"], 1, np.array([-1, 0, 1, 2, -128]), {"_Unsigned": (2, "true")}),
            "kind": (["time", "letters"], 2, KINDS, {}),
            "height": (["lat", "lon"], 5, np.arange(12).reshape(3, 4), {"valid_range": (5, [0, 10])}),
            "never": (["time"], 6, np.full(5, 9.969209968386869e36), {}),
        },
        records=5,
    )


@pytest.mark.parametrize("version", [1, 2, 5])
def test_classic_netcdf(tmp_path: Path, small_blocks: None, version: int) -> None:
    one = table(write(tmp_path / "w", weather(version)))
    assert not_data(one) == {
        "lat": "coordinate of the dimension lat",
        "time": "coordinate of the dimension time",
        "height": "3 rows, where t2m has 5",
    }
    about = one.column("t2m")
    assert (about.units, about.notes) == ("K", ("missing where -999 is stored", "unpacked: 0.01 x stored + 280"))
    t2m, flag, kind, never = read(one, "t2m", "flag", "kind", "never")
    assert np.array_equal(t2m.array[1:], (T2M * 0.01 + 280).reshape(5, 12)[1:])
    assert t2m.missing.sum() == t2m.missing[0, 0] == 1
    assert flag.array[:, 0].tolist() == [255, 0, 1, 2, 128]
    assert kind.array[:, 0].tolist() == ["ab", "c", "def", "g", "hi"]
    assert never.missing.all()
    height = read(one, "height")[0]
    assert (height.array[1].tolist(), height.missing[2].tolist()) == ([4, 5, 6, 7], [False, False, False, True])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t2m[:, 1, 2]", T2M[:, 1, 2]),
        ("t2m[:, samples, 0]", T2M[:, :, 0].T),
        ("t2m[time=1, lon=samples]", T2M[1].T),
        ("t2m[samples, samples, 1::2]", T2M[:, :, 1::2].reshape(15, 2)),
        ("t2m[1::2, samples, samples]", T2M[1::2].transpose(1, 2, 0).reshape(12, 2)),
        ("t2m[-1, 0:2, samples]", T2M[-1, 0:2].T),
    ],
)
def test_samples_along_any_axis_of_netcdf(tmp_path: Path, small_blocks: None, name: str, expected: np.ndarray) -> None:
    one = table(write(tmp_path / "w", weather(2)))
    found = read(one, name)[0]
    want = (expected * 0.01 + 280).reshape(len(expected), -1)
    there = slice(None) if found.missing is None else ~found.missing
    assert found.array.shape == want.shape
    assert np.array_equal(found.array[there], want[there])
    with pytest.raises(DataError, match="number 7 of 3; expected 0 to 2"):
        one.column("t2m[:, 7, samples]")


def test_damaged_netcdf(tmp_path: Path) -> None:
    whole = weather(1)
    refused("ends inside its header", write(tmp_path / "a", whole[:60]))
    refused("it is cut or damaged", write(tmp_path / "b", whole[:-5]))
    for at in range(4, 300, 4):
        path = write(tmp_path / "c", whole[:at] + b"\x7f\xff\xff\xff" + whole[at + 4 :])
        try:
            one = table(path)
            for column in one.columns:
                list(one.blocks([column.name]))
        except DataError:
            pass


def test_matlab(tmp_path: Path, small_blocks: None) -> None:
    io = pytest.importorskip("scipy.io")
    x, y = RNG.standard_normal((9, 4)), np.arange(9.0)
    io.savemat(
        tmp_path / "m",
        {
            "X": x,
            "y": y,
            "whole": np.arange(9.0)[:, None],
            "complex": x + 1j,
            "words": np.array(["one", "two", ""] * 3, object),
            "letters": np.array(["ab", "cd", "ef"] * 3),
            "s": {"a": x, "b": {"c": y}},
            "single": 3.0,
            "cells": np.array([{"a": 1}], object),
        },
        appendmat=False,
    )
    one = table(tmp_path / "m")
    wrong = not_data(one)
    assert set(wrong) == {"complex", "single", "cells"}
    assert "complex128" in wrong["complex"]
    assert one.column("y").notes == ("a row vector, taken as a column",)
    found = read(one, "X", "y", "whole", "words", "letters", "s.a", "s.b.c")
    assert np.array_equal(found[0].array, x)
    assert np.array_equal(found[5].array, x)
    assert found[1].array[:, 0].tolist() == found[6].array[:, 0].tolist() == y.tolist()
    assert found[2].array.dtype == np.float64  # MATLAB's double, in bytes in the file
    assert found[3].array[:3, 0].tolist() == ["one", "two", ""]
    assert found[4].array[:3, 0].tolist() == ["ab", "cd", "ef"]
    assert np.array_equal(read(one, "X[:, samples]")[0].array, x.T)
    parts = {part: {"images": x[:n], "labels": y[:n, None]} for part, n in (("test", 2), ("train", 9))}
    io.savemat(tmp_path / "e", {"dataset": {**parts, "mapping": np.eye(3)}}, appendmat=False)
    assert {part: read(them[0], "images")[0].array.shape for part, them in tables(tmp_path / "e").items()} == {
        "train": (9, 4),
        "test": (2, 4),
    }
    with pytest.raises(DataError, match="cannot be read by SciPy"):
        table(write(tmp_path / "cut", (tmp_path / "m").read_bytes()[:500]))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path: Path, small_blocks: None, version: Any) -> None:
    zarr = pytest.importorskip("zarr")
    x = RNG.standard_normal((20, 3))
    group = zarr.open_group(tmp_path / "z", mode="w", zarr_format=version)
    group.create_array("x", data=x, chunks=(6, 2))
    group.create_array("in/y", data=np.arange(20), chunks=(20,))
    one = table(tmp_path / "z")
    assert np.array_equal(read(one, "x", "in/y")[0].array, x)
    assert read(one, "x[:, 1]", "in/y")[1].array[:, 0].tolist() == list(range(20))
    zarr.create_array(tmp_path / "a", data=x, chunks=(9, 9), zarr_format=version)
    assert np.array_equal(read(table(tmp_path / "a"), "x")[0].array, x)


def test_zarr_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    write(tmp_path / "zarr.json", b"{}")
    refused(r"reading Zarr needs zarr: pip install 'distbp\[tables\]'", tmp_path)


def test_root(tmp_path: Path, small_blocks: None) -> None:
    uproot = pytest.importorskip("uproot")
    x, v = RNG.standard_normal(40), RNG.standard_normal((40, 3)).astype("f4")
    with uproot.recreate(tmp_path / "r.root") as file:
        file.mktree("t", {"x": "f8", "v": np.dtype(("f4", (3,)))})
        file["t"].extend({"x": x, "v": v})
    one = table(tmp_path / "r.root")
    assert np.array_equal(read(one, "x")[0].array[:, 0], x)
    assert np.array_equal(read(one, "v[:, 1:]")[0].array, v[:, 1:])
    with pytest.raises(DataError, match="cannot be read by uproot"):
        read(table(write(tmp_path / "cut", (tmp_path / "r.root").read_bytes()[:700])), "x")
