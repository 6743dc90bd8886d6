"""The outputs of a network for rows of inputs, computed in C (see `native/predict.h`)."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.problem import Problem
from distbp.engine.compiled_columns import columns_plan, is_known, nearest_known
from distbp.engine.native.library import LEAST_WORK, Library
from distbp.engine.native.plan import SIGMAS, Answer, LayerPlan, NetPlan
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.backprop import piece_samples
from distbp.mathematics.batches import pieces
from distbp.mathematics.network import Network, Parameters

FEW = 4  # rows that are copied: that takes less time than to find out where they lie
WIDEST = 2**31  # samples: for so many, panels are the widest ones
CACHED = 400 * 2**10  # bytes of the activations of a piece, which then stay in the cache of a core


def why_no_compiled_outputs(network: Network) -> str:
    """What the compiled step does not have of what the network needs, in words; "" if it has all."""
    missing = sorted({network.sigma(l).name for l in range(2, network.F + 1)} - {*SIGMAS})
    return f"the compiled step has no activation {missing[0]}" if missing else ""


class CompiledOutputs:
    """See `Outputs`.  The bits of a row depend neither on the other rows nor on the number of threads.

    The parameters must stay as they are.
    """

    def __init__(self, lib: Library, problem: Problem, parameters: Parameters, arena: Arena = ALIGNED) -> None:
        network, w, target = problem.network, parameters.vector, problem.target
        self._lib, self._network, self._input, self._arena = lib, network, problem.input, arena
        self._w, self._dtype, self._is_double = w, w.dtype, w.dtype == np.float64
        self._team: int | None = None
        self._threads = 0  # the threads that there is room for
        self._widest = lib.panel(w.dtype, WIDEST)
        self._longest = -(-_piece_rows(network, w.dtype) // self._widest) * self._widest
        self._scaled = [] if target.is_none else [np.array(target.spread), np.array(target.shift)]
        self._spread: int | None
        self._shift: int | None
        self._spread, self._shift = (array.ctypes.data for array in self._scaled) if self._scaled else (None, None)
        self._few_out = np.zeros((FEW, network.sizes[-1]), np.float64 if self._scaled else w.dtype)
        self._few_out_at, self._few_panel = self._few_out.ctypes.data, lib.panel(w.dtype, FEW)
        self._source: np.dtype[Any] | None = None
        self._plan, self._most = NetPlan(F=network.F), 0

    def __call__(self, x: NDArray[Any], out: NDArray[Any], threads: int = 1) -> bool:
        N = len(x)
        if self._most < N or threads > self._threads:
            self.take_room(N, threads)
        if x.dtype is not self._source:
            self._read(x.dtype)
        if N <= FEW:
            return self._few(x, out)
        if threads > 1 and self._team is None and N * self._network.parameter_count >= LEAST_WORK:
            self._plan.team = self._team = self._lib.start_team(threads)
        is_finite = True
        for first, last in pieces(0, N, self._longest):
            is_finite &= self._piece(x[first:last], out[first:last])
        return is_finite

    def close(self) -> None:
        """Ends the threads."""
        if self._team is not None:
            self._lib.stop_team(self._team)
            self._team = self._plan.team = None

    def take_room(self, N: int, threads: int = 1) -> None:
        """Takes room for N rows, as far as they are worked on together."""
        self.close()
        n, F, dtype, T = self._network.sizes, self._network.F, self._dtype, threads
        M = self._widest if self._widest >= N else self._longest
        layers, plan, W, b = (LayerPlan * (F + 1))(), self._plan, 0, 0
        self._room: list[Any] = [layers]
        for l in range(1, F + 1):
            layers[l].n, layers[l].a = n[l], self._take(n[l] * M, dtype)
            if l > 1:
                W, b = b, b + n[l] * n[l - 1]
                layers[l].sigma = SIGMAS.index(self._network.sigma(l).name)
                layers[l].W, layers[l].b = self._w[W:].ctypes.data, self._w[b:].ctypes.data
                layers[l].z = self._take(n[l] * M, dtype) if l == F else layers[l].a
                b += n[l]
        plan.row = self._take(T * n[1] * self._widest, dtype)
        plan.arranged = self._take(T * self._lib.arranged(dtype, self._few_panel), dtype)
        plan.c, plan.loss_of = self._take(M, np.int32), self._take(M, np.float64)  # softmax needs some classes
        plan.layer = ctypes.addressof(layers)
        self._most, self._threads = self._widest if self._widest >= N else sys.maxsize, T

    def _take(self, count: int, dtype: DTypeLike) -> int:
        array = self._arena.take(count, dtype)
        self._room.append(array)
        return int(array.ctypes.data)

    def _read(self, source: np.dtype[Any]) -> None:
        """Rows are of this type from now on."""
        known = nearest_known(source)
        self._source, self._is_known = source, is_known(source)
        self._columns, self._kept = columns_plan(known, self._input, self._dtype)
        self._few_rows = np.zeros((FEW, self._network.sizes[1]), known)
        self._plan.x, self._few_rows_at = self._columns, self._few_rows.ctypes.data

    def _known(self, x: NDArray[Any]) -> NDArray[Any]:
        """The rows in a type that C reads, one after another."""
        with np.errstate(all="ignore"):
            return np.array(x, nearest_known(x.dtype), order="C")

    def _few(self, x: NDArray[Any], out: NDArray[Any]) -> bool:
        """The outputs of at most FEW rows."""
        m = len(x)
        if not m:
            return True
        self._few_rows[:m] = x if self._is_known else self._known(x)
        is_finite = self._predict(self._few_rows_at, m, self._few_panel, self._few_out_at)
        out[:] = self._few_out[:m]
        return is_finite

    def _piece(self, x: NDArray[Any], out: NDArray[Any]) -> bool:
        """The outputs of at most `_longest` rows."""
        if not (self._is_known and x.flags.c_contiguous and x.flags.aligned):
            x = self._known(x)
        return self._predict(x.ctypes.data, len(x), self._lib.panel(self._dtype, len(x)), out.ctypes.data)

    def _predict(self, x: int, m: int, panel: int, out: int) -> bool:
        plan = self._plan
        plan.x.rows, plan.panel = x, panel
        return bool(self._lib.predict(self._is_double, plan, m, out, self._spread, self._shift) == Answer.DONE)


def _piece_rows(network: Network, dtype: np.dtype[Any]) -> int:
    """Rows that are worked on together: few, which stay in the cache, or many for weights that do not fit into it."""
    row = sum(network.sizes) * dtype.itemsize
    return min(piece_samples(network, dtype), 1 + max(CACHED, network.parameter_count * dtype.itemsize) // row)
