"""The C compiler and the flags with which the compiled step is built, for tests that compile something beside it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import distbp.engine.native as native
from distbp.engine.native.library import KINDS

HERE = Path(__file__).parent
NATIVE = Path(native.__file__).parent
INTERFACE = "hatchling.builders.hooks.plugin.interface"
SECONDS = 300  # for the compiler


@cache
def builder() -> Any:
    """`build.py`, which hatchling calls; tests do not need hatchling."""
    spec = importlib.util.spec_from_file_location("distbp_build", NATIVE / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    stood_in = {} if INTERFACE in sys.modules else {INTERFACE: ModuleType(INTERFACE)}
    for one in stood_in.values():
        one.BuildHookInterface = object  # type: ignore[attr-defined]
    sys.modules.update(stood_in)
    try:
        spec.loader.exec_module(module)
    finally:
        for name in stood_in:
            del sys.modules[name]
    return module


def compilers() -> list[list[str]]:
    """The command of each C compiler that is here; the first one is the one that `build.py` takes."""
    asked = shlex.split(os.environ.get("CC", ""))
    names = [asked or ["cc" if shutil.which("cc") else "gcc"], ["gcc"], ["clang"]]
    found = {os.path.realpath(path): name for name in names if (path := shutil.which(name[0]))}
    return list({path: name for path, name in reversed(found.items())}.values())[::-1]


def compile_c(target: Path, *arguments: str | Path) -> Path:
    """What the first C compiler makes of these arguments; skips the test where there is no C compiler."""
    if not compilers():
        pytest.skip("no C compiler")
    command = [*compilers()[0], *map(str, arguments), f"-I{NATIVE}", "-o", str(target)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert made.returncode == 0, made.stderr
    return target


def flags_of_kinds() -> dict[str, list[str]]:
    """For each kind of CPU that the compiled step has code for: the flags."""
    kinds = builder().kinds_of(platform.machine())
    return {kind: [*builder().FLAGS, *kinds[kind]] for kind in KINDS if kind in kinds}
