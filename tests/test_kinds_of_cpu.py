"""For which kind of CPU the code runs: in the reproducible mode for one whose multiply-adds are rounded once."""

from __future__ import annotations

import re
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from compiled_cases import kinds
from native_build import builder, compile_c
from runs import Runner

pytestmark = pytest.mark.skipif("fused" not in kinds(), reason="there is no compiled step for CPUs without FMA")

TRAIN = ("train", "--epochs", "1", "--hidden", "4", "--dry-run")
# fma as it would be with a C library that rounds twice.
TWICE = "double fma(double a, double b, double c) { return a * b + c; }\n"
TWICE_FLOAT = "float fmaf(float a, float b, float c) { return (float)((double)a * b + c); }\n"


def engine_line(text: str) -> str:
    found = re.search(r"^engine    (.*)$", text, re.MULTILINE)
    assert found, text
    return found[1]


@pytest.mark.parametrize(
    ("asked", "options", "expected"),
    [
        ("baseline", (), "compiled (baseline)"),
        ("baseline", ("--reproducible",), "compiled (fused): slow, as "),
        ("fused", (), "compiled (fused): slow, as "),
        ("fused", ("--reproducible",), "compiled (fused): slow, as "),
        ("", ("--reproducible",), f"compiled ({next(iter(kinds()), '')})"),
    ],
)
def test_the_reproducible_mode_takes_the_kind_that_is_fused(
    runner: Runner, asked: str, options: tuple[str, ...], expected: str
) -> None:
    result = runner.afresh(*TRAIN, *options, DISTBP_ISA=asked)
    assert result.returncode == 0, result.stderr
    assert engine_line(result.stdout).startswith(expected)


def test_a_kind_that_there_is_not_is_refused(runner: Runner) -> None:
    result = runner.afresh(*TRAIN, "--reproducible", DISTBP_ISA="sse9")
    assert result.returncode == 2
    assert "DISTBP_ISA=sse9: expected one of " in result.stderr
    assert "fused, which this CPU can run" in result.stderr


@pytest.mark.parametrize("source", [TWICE, TWICE_FLOAT], ids=["fma", "fmaf"])
def test_a_c_library_that_rounds_twice_is_not_used(runner: Runner, tmp_path: Path, source: str) -> None:
    """Then NumPy computes, and the summary says why; --engine compiled is refused.  The plain mode needs no fma."""
    (tmp_path / "twice.c").write_text(source)
    twice = compile_c(tmp_path / "twice.so", *builder().FLAGS, "-fPIC", "-shared", tmp_path / "twice.c")
    settings = {"DISTBP_ISA": "baseline", "LD_PRELOAD": str(twice)}
    result = runner.afresh(*TRAIN, "--reproducible", **settings)
    assert result.returncode == 0, result.stderr
    assert engine_line(result.stdout).startswith("numpy: the reproducible mode needs fused multiply-add")
    result = runner.afresh(*TRAIN, "--reproducible", "--engine", "compiled", **settings)
    assert result.returncode == 2
    assert result.stderr.count("--engine compiled: the reproducible mode needs fused multiply-add") == 1
    assert runner.afresh(*TRAIN, **settings).returncode == 0


# The functions that the code for CPUs without FMA calls.
ASKED = """
import ctypes, ctypes.util, sys
import numpy as np
libm = ctypes.CDLL(ctypes.util.find_library("m"))
for name, real, size in (("fma", ctypes.c_double, "f8"), ("fmaf", ctypes.c_float, "f4")):
    function = getattr(libm, name)
    function.restype, function.argtypes = real, [real] * 3
    numbers = np.frombuffer(bytes.fromhex(sys.argv[1 + (size == "f4")]), size).reshape(-1, 3)
    print(np.array([function(*three) for three in numbers.tolist()], size).tobytes().hex())
"""


def hard(dtype: type) -> np.ndarray:
    """a, b, c with a b + c next to the middle of two numbers, among the smallest ones, or where much cancels."""
    info, rng = np.finfo(dtype), np.random.default_rng(5)
    ulp = float(info.eps)
    near = [1.0, 1 + ulp, 1 - ulp / 2, 1 + ulp * 2 ** (info.nmant // 2), 1.5, 1 - ulp * 2 ** (info.nmant // 2)]
    factors = [2.0**-k for k in (0, 1, info.nmant, info.nmant + 1, info.nmant + 2, 2 * info.nmant)]
    few = [(a * f, b, c) for a, b, f in product(near, near, factors) for c in (1.0, -1.0, 1 + ulp, -(1 + ulp))]
    least = float(info.smallest_subnormal)
    few += [(a * 2.0**-20, b * least * 2.0**19, k * least) for a, b in product(near, near) for k in (0, 1, 2, 3)]
    some = rng.standard_normal((300, 3)) * 2.0 ** rng.integers(-20, 20, (300, 3))
    return np.concatenate([np.array(few), some]).astype(dtype)


def rounded(exact: Fraction, dtype: type) -> float:
    """To the nearest number of the type, to the even one of two."""
    info = np.finfo(dtype)
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, info.minexp) - info.nmant)
    return float(round(exact / unit) * unit)  # of Python: to the even one


@pytest.mark.parametrize("tunables", ["", "glibc.cpu.hwcaps=-FMA,-AVX2,-AVX2_Usable,-FMA_Usable"])
def test_fma_of_this_c_library_is_rounded_once(runner: Runner, tunables: str) -> None:
    """With the instruction of the CPU and without; against fractions."""
    asked = [hard(dtype) for dtype in (np.float64, np.float32)]
    extra = {"GLIBC_TUNABLES": tunables} if tunables else {}
    result = runner.run(sys.executable, "-c", ASKED, *(one.tobytes().hex() for one in asked), **extra)
    assert result.returncode == 0, result.stderr
    for numbers, line in zip(asked, result.stdout.split(), strict=True):
        found = np.frombuffer(bytes.fromhex(line), numbers.dtype)
        exact = [Fraction(a) * Fraction(b) + Fraction(c) for a, b, c in numbers.tolist()]
        true = np.array([rounded(one, numbers.dtype.type) for one in exact])
        np.testing.assert_array_equal(found.astype(float), true)
