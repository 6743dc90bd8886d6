"""Stored values mean what the libraries that wrote them say: packed, missing, named, joined, turned.

The files are made with h5py in the way of those libraries; what is expected is worked out by hand.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import LIMIT, environment

from distbp.data.attributes import Attributes
from distbp.data.stored import Stored, open_stored, why_not_data
from distbp.errors import DataError

NAN = float("nan")
FILL = 9.969209968386869e36


class One:
    """A file that is written, and then read."""

    def __init__(self, path: Path, **how: Any) -> None:
        self.path, self.file = path, h5py.File(path, "w", **how)

    def add(self, values: Any, attributes: dict[str, Any] | None = None, name: str = "v", **how: Any) -> One:
        dataset = self.file.create_dataset(name, data=values, **how)
        for key, value in (attributes or {}).items():
            dataset.attrs[key] = value
        return self

    def open(self, name: str = "v", field: str | None = None) -> Stored:
        self.file.flush()
        return open_stored(self.file, "a.h5", self.file[name], field)

    def read(self, name: str = "v", field: str | None = None) -> tuple[list[Any], list[Any] | None]:
        stored = self.open(name, field)
        values, missing = stored.read((slice(None),) * len(stored.shape))
        assert values.dtype == stored.dtype
        assert values.shape == stored.shape
        assert stored.is_plain == (not stored.notes)
        return values.tolist(), None if missing is None else missing.tolist()


@pytest.fixture
def one(tmp_path: Path) -> One:
    return One(tmp_path / "a.h5")


def same(found: list[Any], expected: list[Any]) -> bool:
    return np.array_equal(np.array(found, float), np.array(expected, float), equal_nan=True)


# Plain


def test_a_data_set_without_conventions_is_plain(one: One) -> None:
    one.add(np.arange(12, dtype=">f4").reshape(4, 3), {"units": "K", "columns": [b"a", b"b", b"c"]})
    stored = one.open()
    assert (stored.is_plain, stored.notes, stored.units) == (True, (), "K")
    assert stored.columns == ("a", "b", "c")
    assert stored.dtype == np.dtype("=f4")
    assert stored.chunks is None
    assert stored.read((slice(1, 4, 2), -1))[0].tolist() == [5, 11]
    assert stored.read((2, slice(0, 2)))[0].tolist() == [6, 7]
    assert stored.read((slice(2, 2), slice(None)))[0].shape == (0, 3)


def test_units_of_each_column_of_a_data_set(one: One) -> None:
    one.add(np.zeros((2, 2)), {"units": np.array([b"m", b"s"]), "columns": np.array([b"a", "µ".encode(), b"c"])})
    stored = one.open()
    assert (stored.units, stored.column_units) == ("", ("m", "s"))
    assert stored.columns == ()  # three names for two numbers are for something else


def test_any_index_is_that_of_numpy(one: One) -> None:
    one.add(np.arange(60, dtype="i2").reshape(5, 4, 3), {"scale_factor": 0.5}, chunks=(2, 3, 2))
    whole = np.arange(60).reshape(5, 4, 3) * 0.5
    some: list[tuple[int | slice, ...]] = [
        (slice(None), 1, slice(0, 3, 2)),
        (4, slice(1, 9), -3),
        (slice(0, 5, 3), slice(-2, None), slice(None)),
        (0, 0, 0),
    ]
    for index in some:
        assert one.open().read(index)[0].tolist() == whole[index].tolist()


def test_fields_of_a_table_and_their_own_axes(one: One) -> None:
    table = np.zeros(3, [("a", "i1"), ("m", ">f8", (2, 2)), ("s", "S3")])
    table["a"], table["m"], table["s"] = [1, 2, 3], np.arange(12).reshape(3, 2, 2), b"xy"
    one.add(table)
    assert one.read(field="a")[0] == [1, 2, 3]
    assert one.open(field="m").read((slice(0, 3, 2), 1, slice(None)))[0].tolist() == [[2, 3], [10, 11]]
    assert one.read(field="s")[0] == ["xy"] * 3
    with pytest.raises(DataError, match=r"a\.h5: v is a table; name a field of it: a\.h5: v\.a"):
        one.open()


# netCDF


def test_packed_numbers(one: One) -> None:
    attributes = {"scale_factor": np.array([0.01]), "add_offset": np.array([280.0]), "_FillValue": np.int16([-32768])}
    one.add(np.array([[0, 100], [-32768, -250]], "i2"), attributes)
    values, missing = one.read()
    assert same(values, [[280, 281], [NAN, 277.5]])
    assert missing == [[False, False], [True, False]]
    assert one.open().notes == ("missing where -32768 is stored", "unpacked: 0.01 x stored + 280")
    assert one.open().dtype == np.float64


@pytest.mark.parametrize(
    ("stored", "scale", "expected"),
    [
        ("i2", np.float32(0.5), "f4"),  # every i2 is exact in float32
        ("i4", np.float32(0.5), "f8"),  # an i4 is not
        ("i2", 0.5, "f8"),
        ("f4", np.float32(0.5), "f4"),
        ("f4", 0.5, "f8"),
        ("i2", 1.0, "i2"),  # nothing to unpack
    ],
)
def test_type_of_unpacked_numbers(one: One, stored: str, scale: float, expected: str) -> None:
    one.add(np.arange(4, dtype=stored), {"scale_factor": scale, "add_offset": type(scale)(0)})
    assert one.open().dtype == np.dtype(expected)
    assert one.read()[0] == [0, scale, 2 * scale, 3 * scale]


def test_several_missing_values_in_another_type(one: One) -> None:
    one.add(np.array([1, 1e20, -9999, 4], "f4"), {"missing_value": np.array([1e20, -9999.0])})
    values, missing = one.read()
    assert same(values, [1, NAN, NAN, 4])
    assert missing == [False, True, True, False]


def test_integers_stay_integers_where_some_are_missing(one: One) -> None:
    one.add(np.array([1, -1, 0], "i1"), {"_FillValue": np.int8([-1]), "missing_value": 0.5})
    assert one.open().dtype == np.int8
    assert one.read()[1] == [False, True, False]


def test_nan_as_fill_value_leaves_a_float_plain(one: One) -> None:
    one.add(np.array([1.0, NAN]), {"_FillValue": np.array([NAN])})
    assert one.open().is_plain


def test_nan_is_missing_too_where_other_values_are(one: One) -> None:
    one.add(np.array([1.0, NAN, -9.0]), {"_FillValue": np.array([-9.0])})
    assert one.read()[1] == [False, True, True]


@pytest.mark.parametrize(
    "attributes",
    [
        {"valid_range": np.int16([-100, 100])},
        {"valid_min": np.int16(-100), "valid_max": np.int16(100)},
        {"valid_range": np.int32([-100, 100])},
        {"valid_range": np.int16([-500, 100]), "valid_min": np.int16([-100])},
    ],
)
def test_valid_range_is_that_of_packed_values(one: One, attributes: dict[str, Any]) -> None:
    one.add(np.array([-101, -100, 0, 100, 101], "i2"), {"scale_factor": 10.0, **attributes})
    values, missing = one.read()
    assert same(values, [NAN, -1000, 0, 1000, NAN])
    assert missing == [True, False, False, False, True]


def test_valid_range_of_floats_in_another_type(one: One) -> None:
    one.add(np.array([0.1, 0.2], "f4"), {"valid_max": 0.1})  # the float32 that is nearest to 0.1 is larger
    assert one.read()[1] == [False, True]


def test_valid_range_that_may_be_packed_or_not_is_refused_where_that_matters(one: One) -> None:
    attributes = {"scale_factor": 0.01, "add_offset": 280.0, "valid_range": np.array([180.0, 330.0])}
    one.add(np.array([200, 250], "i2"), attributes, "both")
    assert one.read("both")[1] is None
    one.add(np.array([200, 0], "i2"), attributes)
    with pytest.raises(DataError, match=r"a\.h5: v, row 1: the stored 0, unpacked 280, is inside its valid range if"):
        one.read()


def test_unsigned(one: One) -> None:
    one.add(np.array([-1, 5, -128], "i1"), {"_Unsigned": "true"}, "plain")
    assert one.read("plain") == ([255, 5, 128], None)
    assert one.open("plain").dtype == np.uint8
    one.add(np.array([-1, 5, -2], "i1"), {"_Unsigned": "true", "scale_factor": 0.5, "_FillValue": np.int8(-1)})
    values, missing = one.read()
    assert same(values, [NAN, 2.5, 127])
    assert missing == [True, False, False]
    one.add(np.array([-1, 5, -2], "i1"), {"_Unsigned": "true", "valid_range": np.int8([0, -2])}, "range")
    assert one.read("range")[1] == [True, False, False]


def netcdf_variable(one: One, values: Any, fill: Any, name: str = "v") -> None:
    """With HDF5's own fill value, and an attribute that netCDF leaves."""
    dataset = one.file.create_dataset(name, data=values, fillvalue=fill)
    dataset.attrs["_Netcdf4Dimid"] = np.int32(0)


