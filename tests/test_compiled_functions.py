"""exp, log, tanh and the rest of the compiled step, against NumPy with more digits: float64, and long double.

Errors are in ulp: the distance from the true value, where 1 is the distance between the two floats around it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hard_sums import hard, rounded_once
from native_build import HERE, NATIVE, builder, compile_c, flags_of_kinds

from distbp.engine.native.library import KINDS
from distbp.mathematics.activations import GELU_K

Array = np.ndarray
WIDE = {np.float32: np.float64, np.float64: np.longdouble}
BITS = {np.float32: np.uint32, np.float64: np.uint64}
MANTISSAS = {np.float32: 512, np.float64: 32}  # of each exponent, and in all as many again within ±20
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def sigmoid(z: Array) -> Array:
    e = np.exp(-abs(z))
    return np.where(z > 0, 1, e) / (1 + e)


def softplus(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-abs(z)))


def gelu_2u(z: Array) -> tuple[Array, Array]:
    """2 u = 2 √(2/π) (z + k z³), which has 16 digits in the coefficients, as in the text; and its derivative."""
    c, k = z.dtype.type(2.0 * np.sqrt(2.0 / np.pi)), z.dtype.type(GELU_K)
    return c * z * (1 + k * z * z), c * (1 + 3 * k * z * z)


def gelu(z: Array) -> Array:
    """z/2 (1 + tanh u) without a difference; beyond ±1000 all digits are those of 0 and z."""
    near = np.clip(z, -1000, 1000)
    return np.where(abs(z) > 1000, np.maximum(z, 0), near * sigmoid(gelu_2u(near)[0]))


def gelu_prime(z: Array) -> Array:
    near = np.clip(z, -1000, 1000)
    u, u_prime = gelu_2u(near)
    return sigmoid(u) + near * sigmoid(u) * sigmoid(-u) * u_prime


TRUTH: dict[str, Callable[[Array], Array]] = {
    "exp_": np.exp,
    "log_": np.log,
    "small_log1p": np.log1p,
    "sigmoid_": sigmoid,
    "tanh_": np.tanh,
    "softplus_": softplus,
    "gelu_": gelu,
    "gelu_prime_": gelu_prime,
}
MOST_ULP = {"exp_": 1.1, "log_": 1.0, "small_log1p": 1.3, "sigmoid_": 2.0, "tanh_": 2.0, "softplus_": 2.1}
BASELINE_ULP = 0.1  # more, where each multiplication is rounded before the addition


class Functions:
    """Those of one kind of CPU, for arrays."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    @property
    def is_fused(self) -> bool:
        """Whether it was compiled with multiply-adds that are rounded once."""
        return bool(self._library.is_fused())

    @property
    def kinds(self) -> set[str]:
        """The kinds of CPU that this one is."""
        return {kind for i, kind in enumerate(KINDS) if self._library.can_run(ctypes.c_int64(i))}

    def __call__(self, name: str, x: Array) -> Array:
        x, out = np.ascontiguousarray(x), np.empty(len(x), x.dtype)
        function = self._library[name + {"f": "float", "d": "double"}[x.dtype.char]]
        function(ctypes.c_int64(len(x)), ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data))
        return out


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Functions]:
    """By kind of CPU, the best first: those that this one can run."""
    directory = tmp_path_factory.mktemp("functions")
    sources = (HERE / "compiled_functions.c", NATIVE / "kinds.c")
    made = {
        kind: Functions(compile_c(directory / f"{kind}.so", *flags, *builder().SHARED, "-shared", *sources, "-lm"))
        for kind, flags in flags_of_kinds().items()
    }
    return {kind: one for kind, one in made.items() if kind in one.kinds}


def arguments(dtype: type, name: str) -> Array:
    """Of all exponents and both signs; and many of those for which the functions are neither 0 nor 1 nor x."""
    rng, info = np.random.default_rng(3), np.finfo(dtype)
    exponents = np.arange(2 ** (8 * dtype().itemsize - info.nmant), dtype=BITS[dtype]) << BITS[dtype](info.nmant)
    mantissas = rng.integers(0, 2**info.nmant, (MANTISSAS[dtype], len(exponents)), dtype=BITS[dtype])
    every = (exponents + mantissas).view(dtype).ravel()
    x = np.concatenate([every[np.isfinite(every)], rng.uniform(-20, 20, every.size).astype(dtype)])
    if name == "small_log1p":
        return x[(x >= 0) & (x <= 1)]
    return abs(x[x != 0]) if name == "log_" else x


def in_ulp(found: Array, true: Array) -> Array:
    """How far they are from the truth, which has more digits and may be beyond the largest number."""
    info = np.finfo(found.dtype)
    _, exponent = np.frexp(abs(true))
    ulp = np.ldexp(true.dtype.type(1), np.maximum(exponent - 1, info.minexp) - info.nmant)
    with np.errstate(over="ignore"):
        same = found == true.astype(found.dtype)
    with np.errstate(invalid="ignore"):
        return np.where(same, np.fmin(0.5, abs(found - true) / ulp), abs(found - true) / ulp)


def needs_long_double(dtype: type) -> None:
    if np.finfo(WIDE[dtype]).nmant <= np.finfo(dtype).nmant:
        pytest.skip("long double has no more digits than double")


@pytest.mark.slow
@dtypes
@pytest.mark.parametrize("name", MOST_ULP)
def test_errors_are_below_two_ulp_or_so(functions: dict[str, Functions], name: str, dtype: type) -> None:
    """For all numbers, the smallest ones and those with results beyond the largest number among them."""
    needs_long_double(dtype)
    x = arguments(dtype, name)
    with np.errstate(over="ignore", under="ignore"):
        true = TRUTH[name](x.astype(WIDE[dtype]))
    for kind, function in functions.items():
        found = function(name, x)
        error = in_ulp(found, true)
        worst = int(np.argmax(error))
        most = MOST_ULP[name] + BASELINE_ULP * (kind == "baseline")
        assert error[worst] <= most, f"{kind}: {error[worst]:.3} ulp at {x[worst]!r}"


