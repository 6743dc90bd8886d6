"""What exp, log, tanh and the like give on this machine, as a checksum.

IEEE 754 fixes + - × ÷ √ to the last bit, and no other function.  Those that the NumPy engine uses come from NumPy,
which chooses by the instructions of the CPU, and from the C library, which does too, and changes from version to
version: logaddexp (softplus, binary cross-entropy) is made of its log1p and exp.

The compiled engine has functions of its own.  The first parameters, the order of the samples and the learning rates of
all runs are made by `distbp.mathematics.fixed_functions` and its like.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from distbp.mathematics.activations import Array

ARGUMENTS = 4096


def function_bits() -> str:
    """Eight hexadecimal digits, the same where these functions give the same bits for some thousand arguments."""
    grid = np.arange(1, ARGUMENTS + 1) / 83.0
    checksum = 0
    with np.errstate(all="ignore"):
        for dtype, lowest in ((np.float32, -103.0), (np.float64, -745.0)):
            x: Array = grid.astype(dtype)
            small = np.linspace(lowest, lowest + 20.0, 64, dtype=dtype)  # the results are close to 0, or below its like
            for values in (np.exp(-x), np.exp(small), np.log(x), np.tanh(x / 4), np.logaddexp(8 - x, 0.0)):
                checksum = zlib.crc32(values.astype(dtype, copy=False).tobytes(), checksum)
    of_libm = [[math.exp(-x), math.log1p(x), math.cos(x), 0.999**x] for x in grid[::4].tolist()]
    return f"{zlib.crc32(np.array(of_libm).tobytes(), checksum):08x}"
