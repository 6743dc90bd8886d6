"""Compiles the compiled step when distbp is installed, if there is a C compiler; see pyproject.toml.

`step.so` holds the code for several kinds of CPU; which of them runs is chosen when it is loaded (`library.py`).  It
needs neither Python's headers nor NumPy's.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
LIBRARY, WHY_NOT = HERE / "step.so", HERE / "not_built.txt"
SECONDS = 300  # for the compiler
# No contraction: a fused multiply-add is where the code says so.  No errno, no traps: loops can then be vectors.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
SHARED = ["-fPIC", "-fvisibility=hidden", "-pthread"]
AVX2 = ["-mavx2", "-mfma"]
KINDS = {
    "avx512": [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mprefer-vector-width=512"],
    "avx2": AVX2,
    "baseline": [],
}


class CompiledStep(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """The hook of the build: adds the compiled step to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles; where that fails the wheel is made without, and says why."""
        why = build(LIBRARY)
        if why:
            WHY_NOT.write_text(f"{why}\n", encoding="utf-8")
            print(f"distbp: the compiled step is left out ({why}); steps are computed with NumPy", file=sys.stderr)
            build_data["artifacts"].append("distbp/engine/native/not_built.txt")
            return
        WHY_NOT.unlink(missing_ok=True)
        build_data["artifacts"].append("distbp/engine/native/step.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def build(target: Path, more: tuple[str, ...] = ()) -> str:
    """Compiles the sources beside this file into `target`, with `more` flags; why that failed, or ""."""
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or ""]
    if not shutil.which(compiler[0]):
        return "no C compiler was found"
    kinds = KINDS if platform.machine() in ("x86_64", "AMD64") else {"baseline": []}
    with tempfile.TemporaryDirectory() as directory:
        objects = {f"{kind}.o": ["engine.c", f"-DISA={kind}", *flags] for kind, flags in kinds.items()}
        objects["kinds.o"] = ["kinds.c"]
        running = {
            name: subprocess.Popen(
                [*compiler, *FLAGS, *SHARED, *more, "-c", *words, "-o", f"{directory}/{name}"],
                cwd=HERE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, words in objects.items()
        }
        try:
            said = {name: process.communicate(timeout=SECONDS)[1] for name, process in running.items()}
        except subprocess.TimeoutExpired:
            for process in running.values():
                process.kill()
            return f"the compiler took more than {SECONDS} s"
        made = [name for name, process in running.items() if process.returncode == 0]
        if not {"kinds.o", "baseline.o"} <= {*made}:
            return f"the compiler failed: {said['baseline.o' if 'baseline.o' not in made else 'kinds.o'][:500]}"
        fresh = target.with_suffix(".new")
        parts = [f"{directory}/{name}" for name in made]
        linked = subprocess.run(
            [*compiler, *more, "-shared", "-pthread", "-o", str(fresh), *parts], capture_output=True, text=True
        )
        if linked.returncode:
            return f"the linker failed: {linked.stderr[:500]}"
        fresh.replace(target)  # a process that uses the one before keeps it
    return ""
