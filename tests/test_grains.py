"""Grains: their sizes depend on n alone, and their bits on nothing that stands beside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.mathematics import grains as module
from distbp.mathematics.backprop import Piece, errors, forward
from distbp.mathematics.grains import Grains, default_grain, grain_count, same_bits, stride
from distbp.mathematics.network import Network, Parameters, initialize

WIDE = Network.of([40, 64, 48, 10], "tanh", "softmax", "cross_entropy")


@given(st.integers(1, 10**7))
def test_the_default_grain(n: int) -> None:
    grain = default_grain(n)
    assert grain % 16 == 0
    assert 16 <= grain <= 256
    assert n <= 64 or grain_count(n, grain) >= 3  # work for some ranks


@pytest.mark.parametrize(
    ("n", "grain"), [(1, 16), (32, 16), (64, 16), (128, 32), (512, 128), (1024, 256), (60000, 256)]
)
def test_the_default_grain_of_some_batches(n: int, grain: int) -> None:
    assert default_grain(n) == grain


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("grain", [1, 5, 16, 17])
def test_every_grain_starts_at_a_cache_line(grain: int, dtype: str) -> None:
    step = stride(grain, dtype)
    room = Piece(WIDE, 3 * step, dtype)
    for part in Grains(WIDE, room, grain, [grain, grain, 1]).grains:
        for array in (part.a[1], *part.z[2:], *part.d[2:], part.y):
            assert array.ctypes.data % 64 == 0


def run(lengths: list[int], grain: int, x: np.ndarray, dtype: str) -> tuple[list[Piece], Grains]:
    """Forward and errors of grains side by side; x has a column for each sample."""
    parameters = Parameters.zeros(WIDE, dtype)
    initialize(parameters, WIDE, 0)
    held = Grains(WIDE, Piece(WIDE, len(lengths) * stride(grain, dtype), dtype), grain, lengths)
    start = 0
    for part in held.grains:
        part.a[1][...] = x[:, start : start + part.m]
        part.y[...] = 0
        part.y[start % 10] = 1
        start += part.m
    forward(WIDE, parameters, held)
    errors(WIDE, parameters, held)
    return held.grains, held


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("grain", [5, 16, 32])
@pytest.mark.parametrize("last", [1, 3, 5])
def test_a_grain_has_the_same_bits_whatever_stands_beside_it(grain: int, last: int, dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((40, 3 * grain + last))
    lengths = [grain, grain, grain, last]
    together, _ = run(lengths, grain, x, dtype)
    start = 0
    for part, m in zip(together, lengths, strict=True):
        (alone,), _ = run([m], grain, x[:, start : start + m], dtype)
        if start % 10 == 0:  # the same class
            for l in range(2, WIDE.F + 1):
                assert part.d[l].tobytes() == alone.d[l].tobytes()
        for l in range(1, WIDE.F + 1):
            assert part.a[l].tobytes() == alone.a[l].tobytes()
        start += m


def test_grains_go_through_a_product_together_only_where_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((40, 96))
    asked: list[tuple[tuple[int, int], bool, bool]] = []

    def answer(
        shape: tuple[int, int], grain: int, count: int, dtype: object, *, transposed: bool, by_class: bool
    ) -> bool:
        asked.append((shape, transposed, by_class))
        return shape == (64, 40)

    monkeypatch.setattr(module, "same_bits", answer)
    _, held = run([32, 32, 32], 32, x, "float32")
    assert [part.m for part in held.forward_parts(2)] == [96]
    assert [part.m for part in held.forward_parts(3)] == [32, 32, 32]
    assert [part.m for part in held.backward_parts(2)] == [32, 32, 32]
    assert asked == [
        ((64, 40), False, False),
        ((48, 64), False, False),
        ((48, 64), True, False),
        ((10, 48), False, True),
        ((10, 48), True, True),
    ]


def test_other_bits_beside_other_columns_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    same_bits.cache_clear()
    multiply = np.matmul

    def other_kernel(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        multiply(a, b, out=out)
        if b.shape[1] > 16:  # a kernel for wide products that adds up in another order
            out *= 1 + np.finfo(out.dtype).eps

    monkeypatch.setattr(np, "matmul", other_kernel)
    try:
        assert not same_bits((8, 8), 16, 2, np.dtype("float32"), transposed=False)
    finally:
        same_bits.cache_clear()
