"""For which kind of CPU the code runs: in the reproducible mode for one whose multiply-adds are rounded once."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from compiled_cases import kinds
from hard_sums import hard, rounded_once
from native_build import builder, compile_c
from runs import Runner

pytestmark = pytest.mark.skipif("fused" not in kinds(), reason="there is no compiled step for CPUs without FMA")

TRAIN = ("train", "--epochs", "1", "--hidden", "4", "--dry-run")


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


def test_a_c_library_that_rounds_twice_is_not_used(runner: Runner, tmp_path: Path) -> None:
    """Then NumPy computes, and the summary says why; --engine compiled is refused.  The plain mode needs no fma."""
    (tmp_path / "twice.c").write_text("double fma(double a, double b, double c) { return a * b + c; }")
    twice = compile_c(tmp_path / "twice.so", *builder().FLAGS, "-fPIC", "-shared", tmp_path / "twice.c")
    settings = {"DISTBP_ISA": "baseline", "LD_PRELOAD": str(twice)}
    result = runner.afresh(*TRAIN, "--reproducible", **settings)
    assert result.returncode == 0, result.stderr
    assert engine_line(result.stdout).startswith("numpy: the reproducible mode needs fused multiply-add")
    result = runner.afresh(*TRAIN, "--reproducible", "--engine", "compiled", **settings)
    assert result.returncode == 2
    assert result.stderr.count("--engine compiled: the reproducible mode needs fused multiply-add") == 1
    assert engine_line(runner.afresh(*TRAIN, **settings).stdout) == "compiled (baseline)"


# The function that the code for CPUs without FMA calls.
ASKED = """
import ctypes, ctypes.util, sys
import numpy as np
fma = ctypes.CDLL(ctypes.util.find_library("m")).fma
fma.restype, fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3
numbers = np.frombuffer(bytes.fromhex(sys.argv[1])).reshape(-1, 3)
print(np.array([fma(*three) for three in numbers.tolist()]).tobytes().hex())
"""


@pytest.mark.parametrize("tunables", ["", "glibc.cpu.hwcaps=-FMA,-AVX2,-AVX2_Usable,-FMA_Usable"])
def test_fma_of_this_c_library_is_rounded_once(runner: Runner, tunables: str) -> None:
    """With the instruction of the CPU and without."""
    numbers = hard(np.float64)
    extra = {"GLIBC_TUNABLES": tunables} if tunables else {}
    result = runner.run(sys.executable, "-c", ASKED, numbers.tobytes().hex(), **extra)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.frombuffer(bytes.fromhex(result.stdout)), rounded_once(numbers))