@pytest.mark.parametrize(
    ("dtype", "fill"), [("f4", FILL), ("f8", FILL), ("i2", -32767), ("i4", -(2**31) + 1), ("u8", 2**64 - 2)]
)
def test_fill_values_that_netcdf_puts_by_itself(one: One, dtype: str, fill: Any) -> None:
    values = np.array([1, fill, 3], dtype)
    netcdf_variable(one, values, values[1])
    assert one.read()[1] == [False, True, False]
    one.add(values, name="of another program")
    assert one.read("of another program")[1] is None


@pytest.mark.parametrize(("dtype", "fill"), [("i1", -127), ("u1", 255)])
def test_bytes_have_no_fill_value_by_themselves(one: One, dtype: str, fill: int) -> None:
    netcdf_variable(one, np.array([1, fill, 3], dtype), fill)
    assert one.open().is_plain


def test_times_and_durations_that_are_missing(one: One) -> None:
    values = np.array([0, -(2**63), 5], "i8")
    one.add(values, {"units": "hours since 2020-01-01 00:00:00"}, "time")
    one.add(values, {"units": "hours", "dtype": "timedelta64[ns]"}, "duration")
    one.add(values, {"units": "m"}, "length")
    assert one.read("time")[1] == [False, True, False]
    assert one.read("duration")[1] == [False, True, False]
    assert one.open("length").is_plain


