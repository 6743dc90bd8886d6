"""The outputs of a network for rows of inputs: one forward pass for `distbp predict` and for `distbp.Model`.

Products of another number of rows may have other bits, so the rows that are worked on together follow from the network
and from the number of all rows alone (`blocks`, `piece_rows`): both callers get the same numbers for the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem, unscaled_output
from distbp.data.scaling import Scaling
from distbp.engine.scaled_rows import ScaledRows
from distbp.mathematics.backprop import piece_samples
from distbp.mathematics.batches import pieces
from distbp.mathematics.forward_room import ForwardPass, ForwardRoom
from distbp.mathematics.network import Network, Parameters

BLOCK, BLOCK_OUTPUTS = 65536, 2**22  # samples, and outputs, that are predicted before they are written, at most


def block_samples(network: Network) -> int:
    """How many samples are predicted before they are written."""
    return max(1, min(BLOCK, BLOCK_OUTPUTS // network.sizes[-1]))


def blocks(network: Network, N: int) -> Iterator[tuple[int, int]]:
    """The rows 0 … N-1 in the blocks that are predicted one after another."""
    return pieces(0, N, block_samples(network))


def piece_rows(network: Network, dtype: str, N: int) -> int:
    """How many rows of a block go through the network together, if there are N rows in all."""
    return min(piece_samples(network, dtype), N)


def output_dtype(target: Scaling, dtype: str) -> np.dtype[Any]:
    """The dtype of outputs in the units of the targets."""
    return np.dtype(dtype if target.is_none else np.float64)


class NetworkOutputs:
    """Computes a^F, in the units of the targets, for rows of inputs in the units of the data."""

    def __init__(self, problem: Problem, parameters: Parameters) -> None:
        self._problem, self._F = problem, problem.network.F
        self._is_scaled = not problem.target.is_none
        self._forward = ForwardPass(problem.network, parameters)

    def __call__(self, x: NDArray[Any], scaled: ScaledRows, room: ForwardRoom, out: NDArray[Any]) -> bool:
        """Fills `out`, shape (m, n_F), for the rows x, shape (m, n_1), which `scaled` takes.

        The room has place for exactly m samples.  Numbers that overflow become infinite, without a warning, whatever
        `numpy.seterr` was told.  The result is True if all of z^2 and all outputs are finite; if it is False, some may
        not be.
        """
        with np.errstate(all="ignore"):
            own = room.a[1]
            if scaled.is_copy(x):
                room.a[1] = x.T
            else:
                scaled.fill(x, own.T)
            self._forward(room)
            room.a[1] = own
            a = room.a[self._F]
            out[:] = unscaled_output(self._problem, a) if self._is_scaled else a.T
            return _are_finite(room.z[2]) and _are_finite(out)


def _are_finite(numbers: NDArray[Any]) -> bool:
    """Whether all are finite for sure: if one is not, neither is the sum of the squares, which is found quickly."""
    flat = numbers.ravel("K")
    return isfinite(flat.dot(flat))
