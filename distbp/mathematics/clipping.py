"""Gradient clipping by the global norm: ∂L_B/∂w is shortened where it is longer than a limit, its direction kept.

    g ← g · min(1, limit / |g|),   |g|² = Σ over all w^l_jk and b^l_j

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks" (2013), algorithm 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.activations import Array

BLOCK = 4096  # numbers whose squares are added up by themselves, so that who adds up which blocks makes no difference
TOGETHER = 16  # blocks that are converted at a time


def squares(gradient: Array, out: NDArray[np.float64], *, exact: bool) -> None:
    """Σ g² of each block of the gradient: |g|² is the sum of all.

    `exact`: in float64, where squares of float32 numbers neither overflow nor vanish.
    """
    if exact and gradient.dtype != np.float64:
        for first in range(0, len(out), TOGETHER):
            part = gradient[first * BLOCK : (first + TOGETHER) * BLOCK].astype(np.float64)
            squares(part, out[first : first + TOGETHER], exact=False)
        return
    whole = len(gradient) // BLOCK
    blocks = gradient[: whole * BLOCK].reshape(whole, BLOCK)
    out[:whole] = np.vecdot(blocks, blocks)
    if whole < len(out):
        rest = gradient[whole * BLOCK :]
        out[whole] = rest @ rest


def shorten(gradient: Array, length: float, limit: float) -> None:
    """In place, where its length is above the limit."""
    if length > limit:
        gradient *= limit / length