def test_truth_values_of_xarray(one: One) -> None:
    one.add(np.array([0, 1, 1], "i1"), {"dtype": "bool"})
    assert one.read() == ([False, True, True], None)
    assert one.open().dtype == np.bool_


def test_names_of_flags(one: One) -> None:
    attributes = {"flag_values": np.int8([0, 2, 4]), "flag_meanings": "good bad ugly", "_FillValue": np.int8(-1)}
    one.add(np.array([2, 0, -1, 4], "i1"), attributes)
    assert one.read() == (["bad", "good", "", "ugly"], [False, False, True, False])
    one.add(np.array([2, 0, 3], "i1"), attributes, "w")
    with pytest.raises(DataError, match=r"a\.h5: w, row 2: 3 is stored, which has no name; the names are 0 = good"):
        one.read("w")


def test_flags_that_are_bits_stay_numbers(one: One) -> None:
    masks = {"flag_masks": np.int8([1, 2]), "flag_values": np.int8([1, 2]), "flag_meanings": "a b"}
    one.add(np.array([3, 0], "i1"), masks)
    assert one.read()[0] == [3, 0]


def test_characters_are_joined(one: One) -> None:
    letters = [list("cat "), ["d", "o", "g", "\0"], [b"\xc3", b"\xbc", " ", "x"]]
    one.add(np.array([[c if isinstance(c, bytes) else c.encode() for c in row] for row in letters], "S1"))
    assert one.read()[0] == ["cat", "dog", "ü x"]
    assert one.open().shape == (3,)
    one.add(np.array([[b"\xfc", b"a"]], "S1"), {"_Encoding": "latin-1"}, "latin")
    assert one.read("latin")[0] == ["üa"]


