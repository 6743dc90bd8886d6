"""Compiles the compiled step when distbp is installed, if there is a C compiler; see pyproject.toml.

`step.so` holds the code for several kinds of CPU; which of them runs is chosen when it is loaded (`library.py`).  It
needs neither Python's headers nor NumPy's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
LIBRARY, WHY_NOT, STAMP = (HERE / name for name in ("step.so", "not_built.txt", "step.stamp"))
SECONDS = 300  # for the compiler
# No contraction: a fused multiply-add is where the code says so.  No errno, no traps: loops can then be vectors.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
SHARED = ["-fPIC", "-fvisibility=hidden", "-pthread"]
AVX2 = ["-mavx2", "-mfma"]
KINDS = {
    "avx512": [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mprefer-vector-width=512"],
    "avx2": AVX2,
    "baseline": [],
    "fused": ["-DEXACT_FMA"],  # as the baseline, but a multiply-add is rounded once: see vectors.h
}


class CompiledStep(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """The hook of the build: adds the compiled step to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles; where that fails the wheel is made without, and says why."""
        if why := build_again():
            WHY_NOT.write_text(f"{why}\n", encoding="utf-8")
            print(f"distbp: the compiled step is left out ({why}); steps are computed with NumPy", file=sys.stderr)
            build_data["artifacts"].append(f"distbp/engine/native/{WHY_NOT.name}")
            return
        WHY_NOT.unlink(missing_ok=True)
        build_data["artifacts"].append(f"distbp/engine/native/{LIBRARY.name}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


@contextmanager
def _alone() -> Iterator[None]:
    """Two installations from one tree, at the same time, compile once."""
    with open(STAMP, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_again() -> str:
    """Compiles, unless the library here was made of these sources in this way; why that failed, or ""."""
    compiler = _compiler()
    if not compiler:
        return "no C compiler was found"
    if not shutil.which(compiler[0]):
        return f"the compiler that CC names was not found: {compiler[0]}"
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=SECONDS).stdout
    made_of = [platform.machine(), version, *(path.read_text() for path in sorted(HERE.glob("*.[ch]")))]
    stamp = hashlib.sha256("\n".join([*made_of, Path(__file__).read_text()]).encode()).hexdigest()
    with _alone():
        if LIBRARY.exists() and STAMP.read_text() == stamp:
            return ""
        why = build(LIBRARY, compiler, linker=["-s"])
        if not why:
            STAMP.write_text(stamp)
        return why


def kinds_of(machine: str) -> dict[str, list[str]]:
    """The kinds of CPU of an architecture, each with its flags."""
    if machine in ("x86_64", "AMD64"):
        return KINDS
    names = ("baseline",) if machine in ("aarch64", "arm64") else ("baseline", "fused")
    return {name: KINDS[name] for name in names}  # aarch64 always has fused multiply-add


def build(
    target: Path,
    compiler: list[str],
    more: Sequence[str] = (),
    linker: Sequence[str] = (),
    machine: str = platform.machine(),
) -> str:
    """Compiles the sources beside this file into `target`, with `more` flags, and some for the linker alone.

    `machine`: the architecture for which the compiler compiles.  Returns why that failed, or "".
    """
    kinds = kinds_of(machine)
    with tempfile.TemporaryDirectory() as directory:
        objects = {f"{kind}.o": ["engine.c", f"-DISA={kind}", *flags] for kind, flags in kinds.items()}
        running = {
            name: subprocess.Popen(
                [*compiler, *FLAGS, *SHARED, *more, "-c", *words, "-o", f"{directory}/{name}"],
                cwd=HERE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, words in {**objects, "kinds.o": ["kinds.c"]}.items()
        }
        try:
            said = {name: process.communicate(timeout=SECONDS)[1] for name, process in running.items()}
        except subprocess.TimeoutExpired:
            for process in running.values():
                process.kill()
                process.wait()
            return f"the compiler took more than {SECONDS} s"
        failed = [name for name, process in running.items() if process.returncode]
        if {"kinds.o", "baseline.o"} & {*failed}:  # an old compiler may not know the others
            return f"the compiler failed: {said[failed[-1]][:500]}"
        for name in failed:
            print(f"distbp: the code for {name[:-2]} is left out: {said[name][:200].strip()}", file=sys.stderr)
        parts = [f"{directory}/{name}" for name in running if name not in failed]
        command = [*compiler, *more, *linker, "-shared", "-pthread", "-o", f"{directory}/step.so", *parts, "-lm"]
        linked = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if linked.returncode:
            return f"the linker failed: {linked.stderr[:500]}"
        fresh = target.with_suffix(f".new{os.getpid()}")
        shutil.move(f"{directory}/step.so", fresh)
        fresh.replace(target)  # a process that uses the one before keeps it
    return ""


def _compiler() -> list[str]:
    """The command that CC names, or cc, gcc or clang; [] without one."""
    named = shlex.split(os.environ.get("CC", ""))
    return named or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
