"""What the bits of a result depend on besides configuration and data: distbp, CPU, BLAS, NumPy, C library, threads."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from distbp import __version__
from distbp.ranks.function_bits import function_bits

Machine = dict[str, str | int]


def machine(threads: int) -> Machine:
    """Of this rank."""
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = ", ".join(f"{pool['internal_api']} {pool['version']}" for pool in pools)
    return {
        "cpu": _cpu(),
        "instruction_sets": " ".join(_instruction_sets()),
        "blas": blas or "unknown",
        "blas_kernels": ", ".join(str(pool.get("architecture", "unknown")) for pool in pools) or "unknown",
        "numpy": np.__version__,
        "c_library": _c_library(),
        "function_bits": _function_bits(),
        "distbp": __version__,
        "threads": threads,
    }


_function_bits = cache(function_bits)  # they are the same for all runs of a process


def _c_library() -> str:
    """glibc 2.36"""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):  # of another one
        version = None
    other = f"{platform.system()} {platform.mac_ver()[0] or platform.release()}"
    return version or " ".join(filter(None, platform.libc_ver())) or other


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    return "".join(letter if letter.isprintable() else "?" for letter in name)  # a checkpoint holds nothing else


def _instruction_sets() -> list[str]:
    """Those that NumPy has found and uses."""
    config: Any = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    return [*simd.get("baseline", []), *simd.get("found", [])]


def differences(before: Machine, now: Machine) -> list[str]:
    """'cpu: AMD EPYC 7763, now Intel Xeon', for each thing that differs from what is known of before."""
    return [
        f"{name.replace('_', ' ')}: {fact}, now {now.get(name, 'unknown')}"
        for name, fact in sorted(before.items())
        if fact != now.get(name)
    ]


def not_compared(before: Machine, now: Machine) -> str:
    """c library, distbp: what an older version has not recorded."""
    return ", ".join(name.replace("_", " ") for name in sorted(now.keys() - before.keys()))