def test_text_that_stands_for_no_value(one: One) -> None:
    one.add(np.array(["a", "none"], object), {"_FillValue": "none"}, dtype=h5py.string_dtype())
    assert one.read() == (["a", "none"], [False, True])


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"scale_factor": "0.1"}, "attribute scale_factor is '0.1'; expected one finite number"),
        ({"scale_factor": np.array([1.0, 2.0])}, "attribute scale_factor is .1.0, 2.0.; expected one finite number"),
        ({"add_offset": NAN}, "attribute add_offset is .nan.; expected one finite number"),
        ({"scale_factor": 0.0}, "attribute scale_factor is 0, so that all values would be one"),
    ],
)
def test_packing_that_cannot_be_meant(one: One, attributes: dict[str, Any], words: str) -> None:
    one.add(np.array([1, 2], "i2"), attributes)
    with pytest.raises(DataError, match=rf"a\.h5: v, {words}"):
        one.open()


# Dimensions


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("userblock", [0, 512])
def test_axes_have_the_names_of_their_scales(tmp_path: Path, libver: str, userblock: int) -> None:
    one = One(tmp_path / "a.h5", libver=libver, userblock_size=userblock)
    one.add(np.zeros((3, 2)), name="group/v").add(np.arange(3), name="time").add(np.arange(2), name="group/lev")
    for i, name in enumerate(["time", "group/lev"]):
        one.file[name].make_scale(name)
        one.file["group/v"].dims[i].attach_scale(one.file[name])
    assert one.open("group/v").dimensions == ("time", "lev")
    assert one.open("group/v").is_plain
    assert one.open("time").dimensions == ("time",)


def test_axes_have_the_names_of_their_labels(one: One) -> None:
    one.add(np.zeros((3, 2)))
    one.file["v"].dims[1].label = "place"
    assert one.open().dimensions == ("", "place")


# HDF5's own types


def enum(names: list[str], first: int, precision: int) -> Any:
    """As R's hdf5r makes it: no more bits than its names need."""
    number = h5py.h5t.STD_U8LE.copy()
    number.set_precision(precision)
    kind = h5py.h5t.enum_create(number)
    for i, name in enumerate(names):
        kind.enum_insert(name.encode(), first + i)
    return kind


def add_enum(one: One, kind: Any, stored: list[int]) -> None:
    values = np.array(stored, "u1")
    space = h5py.h5s.create_simple(values.shape)
    h5py.h5d.create(one.file.id, b"v", kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, values, kind)


def test_names_of_an_enum(one: One) -> None:
    one.add(np.array([3, 7, 3]), dtype=h5py.enum_dtype({"red": 3, "green": 7}, ">i2"))
    assert one.read() == (["red", "green", "red"], None)
    assert one.open().notes == ("names of an HDF5 enum: 3 = red, 7 = green",)


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b"], [str(i) for i in range(15)]])
def test_na_of_a_factor_is_not_its_last_level(one: One, names: list[str]) -> None:
    precision = (len(names)).bit_length()
    add_enum(one, enum(names, 1, precision), [1, 2, 255, len(names)])
    values, missing = one.read()
    assert missing == [False, False, True, False]
    assert [values[i] for i in (0, 1, 3)] == [names[0], names[1], names[-1]]


def test_na_of_a_factor_in_a_table(one: One) -> None:
    kind = h5py.h5t.create(h5py.h5t.COMPOUND, 9)
    kind.insert(b"n", 0, h5py.h5t.NATIVE_DOUBLE)
    kind.insert(b"f", 8, enum(["a", "b", "c"], 1, 2))
    rows = np.array([(1.5, 3), (2.5, 255)], np.dtype([("n", "f8"), ("f", "u1")]))
    h5py.h5d.create(one.file.id, b"v", kind, h5py.h5s.create_simple((2,))).write(h5py.h5s.ALL, h5py.h5s.ALL, rows, kind)
    assert one.read(field="n")[0] == [1.5, 2.5]
    values, missing = one.read(field="f")
    assert (values[0], missing) == ("c", [False, True])


