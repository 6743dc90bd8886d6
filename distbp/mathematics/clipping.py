"""Gradient clipping by the global norm: ∂L_B/∂w is shortened where it is longer than a limit, its direction kept.

    g ← g · min(1, limit / |g|),   |g|² = Σ over all w^l_jk and b^l_j

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks" (2013), algorithm 1.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from distbp.mathematics.activations import Array

BLOCK = 2**16  # numbers that are squared in float64 at a time


def norm(gradient: Array) -> float:
    """|g|, summed in float64: squares of float32 numbers neither overflow nor vanish there."""
    total = 0.0
    for start in range(0, len(gradient), BLOCK):
        block = gradient[start : start + BLOCK].astype(np.float64)
        total += float(block @ block)
    return sqrt(total)


def shorten(gradient: Array, length: float, limit: float) -> None:
    """In place, where its length is above the limit."""
    if length > limit:
        gradient *= limit / length
