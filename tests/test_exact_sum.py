"""Sums of whole numbers: exact, so that neither order nor grouping matters; compared with sums of fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.engine.epoch_sums import EpochSums
from distbp.engine.sums import NOTHING, Stepped, Steps, Sums
from distbp.mathematics.exact_sum import EXACT_BITS, ExactSum, exponent, exponents, total, whole_bits
from distbp.ranks.communicator import OneProcess


@given(st.integers(1, 2**40))
def test_so_many_whole_numbers_stay_below_the_limit(count: int) -> None:
    b = whole_bits(count)
    assert count * 2**b <= 2**EXACT_BITS
    assert count * 2 ** (b + 1) > 2**EXACT_BITS  # and no bit is given away


@given(st.floats(0, allow_nan=False, allow_infinity=False))
def test_a_bound_is_below_its_power_of_two(bound: float) -> None:
    e = exponent(bound)
    assert bound < Fraction(2) ** e
    assert bound == 0 or Fraction(2) ** (e - 1) <= bound


@given(st.lists(st.floats(0, allow_nan=False, allow_infinity=False), max_size=9))
def test_the_powers_of_many_bounds_are_those_of_each(bounds: list[float]) -> None:
    assert exponents(np.array(bounds)).tolist() == [exponent(bound) for bound in bounds]
    assert exponents(np.array([np.inf, np.nan])).shape == (2,)


def sum_of(parts: list[list[np.ndarray]], bound: np.ndarray, count: int) -> np.ndarray:
    """The sum, the arrays of each part added up apart, the parts' sums last to first."""
    together = None
    for part in parts:
        exact = ExactSum(np.array([exponent(b) for b in bound]), count)
        for values in part:
            exact.add(values)
        if together is None:
            together = exact
        else:
            exact.sums += together.sums
            together = exact
    assert together is not None
    return together.value()


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 40),
    spread=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_any_order_and_any_grouping_give_the_same_bits(seed: int, count: int, spread: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    arrays = [np.ldexp(rng.standard_normal(5), rng.integers(-spread, spread + 1, 5)) for _ in range(count)]
    bound = np.abs(arrays).max(axis=0)
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    order = rng.permutation(count)
    shuffled = [arrays[i] for i in order]
    grouped = [shuffled[start:end] for start, end in pairwise(edges)]
    one = sum_of([arrays], bound, count)
    assert sum_of(grouped, bound, count).tobytes() == one.tobytes()
    for j, found in enumerate(one):
        true = sum(Fraction(array[j]) for array in arrays)
        error = abs(Fraction(float(found)) - true)
        assert error <= abs(true) * Fraction(2) ** -53 + Fraction(float(bound[j])) * count * Fraction(2) ** -85


def test_whole_numbers_are_added_without_an_error() -> None:
    rng = np.random.default_rng(1)
    b = whole_bits(1000)
    arrays = [np.ldexp(rng.uniform(-1, 1, 50), b) for _ in range(1000)]
    exact = ExactSum(np.full(50, b), 1000)
    for values in arrays:
        exact.add(values)
    assert exact.sums[0].tolist() == [sum(int(np.rint(values[j])) for values in arrays) for j in range(50)]


@pytest.mark.parametrize("scale", [0.0, 5e-324, 1e-310, 1e-300, 1.0, 1e300])
def test_zero_denormal_and_huge_numbers(scale: float) -> None:
    values = [np.array([1.0, -0.5, 0.25]) * scale, np.array([3.0, 0.5, 0.25]) * scale]
    total = sum_of([values], np.array([3.0, 0.5, 0.25]) * scale, 2)
    np.testing.assert_allclose(total, np.array([4.0, 0.0, 0.5]) * scale, rtol=1e-15, atol=1e-320)


def test_what_is_not_finite_stays_so() -> None:
    with np.errstate(invalid="ignore"):
        for bad in (np.inf, -np.inf, np.nan):
            assert not np.isfinite(sum_of([[np.array([bad, 1.0])]], np.array([1.0, 1.0]), 1)[0])


def test_the_total_of_numbers_at_hand() -> None:
    assert total([1.0, 1e100, 1.0, -1e100]) == 2.0
    assert total([1e308, 1e308]) == np.inf
    assert not np.isfinite(total([np.inf, -np.inf]))
    assert np.isnan(total([np.nan, 1.0]))


def test_what_is_not_finite_is_in_the_value() -> None:
    """Without a warning, which would be an error here; the columns beside are as ever."""
    x = np.array([[np.inf, -np.inf, np.inf, np.nan, 1.0, 1.5e308], [2.0, 3.0, -np.inf, 1.0, 2.0**-60, 1.5e308]])
    exact = ExactSum(np.array([exponent(one) for one in (np.inf, np.inf, np.inf, np.inf, 1.0, 1.5e308)]), len(x))
    for row in x:
        exact.add(row)
    assert np.array_equal(exact.value(), [np.inf, -np.inf, np.nan, np.nan, 1.0 + 2.0**-60, np.inf], equal_nan=True)


def test_the_sums_of_an_epoch_may_be_infinite() -> None:
    sums = EpochSums(OneProcess(), [0.0, 0.0])
    sums.add(Steps.of([Stepped(Sums([1.0, np.inf], 3), 3, 0.0, NOTHING)]))
    sums.add(Steps.of([Stepped(Sums([2.0, 1.0], 3), 3, 0.0, NOTHING)]))
    assert sums.total() == Sums([3.0, np.inf], 6)