def test_logical_of_r_as_an_enum(one: One) -> None:
    add_enum(one, enum(["FALSE", "TRUE", "NA"], 0, 2), [0, 1, 2, 1])
    values, missing = one.read()
    assert ([values[i] for i in (0, 1, 3)], missing) == ([False, True, True], [False, False, True, False])


def test_a_value_that_no_member_has_is_refused(one: One) -> None:
    add_enum(one, enum(["a", "b"], 1, 8), [1, 255])
    with pytest.raises(DataError, match=r"a\.h5: v, row 1: 255 is stored, which has no name; the names are 1 = a"):
        one.read()


def test_bool_of_h5py_is_plain(one: One) -> None:
    one.add(np.array([True, False]))
    assert one.read() == ([True, False], None)


def time_type() -> Any:
    return h5py.h5t.UNIX_D32LE


def test_a_field_beside_one_that_numpy_has_no_type_for(one: One) -> None:
    kind = h5py.h5t.create(h5py.h5t.COMPOUND, 12)
    kind.insert(b"n", 0, h5py.h5t.NATIVE_DOUBLE)
    kind.insert(b"t", 8, time_type())
    rows = np.array([(1.5, 3), (2.5, 4)], np.dtype([("n", "f8"), ("t", "i4")]))
    h5py.h5d.create(one.file.id, b"v", kind, h5py.h5s.create_simple((2,))).write(h5py.h5s.ALL, h5py.h5s.ALL, rows, kind)
    assert one.read(field="n")[0] == [1.5, 2.5]
    with pytest.raises(DataError, match=r"a\.h5: v\.t is of type H5T_TIME, which NumPy does not have; store it as"):
        one.open(field="t")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(2, np.longdouble), "long double.*store it as float64"),
        (np.zeros(2, complex), "complex.*two columns"),
        (np.zeros(2, "V3"), "opaque bytes; store them as numbers or strings"),
        (np.array([[1]], h5py.ref_dtype), "made of references to other objects"),
    ],
)
def test_types_that_are_refused_by_name(one: One, values: Any, words: str) -> None:
    one.file.create_dataset("v", values.shape, values.dtype)
    with pytest.raises(DataError, match=words):
        one.open()


# MATLAB and R


def test_matlab(one: One) -> None:
    one.add(np.arange(6.0).reshape(3, 2), {"MATLAB_class": np.bytes_("double")}, chunks=(3, 1))
    stored = one.open()
    assert one.read()[0] == [[0, 2, 4], [1, 3, 5]]
    assert (stored.shape, stored.chunks) == ((2, 3), (1, 3))
    assert stored.notes == ("written by MATLAB (double): axes are reversed, to 2 × 3",)
    assert stored.read((1, slice(0, 3, 2)))[0].tolist() == [1, 5]
    one.add(np.uint8([[1], [0]]), {"MATLAB_class": np.bytes_("logical"), "MATLAB_int_decode": 1}, "logical")
    assert one.read("logical")[0] == [[True, False]]
    text = np.array([[ord(c) for c in word] for word in ("häl", "lo ")], "u2").T
    one.add(text, {"MATLAB_class": np.bytes_("char")}, "char")
    assert one.read("char")[0] == ["häl", "lo"]


def test_real_part_of_a_complex_matrix_of_matlab(one: One) -> None:
    values = np.zeros((3, 2), [("real", "f8"), ("imag", "f8")])
    values["real"] = np.arange(6).reshape(3, 2)
    one.add(values, {"MATLAB_class": np.bytes_("double")})
    assert one.read(field="real")[0] == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("attributes", [{"MATLAB_class": np.bytes_("string"), "MATLAB_object_decode": 3}])
def test_what_matlab_alone_can_read(one: One, attributes: dict[str, Any]) -> None:
    one.add(np.uint32([[3707764736, 2, 1, 1, 2, 2]]), attributes)
    with pytest.raises(DataError, match=r"a\.h5: v is of MATLAB's class string, which MATLAB alone can read; store it"):
        one.open()


