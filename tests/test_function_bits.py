"""The checksum that tells one exp, log and tanh from another."""

from __future__ import annotations

import platform
import re
import sys

import numpy as np
from runs import Runner

from distbp.ranks.function_bits import function_bits
from distbp.ranks.machine_record import differences, machine, not_compared

# Other arguments than those of the checksum: what they give is compared with what it says.
ASKED = """
import hashlib, math
import numpy as np
from distbp.ranks.function_bits import function_bits
x = np.random.default_rng(0).standard_normal(30000)
few = [[math.exp(a), math.log1p(abs(a)), math.cos(a), 0.999**a] for a in x.tolist()]
found = [np.array(few)]
for a in (x, x.astype(np.float32)):
    found += [np.exp(a), np.tanh(a), np.log(abs(a)), np.logaddexp(a, 0)]
print(hashlib.sha256(b"".join(one.tobytes() for one in found)).hexdigest(), function_bits())
"""


def test_it_is_the_same_each_time() -> None:
    assert re.fullmatch("[0-9a-f]{8}", function_bits())
    assert function_bits() == function_bits() == machine(1)["function_bits"]


def test_other_functions_have_another_checksum(runner: Runner) -> None:
    """Of a C library that does without fused multiply-add, and of NumPy that does without some instructions."""
    simd = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[index]
    settings = (
        {},
        {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-AVX2_Usable,-FMA_Usable"},
        {"NPY_DISABLE_CPU_FEATURES": " ".join(simd.get("found", []))},
    )
    said = []
    for setting in settings:
        result = runner.run(sys.executable, "-c", ASKED, **setting)
        assert result.returncode == 0, result.stderr
        said.append(tuple(result.stdout.split()))
    for results, checksum in said:
        assert {other for other, its in said if its == checksum} == {results}
    assert said[0][1] == function_bits()


def test_the_c_library_is_recorded() -> None:
    name = str(machine(1)["c_library"])
    assert name not in ("", "unknown")
    if platform.libc_ver()[0] == "glibc":
        assert name == " ".join(platform.libc_ver())


def test_what_is_not_known_of_before_is_not_said_to_differ() -> None:
    before, now = {"cpu": "a", "numpy": "1"}, {"cpu": "b", "numpy": "1", "c_library": "glibc 2.41", "distbp": "0.2"}
    assert differences(before, now) == ["cpu: a, now b"]
    assert not_compared(before, now) == "c library, distbp"
    assert differences(now, before)[0] == "c library: glibc 2.41, now unknown"
