"""Axes and slices in names: the rows are those that NumPy's own indexing gives, however they are read."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.data.names import Name
from distbp.data.selection import select
from distbp.errors import DataError


class InMemory:
    """An array as `Selection` reads it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def read(self, index: Any) -> Any:
        return self.array[index], None


@st.composite
def arrays_and_brackets(draw: Any) -> tuple[np.ndarray, list[str], np.ndarray]:
    """An array, what stands in the brackets, and the rows worked out with np.moveaxis on the whole array."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    array = np.arange(np.prod(shape)).reshape(shape)
    entries: list[str] = []
    picked: list[Any] = []
    for length in shape:
        kind = draw(st.sampled_from(["all", "samples", "one", "some"]))
        low = draw(st.integers(0, length - 1))
        high, step = draw(st.integers(low + 1, length)), draw(st.integers(1, 2))
        entries.append({"all": ":", "samples": "samples", "one": str(low), "some": f"{low}:{high}:{step}"}[kind])
        picked.append({"one": low, "some": slice(low, high, step)}.get(kind, slice(None)))
    left = [axis for axis, entry in enumerate(picked) if not isinstance(entry, int)]
    samples = [axis for axis, entry in enumerate(entries) if entry == "samples"] or left[:1]
    values = np.asarray(array[tuple(picked)])
    if samples:
        places = [left.index(axis) for axis in samples]
        rows = np.prod([values.shape[place] for place in places], dtype=int)
        values = np.moveaxis(values, places, range(len(places))).reshape(rows, -1)
    return array, entries, values


@given(arrays_and_brackets(), st.data())
@settings(max_examples=300)
def test_rows_are_those_of_numpy(case: tuple[np.ndarray, list[str], np.ndarray], data: Any) -> None:
    array, entries, expected = case
    index = Name(f"a[{', '.join(entries)}]").index()
    if all(entry.lstrip("-").isdigit() for entry in entries):
        with pytest.raises(DataError, match="no axis is left for the samples"):
            select("a", index, array.shape, ("",) * array.ndim)
        return
    selection = select("a", index, array.shape, ("",) * array.ndim)
    assert selection.rows == len(expected)
    assert np.prod(selection.shape, dtype=int) == expected.shape[1]
    start = data.draw(st.integers(0, len(expected) - 1))
    stop = data.draw(st.integers(start + 1, len(expected)))
    rows, missing = selection.read(InMemory(array), start, stop)
    np.testing.assert_array_equal(rows, expected[start:stop])
    assert missing is None


def test_axes_by_name() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    selection = select("t", Name("t[lon=samples, time=1]").index(), array.shape, ("time", "lat", "lon"))
    np.testing.assert_array_equal(selection.read(InMemory(array), 0, 4)[0], array[1].T)
    with pytest.raises(DataError, match="it has no axis 'depth'; its axes are time, lat, lon"):
        select("t", Name("t[depth=samples]").index(), array.shape, ("time", "lat", "lon"))


@pytest.mark.parametrize(
    ("brackets", "words"),
    [
        ("[:, :, :]", "3 entries in the brackets for 2 axes"),
        ("[5]", "5 in the brackets, and axis 0 has 3 entries"),
        ("[:, 4:4]", "nothing is left of axis 1"),
        ("[0, lev=samples]", "axis 0 is given twice"),
    ],
)
def test_what_does_not_fit_the_array(brackets: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        select("x", Name(f"x{brackets}").index(), (3, 4), ("lev", "ncol"))


def test_each_is_one_sample() -> None:
    array = np.arange(12).reshape(3, 4)
    selection = select("x", Name("x[:, 1:3]").index(), array.shape, ("", ""), each=True)
    assert (selection.rows, selection.shape) == (1, (3, 2))
    np.testing.assert_array_equal(selection.read(InMemory(array), 0, 1)[0], array[:, 1:3].reshape(1, 6))
    with pytest.raises(DataError, match="--each all of it is one sample"):
        select("x", Name("x[samples]").index(), array.shape, ("", ""), each=True)


def test_h5py_reads_what_is_asked_for(tmp_path: Any) -> None:
    from distbp.data.locate import find
    from distbp.data.reader import Reader

    array = np.random.default_rng(0).normal(size=(7, 30, 5))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("t", data=array, chunks=(3, 8, 5), compression="gzip")
    layout = find([str(tmp_path / "a.h5")], "/", "t[0:6, samples, 2]", None)
    rows = np.empty((30, 6))
    with Reader(layout) as reader:
        for first in range(0, 30, 4):
            reader.read("x", first, min(first + 4, 30), rows[first : first + 4])
    np.testing.assert_array_equal(rows, array[:6, :, 2].T)
