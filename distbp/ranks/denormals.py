"""Whether this process keeps denormal numbers: those between 0 and 1.2e-38 in float32, and 2.2e-308 in float64.

A CPU can be told to take them for 0, by two bits of a control register (MXCSR on x86-64: FTZ for results, DAZ for
operands).  A library that was linked with -ffast-math does so for the thread that loads it and for the threads that
this thread starts.  Adam's v, the mean of g², is such a number where |g| is below 1e-19, so the bits of a run change.
"""

from __future__ import annotations

import numpy as np

from distbp.errors import RunError


def keeps_denormals() -> bool:
    """In the thread that calls."""
    least, half = np.array([2.0**-126, 2.0**-149], np.float32), np.array([0.5, 2.0**23], np.float32)
    return bool((least * half).tolist() == [2.0**-127, 2.0**-126])


def check_denormals() -> None:
    """Raises RunError where they are taken for 0."""
    if not keeps_denormals():
        raise RunError(
            "--reproducible: expected a process that computes with numbers below 1.2e-38; this one takes them for 0, "
            "which changes bits\na library that was linked with -ffast-math has switched that on, when LD_PRELOAD or "
            "an import before that of distbp loaded it: start without that library, or leave --reproducible out"
        )
