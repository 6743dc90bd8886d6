"""The outputs of a network for rows of inputs: one forward pass for `distbp predict` and for `distbp.Model`.

It is computed in C, or with NumPy where the compiled step is not there or does not know the network.  In NumPy,
products of another number of rows may have other bits, so the rows that are worked on together follow from the network
and from the number of all rows alone (`blocks`, `piece_rows`): both callers get the same numbers for the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem, unscaled_output
from distbp.data.scaling import Scaling
from distbp.engine.compiled_outputs import CompiledOutputs, why_no_compiled_outputs
from distbp.engine.native.library import Library, library
from distbp.engine.scaled_rows import ScaledRows
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.backprop import piece_samples
from distbp.mathematics.batches import pieces
from distbp.mathematics.forward_room import ForwardMemory, ForwardPass, ForwardRoom
from distbp.mathematics.network import Network, Parameters
from distbp.settings.config import Config

BLOCK, BLOCK_OUTPUTS = 65536, 2**22  # samples, and outputs, that are predicted before they are written, at most


class Outputs(Protocol):
    """Computes a^F, in the units of the targets, for rows of inputs in the units of the data.

    For one thread of Python at a time.
    """

    def __call__(self, x: NDArray[Any], out: NDArray[Any], threads: int = 1) -> bool:
        """Fills `out`, shape (N, n_F), contiguous, for rows x, shape (N, n_1), of any real dtype.

        `threads`: of the compiled step, which stay until `close`; NumPy has its own.

        The result is True if all of x, of z^2 and of the outputs are finite; if it is False, some may not be.  Numbers
        that overflow become infinite, without a warning, whatever `numpy.seterr` was told.
        """

    def take_room(self, N: int, threads: int = 1) -> None:
        """Takes room for N rows, as far as they are worked on together, before the first call."""

    def close(self) -> None:
        """Ends the threads."""


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


def make_outputs(problem: Problem, parameters: Parameters, config: Config, arena: Arena = ALIGNED) -> Outputs:
    """The compiled ones, if they can be had and the network was not trained with --engine numpy."""
    lib = library(config.reproducible) if config.engine != "numpy" else "--engine numpy"
    if isinstance(lib, Library) and not why_no_compiled_outputs(problem.network):
        return CompiledOutputs(lib, problem, parameters, arena)
    return NumpyOutputs(problem, parameters, config.dtype, arena)


class NumpyOutputs:
    """See `Outputs`."""

    def __init__(self, problem: Problem, parameters: Parameters, dtype: str, arena: Arena = ALIGNED) -> None:
        self._problem, self._network, self._dtype = problem, problem.network, dtype
        self._is_scaled = not problem.target.is_none
        self._forward = ForwardPass(problem.network, parameters)
        self._longest = piece_samples(problem.network, dtype)
        # A value of x that is not finite makes all of z^2 NaN or infinite, unless nothing is multiplied by it.
        self._has_unused_inputs = not bool(parameters.W[2].any(axis=0).all())
        self._scaled: dict[np.dtype[Any], ScaledRows] = {}
        self._memory = ForwardMemory(problem.network, dtype, arena)

    def __call__(self, x: NDArray[Any], out: NDArray[Any], threads: int = 1) -> bool:
        N, is_finite = len(x), not self._has_unused_inputs
        if not N:
            return True
        scaled = self._scaled.get(x.dtype)
        if scaled is None:
            scaled = self._scaled[x.dtype] = ScaledRows(self._problem.input, x.dtype, self._dtype)
        if self._longest >= N:
            return self._piece(x, scaled, self._memory.room(N), out) and is_finite
        room = self._memory.room(self._longest)
        for start, end in blocks(self._network, N):
            for first, last in pieces(start, end, self._longest):
                part = room if last - first == room.m else room.part(last - first)
                is_finite &= self._piece(x[first:last], scaled, part, out[first:last])
        return is_finite

    def take_room(self, N: int, threads: int = 1) -> None:
        self._memory.grow(min(N, self._longest))

    def close(self) -> None:
        """There are no threads."""

    def _piece(self, x: NDArray[Any], scaled: ScaledRows, room: ForwardRoom, out: NDArray[Any]) -> bool:
        """The outputs of as many rows as the room has place for."""
        with np.errstate(all="ignore"):
            own = room.a[1]
            if scaled.is_copy(x):
                room.a[1] = x.T
            else:
                scaled.fill(x, own.T)
            self._forward(room)
            room.a[1] = own
            a = room.a[self._network.F]
            out[:] = unscaled_output(self._problem, a) if self._is_scaled else a.T
            return _are_finite(room.z[2]) and _are_finite(out)


def _are_finite(numbers: NDArray[Any]) -> bool:
    """Whether all are finite for sure: if one is not, neither is the sum of the squares, which is found quickly."""
    flat = numbers.ravel("K")
    return isfinite(flat.dot(flat))
