"""The order of samples: every sample once, whole blocks in a window, and a function of its arguments alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distbp.data.lots import CounterLots, lots
from distbp.data.sample_order import SampleOrder
from distbp.mathematics.numerics import NUMERICS

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=30)


def blocks_of(lengths: list[int]) -> list[tuple[int, int]]:
    return list(pairwise([0, *np.cumsum(lengths).tolist()]))


@given(lengths, st.integers(1, 300), st.integers(0, 5), st.integers(0, 3), st.integers(0, NUMERICS))
def test_each_sample_is_there_once(lengths: list[int], window: int, seed: int, epoch: int, numerics: int) -> None:
    order = SampleOrder(blocks_of(lengths), window, lots(seed, numerics))
    starts = order.starts(epoch)
    windows = [order.window(epoch, i) for i in range(len(starts) - 1)]
    rows = [one.rows() for one in windows]
    assert sorted(np.concatenate(rows).tolist()) == list(range(sum(lengths)))
    assert [len(some) for some in rows] == [b - a for a, b in pairwise(starts)]
    for one, some in zip(windows, rows, strict=True):
        assert sorted(some.tolist()) == sorted(row for first, last in one.blocks for row in range(first, last))
        assert len(some) <= order.longest
    assert all(len(some) >= min(window, sum(lengths)) for some in rows)


def test_up_to_a_window_all_is_shuffled() -> None:
    order = SampleOrder(blocks_of([3, 5, 2]), 10, lots(7))
    assert order.starts(4) == [0, 10]
    np.testing.assert_array_equal(order.window(4, 0).rows(), lots(7).samples(10, 4, None))


def test_the_order_of_older_runs_stays_what_it_was() -> None:
    """A run of version 0 that is resumed must see the same batches."""

    def drawn(n: int, *key: int) -> list[int]:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([7, 1, *key]))).permutation(n).tolist()

    assert lots(7, 0).samples(20, 3, None).tolist() == drawn(20, 3)
    assert lots(7, 0).samples(20, 3, 4).tolist() == drawn(20, 3, 5)
    windows: list[list[int]] = [[], []]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([7, 1, 3])))
    for first in (0, 2, 4):
        for block, index in zip([first, first + 1][: 5 - first], rng.permutation(2).tolist(), strict=False):
            windows[index].append(block)
    order = SampleOrder(blocks_of([1] * 5), 2, lots(7, 0))
    assert order.count == 2
    assert [[first for first, _ in order.window(3, i).blocks] for i in range(2)] == windows
    assert order.window(3, 1).order.tolist() == drawn(len(windows[1]), 3, 2)


def test_this_version_draws_from_the_counter() -> None:
    assert isinstance(lots(7), CounterLots)


def test_epochs_and_windows_differ_and_can_be_asked_for_in_any_order() -> None:
    blocks = blocks_of([4] * 50)
    one, other = SampleOrder(blocks, 40, lots(1)), SampleOrder(blocks, 40, lots(1))
    forward = [one.window(epoch, index).rows() for epoch in range(3) for index in range(5)]
    backward = [other.window(epoch, index).rows() for epoch in reversed(range(3)) for index in reversed(range(5))]
    for a, b in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({rows.tobytes() for rows in forward}) == len(forward)
    assert forward[0].tobytes() != SampleOrder(blocks, 40, lots(2)).window(0, 0).rows().tobytes()


def test_every_window_has_its_part_of_what_comes_in_turn() -> None:
    """Ten classes, one after another: each window of 100 blocks has ten blocks of each, or nearly so."""
    order = SampleOrder(blocks_of([50] * 2000), 5000, lots(0))
    assert order.count == 20
    for index in range(20):
        rows = order.window(0, index).rows()
        window, beginning = (np.bincount(some // 10000, minlength=10) for some in (rows, rows[:1000]))
        assert window.tolist() == [500] * 10
        assert np.abs(beginning - 100).max() < 40


def test_blocks_of_very_different_size() -> None:
    order = SampleOrder(blocks_of([1] * 40 + [900] + [7] * 100), 300, lots(0))
    for epoch in range(5):
        sizes = np.diff(order.starts(epoch))
        assert sizes.min() >= 300
        assert sizes.max() <= order.longest


def test_another_thread_may_ask_for_another_epoch_at_any_time() -> None:
    """A loader reads ahead in a thread, while the numbers of earlier samples are asked for."""
    order = SampleOrder(blocks_of([2] * 30), 10, lots(3))
    starts = order.starts(1)

    class Replaced(dict[int, Any]):
        """As if the other thread had come right after each look."""

        def __contains__(self, epoch: object) -> bool:
            order._dealt = {}
            return super().__contains__(epoch)

        def get(self, epoch: int, otherwise: Any = None) -> Any:
            order._dealt = {}
            return super().get(epoch, otherwise)

    order._dealt = Replaced(order._dealt)
    assert order.starts(1) == starts
    assert order.starts(1) == starts
