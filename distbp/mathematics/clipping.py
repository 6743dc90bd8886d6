"""Gradient clipping by the global norm: ∂L_B/∂w is shortened where it is longer than a limit, its direction kept.

    g ← g · min(1, limit / |g|),   |g|² = Σ over all w^l_jk and b^l_j

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks" (2013), algorithm 1.
"""

from __future__ import annotations

from math import inf, isfinite, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.activations import Array

BLOCK = 4096  # numbers whose squares are added up by themselves, so that who adds up which blocks makes no difference
TOGETHER = 16  # blocks that are converted at a time
SCALE = 2.0**-600  # times any numbers of float64, so many as there may be, the sum of their squares is finite


class Length(NamedTuple):
    """|∂L_B/∂w|: `value`, which is inf where it is beyond the largest number; `scaled`, the same times SCALE.

    `scaled` is finite exactly where all numbers of the gradient are.
    """

    value: float
    scaled: float


def length_of(squares: NDArray[np.float64], scaled: NDArray[np.float64]) -> Length:
    """The length, from the squares of all blocks; where these are not finite, from the `scaled` ones of such blocks."""
    square = _one_after_another(squares)
    if isfinite(square):
        value = sqrt(square)
        return Length(value, value * SCALE)
    whole = np.where(np.isfinite(squares), squares * SCALE * SCALE, scaled)
    length = sqrt(square) if isfinite(square := _one_after_another(whole)) else inf
    return Length(length / SCALE, length)


def _one_after_another(numbers: NDArray[np.float64]) -> float:
    """Their sum, in the order in which the compiled step adds up those of all blocks."""
    return float(np.add.accumulate(numbers)[-1])


def exact_squares(gradient: Array, out: NDArray[np.float64]) -> None:
    """Σ g² of each block of the gradient: |g|² is the sum of all.

    In float64, where squares of float32 numbers neither overflow nor vanish; those of float64 numbers may.
    """
    for first in range(0, len(out), TOGETHER):
        part = gradient[first * BLOCK : (first + TOGETHER) * BLOCK].astype(np.float64, copy=False)
        _squares(part, out[first : first + TOGETHER])


def _squares(gradient: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    whole = len(gradient) // BLOCK
    blocks = gradient[: whole * BLOCK].reshape(whole, BLOCK)
    out[:whole] = np.vecdot(blocks, blocks)
    if whole < len(out):
        rest = gradient[whole * BLOCK :]
        out[whole] = rest @ rest


def scaled_squares(gradient: Array, out: NDArray[np.float64]) -> None:
    """The same of SCALE times the gradient; not finite only where a number of the gradient is not.

    The compiled engine asks this, too, so the sum has an order of its own.
    """
    for i in range(len(out)):
        block = gradient[i * BLOCK : (i + 1) * BLOCK].astype(np.float64)
        block *= SCALE
        out[i] = _one_after_another(np.square(block, out=block))


def shorten(gradient: Array, length: Length, limit: float) -> None:
    """In place, where its length is above the limit."""
    if length.value <= limit:
        return
    factor = limit / length.value
    if factor >= np.finfo(gradient.dtype).smallest_normal:
        gradient *= factor
        return
    root = sqrt(limit) / sqrt(length.scaled) * sqrt(SCALE)  # of a factor that this type of numbers does not have
    gradient *= root
    gradient *= root
