"""Functions of + - × ÷ in a fixed order: how far they are from the truth, and that nothing else is in them."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import distbp
from distbp.mathematics.fixed_functions import cos_pi, log, power, powers
from distbp.mathematics.normal_numbers import normal
from distbp.mathematics.schedules import Schedule

ROOT = Path(distbp.__file__).parent
RNG = np.random.default_rng(0)


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


@pytest.fixture(autouse=True)
def sixty_digits() -> Iterator[None]:
    with localcontext(prec=60):
        yield


def cosine(x: float) -> Decimal:
    """cos πx, by its series."""
    square, term, total, k = (PI * Decimal(x)) ** 2, Decimal(1), Decimal(0), 0
    while abs(term) > Decimal("1e-50"):
        total += term
        k += 2
        term *= -square / (k * (k - 1))
    return total


def share_below(z: Decimal) -> tuple[Decimal, Decimal]:
    """Φ(z) = ½ + φ(z) (z + z³/3 + z⁵/3·5 + …), and φ(z)."""
    density = (-z * z / 2).exp() / (2 * PI).sqrt()
    term, total, k = z, Decimal(0), 1
    while abs(term) > Decimal("1e-50"):
        total += term
        k += 2
        term *= z * z / k
    return Decimal("0.5") + density * total, density


def test_cos_pi() -> None:
    x = [*np.linspace(0.0, 1.0, 501).tolist(), *RNG.random(500).tolist(), 2.0**-60, 0.25, 0.75, 1 - 2.0**-53]
    assert max(abs(Decimal(cos_pi(one)) - cosine(one)) for one in x) < Decimal("1.5e-16")
    assert [cos_pi(0.0), cos_pi(0.5), cos_pi(1.0)] == [1.0, 0.0, -1.0]


def test_log() -> None:
    x = np.concatenate([RNG.random(1000), 2.0 ** -RNG.uniform(0, 53, 1000), [2.0**-53, 0.5, 0.75, 1000.0]])
    x = x[np.abs(x - 1.0) > 2.0**-20]
    for one, found in zip(x.tolist(), log(x).tolist(), strict=True):
        assert abs(Decimal(found) - Decimal(one).ln()) <= 2 * Decimal(math.ulp(found))


def test_normal() -> None:
    """Φ of each number is u, from ½ to the farthest tails."""
    tails = (np.floor(2.0 ** -RNG.uniform(1, 53, 200) * 2.0**52) + 0.5) * 2.0**-52
    u = np.concatenate([RNG.random(200), tails, 1.0 - tails, [2.0**-53, 1.0 - 2.0**-53, 0.5, 0.075, 0.925]])
    for one, found in zip(u.tolist(), normal(u).tolist(), strict=True):
        below, density = share_below(Decimal(found))
        assert abs(below - Decimal(one)) <= Decimal("1e-15") * abs(Decimal(found)) * density
    np.testing.assert_array_equal(normal(1.0 - tails), -normal(tails))


@pytest.mark.parametrize("x", [0.0, 0.5, 0.9, 0.999, 0.9999999, 1.0, 1.1])
@pytest.mark.parametrize("k", [0, 1, 2, 3, 1022, 1023, 1024, 1025, 2047, 2048, 5000])
def test_power(x: float, k: int) -> None:
    exact = Fraction(x) ** k
    assert abs(Fraction(power(x, k)) - exact) <= exact * k / 2**53 + Fraction(1, 2**1074)


def test_power_of_what_is_large() -> None:
    assert power(1e200, 2) == power(1.5, 10**18) == math.inf
    assert power(0.999, 10**18) == 0.0
    million = power(0.9999999, 2**20)
    assert million == pytest.approx(math.exp(2**20 * math.log1p(-1e-7)), rel=1e-9)


def test_a_power_does_not_depend_on_those_before_it() -> None:
    from distbp.mathematics import fixed_functions

    forward = [power(0.99, k) for k in range(0, 5000, 7)]
    fixed_functions._table.cache_clear()
    assert [power(0.99, k) for k in reversed(range(0, 5000, 7))] == forward[::-1]


@pytest.mark.parametrize(
    ("first", "count"), [(1, 1), (1, 5000), (1023, 3), (1024, 1), (2**20 - 2, 1030), (7, 0), (2**40, 2)]
)
def test_powers_are_each_the_power(first: int, count: int) -> None:
    for x in (0.9999999, 0.9, 0.0):
        assert powers(x, first, count) == [power(x, k) for k in range(first, first + count)]


def test_the_products_of_a_power_are_in_the_documented_order() -> None:
    def one_after_another(x: float, count: int) -> float:
        value = 1.0
        for _ in range(count):
            value *= x
        return value

    thousand = one_after_another(0.9993, 1023) * 0.9993
    assert power(0.9993, 3 * 1024 + 17) == one_after_another(thousand, 3) * one_after_another(0.9993, 17)


def test_rates() -> None:
    """0.3 · 0.7³ with a rounding after each product, and half a cosine."""
    three = 0.7 * 0.7 * 0.7
    assert Schedule("step", 0.3, 0, 100, 10, 0.7, 0.0)(35) == 0.3 * three
    rate = Schedule("cosine", 0.3, 0, 100, 10, 0.7, 0.1)
    for step in range(101):
        exact = Decimal("0.1") * (2 + cosine(step / 100))
        assert abs(Decimal(rate(step)) - exact) < Decimal("1e-16")


@pytest.mark.parametrize(
    "name", ["fixed_functions", "normal_numbers", "counter_numbers", "schedules", "optimizers/adam"]
)
def test_no_function_of_the_c_library_is_called(name: str) -> None:
    """Neither `**` of floating-point numbers, nor cos, exp, log and the like of `math` or NumPy."""
    tree = ast.parse((ROOT / "mathematics" / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            assert ast.unparse(node) == "2.0 ** (-52)"  # a power of 2 is exact
        if isinstance(node, ast.ImportFrom) and node.module == "math":
            assert {one.name for one in node.names} <= {"sqrt", "inf", "pi", "factorial"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("np", "math"):
            assert node.attr not in {"exp", "log", "log1p", "expm1", "cos", "sin", "tanh", "power", "sum", "dot"}