@pytest.mark.parametrize(
    ("values", "attributes", "expected"),
    [
        (np.int32([1, -(2**31)]), {"rhdf5-NA.OK": np.int32([1])}, 1),
        (np.int64([1, -(2**63)]), {"rhdf5-NA.OK": np.int32([1])}, 1),
        (np.int8([1, -128]), {"rhdf5-NA.OK": np.int32([1]), "storage.mode": "logical"}, True),
        (np.array([b"x", b"NA"]), {"rhdf5-NA.OK": np.int32([1]), "as.na": np.int32([1])}, "x"),
    ],
)
def test_na_of_r(one: One, values: Any, attributes: dict[str, Any], expected: Any) -> None:
    one.add(values, attributes)
    found, missing = one.read()
    assert (found[0], type(found[0]), missing) == (expected, type(expected), [False, True])
    one.add(values, name="bare")
    assert one.read("bare")[1] is None


# What is no data


def test_what_is_known_to_be_no_data(one: One) -> None:
    one.add(np.zeros(3), name="x").add(1.0, name="single").add(np.zeros((0, 2)), name="none").add(np.zeros(3), name="v")
    one.file["x"].make_scale("x")
    one.add(np.zeros(3, ">f4"), name="obs")
    one.file["obs"].make_scale("This is a netCDF dimension but not a netCDF variable.        3")
    one.file.create_dataset("refs", (2,), h5py.ref_dtype)
    one.file["index"] = np.zeros(3, [("index", "i8"), ("a", "f8")])
    group = one.file.create_group("df")
    group.attrs["pandas_type"] = "frame_table"
    group["table"] = np.zeros(3, [("index", "i8"), ("a", "f8")])
    one.add(np.zeros(4), name="_i_table/a/bounds")
    found = {name: why_not_data(one.file[name], name) for name in ("x", "obs", "single", "none", "refs", "v", "index")}
    assert found == {
        "x": "dimension scale",
        "obs": "netCDF dimension without a variable",
        "single": "a single value",
        "none": "empty",
        "refs": "object references",
        "v": "",
        "index": "",
    }
    assert why_not_data(one.file["df/table"], "df/table.index") == "index of pandas"
    assert why_not_data(one.file["df/table"], "df/table.a") == ""
    assert why_not_data(one.file["_i_table/a/bounds"], "_i_table/a/bounds") == "index of PyTables"


# Attributes, also those of damaged files


@pytest.mark.parametrize("libver", ["earliest", "latest", "v108"])
@pytest.mark.parametrize("count", [3, 12, 60])
@pytest.mark.parametrize("track_order", [False, True])
def test_texts_of_any_number_of_attributes(tmp_path: Path, libver: str, count: int, track_order: bool) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver=libver, userblock_size=512) as file:
        dataset = file.create_dataset("v", data=np.zeros(2), track_order=track_order)
        for i in range(count):
            dataset.attrs[f"text{i}"] = f"{i}: " + "ü" * (i * 11 % 97)
            dataset.attrs[f"list{i}"] = ["a", f"b{i}"]
    with h5py.File(tmp_path / "a.h5") as file:
        attributes = Attributes("a.h5", file["v"])
        for i in range(count):
            assert attributes.text(f"text{i}") == f"{i}: " + "ü" * (i * 11 % 97)
            assert attributes.texts(f"list{i}") == ("a", f"b{i}")


def test_a_damaged_text_of_an_attribute_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    One(path).add(np.zeros(2, "i2"), {"units": "metre per second"}).file.close()
    content = path.read_bytes()
    assert content.count(b"GCOL") == 1
    path.write_bytes(content.replace(b"GCOL", b"GCOX"))
    script = (
        "import sys, h5py\nfrom distbp.data.stored import open_stored\nfrom distbp.errors import DataError\n"
        "file = h5py.File(sys.argv[1])\n"
        "try:\n    open_stored(file, 'a.h5', file['v']).units\nexcept DataError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=LIMIT, env=environment()
    )
    assert "a.h5: v, attribute units cannot be read: the heap at byte" in done.stdout
    assert "the file is damaged or truncated, write or copy it again" in done.stdout