@dtypes
def test_gelu_has_the_error_of_its_exponent(functions: dict[str, Functions], dtype: type) -> None:
    """Relative, also where 1 + tanh u is almost 0: each rounding of 2u counts |2u| times."""
    needs_long_double(dtype)
    x = arguments(dtype, "gelu_")
    with np.errstate(over="ignore", under="ignore"):
        true = gelu(x.astype(WIDE[dtype]))
        u = abs(gelu_2u(np.clip(x, -100, 0))[0])
    for kind, function in functions.items():
        error = in_ulp(function("gelu_", x), true) / (3 + 3 * np.minimum(u, 800))
        worst = int(np.argmax(error))
        assert error[worst] <= 1, f"{kind}: {error[worst]:.3} times as much as expected at {x[worst]!r}"


@dtypes
def test_the_derivative_of_gelu_is_as_near_as_1_has_digits(functions: dict[str, Functions], dtype: type) -> None:
    """Where it passes 0 it is a difference of numbers of the size of 1."""
    needs_long_double(dtype)
    x = arguments(dtype, "gelu_prime_")
    true = gelu_prime(x.astype(WIDE[dtype]))
    for kind, function in functions.items():
        error = abs(function("gelu_prime_", x) - true) / np.finfo(dtype).eps
        worst = int(np.argmax(error))
        assert error[worst] <= 5, f"{kind}: {error[worst]:.3} epsilon at {x[worst]!r}"


# What becomes of -inf, -0, 0 and inf; NaN becomes NaN everywhere.
SPECIAL = {
    "exp_": (0.0, 1.0, 1.0, np.inf),
    "log_": (np.nan, -np.inf, -np.inf, np.inf),
    "sigmoid_": (0.0, 0.5, 0.5, 1.0),
    "tanh_": (-1.0, -0.0, 0.0, 1.0),
    "gelu_": (-0.0, -0.0, 0.0, np.inf),
    "gelu_prime_": (0.0, 0.5, 0.5, 1.0),
}


@dtypes
@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_number_or_0(functions: dict[str, Functions], name: str, dtype: type) -> None:
    """Alone, and in a vector with others."""
    x = np.array([-np.inf, -0.0, 0.0, np.inf, np.nan, -np.nan], dtype)
    expected = np.array([*SPECIAL[name], np.nan, np.nan], dtype)
    zeros = expected == 0
    for function in functions.values():
        among_others = function(name, np.tile(x, 16))[48:54]
        alone = np.concatenate([function(name, one) for one in np.split(x, len(x))])
        for found in (among_others, alone):
            np.testing.assert_array_equal(found, expected)
            assert (np.signbit(found) == np.signbit(expected))[zeros].all()


@dtypes
def test_softplus_and_log1p_of_what_is_no_number(functions: dict[str, Functions], dtype: type) -> None:
    softplus_of = np.array([-np.inf, np.inf, np.nan], dtype)
    for function in functions.values():
        np.testing.assert_array_equal(function("softplus_", softplus_of), [0.0, np.inf, np.nan])
        np.testing.assert_array_equal(function("small_log1p", np.array([0.0, np.nan], dtype)), [0.0, np.nan])


@dtypes
def test_the_logarithm_of_a_negative_number_is_none(functions: dict[str, Functions], dtype: type) -> None:
    x = -arguments(dtype, "log_")
    for function in functions.values():
        assert np.isnan(function("log_", x)).all()


@dtypes
@pytest.mark.parametrize("name", TRUTH)
def test_the_same_bits_on_all_kinds_that_are_fused(functions: dict[str, Functions], name: str, dtype: type) -> None:
    """Whatever the width of their vectors, and at any place in them."""
    x = arguments(dtype, name)
    fused = [one for one in functions.values() if one.is_fused]
    expected = fused[0](name, x).tobytes()
    for function in fused:
        assert function(name, x).tobytes() == expected
        assert function(name, x[3:]).tobytes() == expected[3 * x.itemsize :]


@dtypes
@pytest.mark.parametrize("name", ["sums_", "vector_sums_"])
def test_multiply_adds_that_are_fused_are_rounded_once(functions: dict[str, Functions], name: str, dtype: type) -> None:
    """Against fractions; infinite numbers and NaN as IEEE 754 has them."""
    numbers = hard(dtype)
    true = rounded_once(numbers)
    inf, nan, most = np.inf, np.nan, np.finfo(dtype).max
    special = [
        (inf, 1, 1),
        (1, -inf, 1),
        (inf, 1, -inf),
        (0, inf, 1),
        (1, 1, inf),
        (1, 1, -inf),
        (nan, 0, 0),
        (1, nan, inf),
    ]
    special += [(most, 2, -most), (most, 2, 0), (-most, most, 1), (0, 0, nan)]
    expected = [inf, -inf, nan, nan, inf, -inf, nan, nan, most, inf, -inf, nan]
    zeros = np.array([(-0.0, 1, -0.0), (0.0, 1, -0.0), (-0.0, 3, 0.0), (1, 1, -1), (-2, 0.0, -0.0), (1, -1, 1)], dtype)
    for function in functions.values():
        if function.is_fused:
            np.testing.assert_array_equal(function(name, numbers), true)
            np.testing.assert_array_equal(function(name, np.array(special, dtype)), np.array(expected, dtype))
            assert np.signbit(function(name, zeros)).tolist() == [True, False, False, False, True, False]
