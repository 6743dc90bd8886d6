"""The tree of grains: whoever adds which part, the additions are the same."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.mathematics.activations import Array
from distbp.mathematics.grain_tree import Node, add_up, children, grains_of, largest_nodes, place, root, shares

counts = st.integers(1, 70)
cuts = st.lists(st.integers(0, 70), max_size=9)


def by_definition(values: Array) -> Array:
    """Pairs are added, then pairs of those, …; what is left over goes up as it is."""
    level = list(values)
    while len(level) > 1:
        pairs = [level[i] + level[i + 1] for i in range(0, len(level) - 1, 2)]
        level = pairs + level[2 * len(pairs) :]
    return np.asarray(level[0])


def parts(count: int, cuts: list[int]) -> list[tuple[int, int]]:
    """[0, count) in parts, some maybe empty."""
    return list(pairwise([0, *sorted(min(cut, count) for cut in cuts), count]))


@given(counts, cuts)
def test_the_nodes_of_a_part_are_its_grains_in_order(count: int, cuts: list[int]) -> None:
    for first, last in parts(count, cuts):
        nodes = largest_nodes(first, last, count)
        assert [grain for node in nodes for grain in grains_of(node, count)] == list(range(first, last))
        assert len(nodes) <= max(1, 2 * (last - first).bit_length() - 1)
        parents = [(level + 1, index // 2) for level, index in nodes]
        for parent in parents:  # no two could be one, and none could be higher
            inside = range(first, last)
            assert not all(grain in inside for grain in grains_of(parent, count)) or root(count) in nodes


@given(count=counts, cuts=cuts, seed=st.integers(0, 2**32), dtype=st.sampled_from(["float32", "float64"]))
def test_any_division_of_the_work_gives_the_same_bits(count: int, cuts: list[int], seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((count, 3)) * 2.0 ** rng.integers(-30, 30, (count, 1))).astype(dtype)

    def grain(node: Node) -> Array | None:
        return values[node[1]].copy() if node[0] == 0 else None

    owned = [node for part in parts(count, cuts) for node in largest_nodes(*part, count)]
    sums = {node: add_up(node, count, grain) for node in owned}
    assert add_up(root(count), count, sums.get).tobytes() == by_definition(values).tobytes()


@given(st.integers(0, 6), st.integers(0, 9), counts)
def test_no_sum_is_in_the_way_of_another(level: int, index: int, count: int) -> None:
    node = level, index
    grains = grains_of(node, count)
    if not grains:
        return
    memory = np.zeros((level + 1, 1))  # one place more than levels is enough

    def grain(node: Node) -> Array | None:
        if node[0] > 0:
            return None
        at = memory[place(node[1], grains.start)]
        at[0] = 2.0 ** node[1] if node[1] < 50 else 0.0
        return at

    assert add_up(node, count, grain) is not None
    assert memory[0, 0] == sum(2.0**i for i in grains if i < 50)


@given(st.integers(1, 3000), st.integers(1, 300))
def test_shares_are_even_and_follow_the_tree(count: int, size: int) -> None:
    cut = shares(count, size)
    assert [first for first, _ in cut[1:]] == [last for _, last in cut[:-1]]
    assert (cut[0][0], cut[-1][1]) == (0, count)
    even = -(-count // size)
    assert max(last - first for first, last in cut) <= even + even // 16
    if count % size == 0 and (count // size) & (count // size - 1) == 0:
        assert all(len(largest_nodes(first, last, count)) == 1 for first, last in cut)


def test_shares_that_make_few_nodes() -> None:
    assert shares(64, 3) == [(0, 20), (20, 42), (42, 64)]
    assert max(len(largest_nodes(*share, 1024)) for share in shares(1024, 7)) <= 6
    assert shares(2, 4) == [(0, 0), (0, 1), (1, 1), (1, 2)]


def test_a_tree_of_five() -> None:
    assert root(5) == (3, 0)
    assert children((3, 0), 5) == [(2, 0), (2, 1)]
    assert children((2, 1), 5) == [(1, 2)]
    assert largest_nodes(1, 5, 5) == [(0, 1), (1, 1), (2, 1)]
    assert largest_nodes(0, 5, 5) == [(3, 0)]
    assert largest_nodes(2, 2, 5) == []
    assert root(1) == (0, 0)


def test_the_order_matters() -> None:
    values = np.array([1.0, 1e16, -1e16])
    one, two = 1.0 + (1e16 - 1e16), (1.0 + 1e16) - 1e16
    assert one != two
    assert by_definition(values) == two


@pytest.mark.parametrize("count", [1, 2, 3, 64, 65])
def test_pairs_are_more_accurate_than_one_after_another(count: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.uniform(0, 1, (count, 500)).astype(np.float32)
    true = values.sum(axis=0, dtype=np.float64)
    one_after_another = values[0].copy()
    for more in values[1:]:
        one_after_another += more
    assert np.abs(by_definition(values) - true).max() <= np.abs(one_after_another - true).max()
