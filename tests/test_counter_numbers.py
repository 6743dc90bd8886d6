"""Random numbers from a counter: those of the published generator, no stream twice, and all orders alike."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.mathematics import counter_numbers
from distbp.mathematics.counter_numbers import BLOCKS, INITIALIZATION, SAMPLES, CounterNumbers
from distbp.mathematics.normal_numbers import normal

WORD = 2**64
# Random123's tests/kat_vectors, philox4x64 with 10 rounds: counter, key, result.
PUBLISHED = [
    ("0 0 0 0", "0 0", "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    (
        "ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff",
        "ffffffffffffffff ffffffffffffffff",
        "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
    ),
    (
        "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
        "452821e638d01377 be5466cf34e90c6c",
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]


def philox(counter: list[int], key: list[int]) -> list[int]:
    """A block, as the paper defines it."""
    (a, b, c, d), (k, j) = counter, key
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = right // WORD ^ b ^ k, right % WORD, left // WORD ^ d ^ j, left % WORD
        k, j = (k + 0x9E3779B97F4A7C15) % WORD, (j + 0xBB67AE8584CAA73B) % WORD
    return [a, b, c, d]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), PUBLISHED)
def test_the_published_vectors(counter: str, key: str, result: str) -> None:
    assert philox(words(counter), words(key)) == words(result)


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 9),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 9), max_size=4),
)
def test_the_integers_are_those_of_the_documented_key_and_counter(
    seed: int, stream: int, epoch: int, window: int, counts: list[int]
) -> None:
    numbers = CounterNumbers(seed, stream, epoch, window)
    found = [int(one) for count in counts for one in numbers.integers(count)]
    blocks = [philox([1 + i, 0, window, epoch], [seed, stream]) for i in range(len(found) // 4 + 1)]
    assert found == [one for block in blocks for one in block][: len(found)]


def test_no_two_streams_have_a_number_in_common() -> None:
    """Next to each other in all of (seed, stream, epoch, window), and where one of them is another's number."""
    some = [0, 1, 2, 2**32, 2**53]
    seen: dict[int, tuple[int, ...]] = {}
    for seed in some:
        for stream in (INITIALIZATION, SAMPLES, BLOCKS):
            for epoch in some:
                for window in some:
                    for one in CounterNumbers(seed, stream, epoch, window).integers(12).tolist():
                        assert one not in seen, (seen[one], (seed, stream, epoch, window))
                        seen[one] = (seed, stream, epoch, window)


def test_uniform_numbers_are_symmetric_and_never_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = np.array([0, 2**64 - 1, 2**63, 2**63 - 1, 4095, 4096], np.uint64)
    monkeypatch.setattr(CounterNumbers, "integers", lambda self, count: ends[:count].copy())
    low, high, above, below, same, following = CounterNumbers(0, 0).uniform(6).tolist()
    assert (low, high) == (2.0**-53, 1.0 - 2.0**-53)
    assert (above, below) == (0.5 + 2.0**-53, 0.5 - 2.0**-53)
    assert (same, following) == (low, 3 * low)
    assert np.isfinite(normal(np.array([low, high]))).all()


@given(count=st.integers(0, 5), n=st.integers(0, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
def test_permutations_hold_each_number_once(count: int, n: int, seed: int, epoch: int) -> None:
    orders = CounterNumbers(seed, SAMPLES, epoch).permutations(count, n)
    assert orders.dtype == np.int64
    assert orders.shape == (count, n)
    assert all(sorted(order) == list(range(n)) for order in orders.tolist())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 1023, 1024, 1025])
def test_a_permutation_is_the_order_of_the_random_bits(n: int) -> None:
    """Sorted by Python, as pairs of random bits and index."""
    bits = max(0, n - 1).bit_length()
    drawn = CounterNumbers(3, SAMPLES, 1).integers(n).tolist()
    expected = sorted(range(n), key=lambda i: (drawn[i] >> bits, i))
    assert CounterNumbers(3, SAMPLES, 1).permutations(1, n).tolist() == [expected]


def test_all_orders_of_4_are_equally_frequent() -> None:
    """χ² with 23 degrees of freedom is above 49.7 once in a thousand times, and below 7.5 as seldom."""
    draws = 24_000
    found = Counter(map(tuple, CounterNumbers(5, SAMPLES).permutations(draws, 4).tolist()))
    assert set(found) == set(permutations(range(4)))
    chi2 = sum((count - draws / 24) ** 2 / (draws / 24) for count in found.values())
    assert 7.5 < chi2 < 49.7


def test_each_sample_comes_to_each_place() -> None:
    """Place of each of 10 samples over 20,000 epochs of their own: χ² with 81 degrees of freedom."""
    draws = 20_000
    orders = np.concatenate([CounterNumbers(1, SAMPLES, epoch).permutations(1, 10) for epoch in range(draws)])
    counts = np.array([np.bincount(orders[:, place], minlength=10) for place in range(10)])
    chi2 = float(((counts - draws / 10) ** 2 / (draws / 10)).sum())
    assert 46 < chi2 < 127  # 0.999 lies between


def test_the_docstring_has_the_streams() -> None:
    assert "INITIALIZATION (the window is the layer), SAMPLES and BLOCKS" in str(counter_numbers.__doc__)
