"""Arrow's arrays as NumPy arrays, against PyArrow's own values: slices at any place, with nulls and without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.tables.arrow_buffers import booleans, nulls, numbers
from distbp.tables.arrow_values import values

pyarrow = pytest.importorskip("pyarrow")


@st.composite
def slices(draw: st.DrawFn, elements: st.SearchStrategy[object]) -> tuple[list[object], int, int]:
    whole = draw(st.lists(elements, max_size=40))
    start = draw(st.integers(0, len(whole)))
    return whole, start, draw(st.integers(0, len(whole) - start))


@given(slices(st.none() | st.integers(-128, 127)))
def test_numbers(case: tuple[list[object], int, int]) -> None:
    whole, start, count = case
    array = pyarrow.array(whole, pyarrow.int8()).slice(start, count)
    expected = array.to_pylist()
    gaps = nulls(array)
    assert ([False] * count if gaps is None else gaps.tolist()) == [value is None for value in expected]
    there = np.ones(count, bool) if gaps is None else ~gaps
    assert numbers(array, np.int8)[there].tolist() == [value for value in expected if value is not None]


@given(slices(st.none() | st.booleans()))
def test_booleans(case: tuple[list[object], int, int]) -> None:
    whole, start, count = case
    array = pyarrow.array(whole, pyarrow.bool_()).slice(start, count)
    expected = array.to_pylist()
    gaps = nulls(array)
    there = np.ones(count, bool) if gaps is None else ~gaps
    assert booleans(array)[there].tolist() == [value for value in expected if value is not None]
    found, missing = values(array, ())
    assert found.tolist() == [value or False for value in expected]
    assert missing is None or missing.tolist() == [value is None for value in expected]


@given(slices(st.none() | st.sampled_from(["a", "b", ""])), st.sampled_from(["int8", "uint16", "int64"]))
def test_dictionaries(case: tuple[list[object], int, int], codes: str) -> None:
    whole, start, count = case
    kind = pyarrow.dictionary(getattr(pyarrow, codes)(), pyarrow.string())
    array = pyarrow.array(whole, pyarrow.string()).cast(kind).slice(start, count)
    found, missing = values(array, ())
    gaps = np.zeros(count, bool) if missing is None else missing
    expected = array.to_pylist()
    assert gaps.tolist() == [value is None for value in expected]
    assert found[~gaps].tolist() == [value for value in expected if value is not None]


@given(slices(st.none() | st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2)))
def test_lists(case: tuple[list[object], int, int]) -> None:
    whole, start, count = case
    array = pyarrow.array(whole, pyarrow.list_(pyarrow.float32())).slice(start, count)
    found, missing = values(array, (2,))
    gaps = np.zeros(count, bool) if missing is None else missing.all(axis=1)
    expected = array.to_pylist()
    assert gaps.tolist() == [value is None for value in expected]
    assert found[~gaps].tolist() == [value for value in expected if value is not None]
