"""Finds the compiled step, and the form of it that this CPU can run.

`step.so` lies beside this file where a C compiler was there when distbp was installed (see `build.py`).  It needs no
Python: it is called by way of ctypes, so one build serves all versions of Python.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.engine.native.plan import NetPlan, RunPlan, SlicePlan, TreePlan
from distbp.errors import UsageError

HERE = Path(__file__).parent
LIBRARY, WHY_NOT = HERE / "step.so", HERE / "not_built.txt"
KINDS = ("avx512", "avx2", "baseline", "fused")  # of CPUs: the best first, in the order of kinds.c
FUSED = "fused"  # the slow one, which has the bits of CPUs with fused multiply-add on any other
LEAST_WORK = 2**22  # multiplications of a pass for which threads are worth while: some 0.1 ms
CHOICE = "DISTBP_ISA"  # names another kind than the best one
NOT_EXACT = (
    "the reproducible mode needs fused multiply-add, which this CPU has not, and fma of the C library is not exact here"
)

_WHOLE, _POINTER = ctypes.c_int64, ctypes.c_void_p
_NET, _RUN, _SLICE = (ctypes.POINTER(one) for one in (NetPlan, RunPlan, SlicePlan))
_TREE = ctypes.POINTER(TreePlan)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "is_fused": (_WHOLE, []),
    "panel": (_WHOLE, [_WHOLE, _WHOLE]),
    "arranged": (_WHOLE, [_WHOLE, _WHOLE]),
    "start": (_POINTER, [_WHOLE]),
    "stop": (None, [_POINTER]),
    "advance": (ctypes.c_int, [_WHOLE, _NET, _SLICE, _RUN]),
    "forward": (ctypes.c_int, [_WHOLE, _NET, _POINTER, _WHOLE, _POINTER, _RUN]),
    "predict": (ctypes.c_int, [_WHOLE, _NET, _WHOLE, _POINTER, _POINTER, _POINTER]),
    "backward": (None, [_WHOLE, _NET, _WHOLE, _WHOLE, _WHOLE, _WHOLE]),
    "node": (ctypes.c_int, [_WHOLE, _NET, _TREE, _POINTER, _WHOLE, _WHOLE, _POINTER, _POINTER, _RUN]),
    "update": (None, [_WHOLE, _NET, _SLICE, _POINTER]),
    "squares": (None, [_WHOLE, _WHOLE, _POINTER, _POINTER]),
}


class Library:
    """The functions of the compiled step for one kind of CPU; `kind` is its name.

    `is_fused`: each multiply-add is rounded once.  All kinds of which that is true have the same bits.
    """

    def __init__(self, functions: ctypes.CDLL, kind: str) -> None:
        self.kind = kind
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(functions, f"{name}_{kind}")
            function.restype, function.argtypes = result, arguments
            self._functions[name] = function
        self.is_fused = bool(self._functions["is_fused"]())
        self.advance, self.forward, self.backward = (self._functions[n] for n in ("advance", "forward", "backward"))
        self.node, self.update, self.predict = (self._functions[n] for n in ("node", "update", "predict"))

    def panel(self, dtype: np.dtype[Any], m: int) -> int:
        """How many samples a panel has, for pieces of m samples."""
        return int(self._functions["panel"](dtype == np.float64, m))

    def arranged(self, dtype: np.dtype[Any], panel: int) -> int:
        """How many numbers of memory a thread needs to arrange a part of W, for such panels."""
        return int(self._functions["arranged"](dtype == np.float64, panel))

    def squares(self, gradient: NDArray[Any], out: NDArray[np.float64]) -> None:
        """See `distbp.mathematics.clipping.exact_squares`."""
        assert gradient.flags.c_contiguous
        assert out.flags.c_contiguous
        is_double = gradient.dtype == np.float64
        self._functions["squares"](is_double, len(gradient), gradient.ctypes.data, out.ctypes.data)

    def start_team(self, threads: int) -> int:
        """A team of so many threads, the caller among them.  Raises OSError if there are none to be had."""
        team = self._functions["start"](threads)
        if not team:
            raise OSError(f"no {threads} threads could be started")
        return int(team)

    def stop_team(self, team: int | None) -> None:
        """Ends its threads."""
        if team is not None:
            self._functions["stop"](team)


@cache
def library(reproducible: bool = False) -> Library | str:
    """The compiled step for this CPU, or why there is none; for the reproducible mode, one that `is_fused`.

    Raises UsageError if DISTBP_ISA names a kind that there is not, or that this CPU cannot run.
    """
    if not LIBRARY.exists():
        why = WHY_NOT.read_text(encoding="utf-8").strip() if WHY_NOT.exists() else "distbp was not installed with pip"
        return f"the compiled step was not built: {why}"
    try:
        functions = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        return f"the compiled step cannot be loaded: {error}"
    kinds = [kind for kind in KINDS if hasattr(functions, f"advance_{kind}") and functions.can_run(KINDS.index(kind))]
    asked = os.environ.get(CHOICE, "")
    if asked and asked not in kinds:
        raise UsageError(f"{CHOICE}={asked}: expected one of {', '.join(kinds)}, which this CPU can run")
    found = Library(functions, asked or kinds[0])
    if found.is_fused or not reproducible:
        return found
    return Library(functions, FUSED) if FUSED in kinds else NOT_EXACT


def loaded(reproducible: bool) -> Library:
    """The compiled step, for those who know that it is there."""
    lib = library(reproducible)
    assert isinstance(lib, Library), lib
    return lib
