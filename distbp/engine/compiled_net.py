"""A network and room for a piece of its samples, as the compiled step knows them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.data.split import Split
from distbp.engine.compiled_columns import columns_plan, is_known
from distbp.engine.native.library import LEAST_WORK, Library
from distbp.engine.native.plan import (
    LOSSES,
    NEEDS_Z,
    RULES,
    SIGMAS,
    Answer,
    ColumnsPlan,
    LayerPlan,
    Metric,
    NetPlan,
    RunPlan,
    SlicePlan,
    TreePlan,
)
from distbp.engine.work import Work
from distbp.mathematics.activations import Array
from distbp.mathematics.arena import Arena
from distbp.mathematics.metrics import Accuracy, BinaryAccuracy, RootMeanSquareError
from distbp.settings.config import Config

OUT_OF_RANGE = "a row or a class is out of range"


def why_not_compiled(problem: Problem, config: Config, data: Split) -> str:
    """What the compiled step does not have of what is needed, in words; "" if it has all."""
    network = problem.network
    sigmas = {network.sigma(l).name for l in range(2, network.F + 1)}
    needed = {"activation": sigmas, "loss": {network.loss.name}, "optimizer": {config.optimizer}}
    known = {"activation": SIGMAS, "loss": LOSSES, "optimizer": RULES}
    for what, names in needed.items():
        if missing := names - {*known[what]}:
            return f"the compiled step has no {what} {missing.pop()}"
    for of in ("x", "y") if not data.is_labelled and data.layout.y_name else ("x",):
        dtype = data.layout.dtype(of)
        if not is_known(dtype):
            return f"the compiled step does not read values of type {dtype.str}, of which {data.where(of)} is"
        rows = data.x if of == "x" else data.y
        if rows is not None and not rows.flags.c_contiguous:
            return f"the rows of {data.where(of)} do not lie in memory one after another"
    return ""


class CompiledNet:
    """Holds the arrays that `plan` points to, for pieces of at most m samples.  `close` ends its threads."""

    def __init__(
        self, work: Work, lib: Library, w: Array, gradient: Array | None, m: int, arena: Arena | None = None
    ) -> None:
        """`w` and `gradient` are vectors of all parameters; without a gradient there is room for forward passes alone.

        `arena`: in the place of that of the activations.
        """
        self._lib, self._kept, self.plan = lib, list[Any](), NetPlan()
        self._team: int | None = None
        network, dtype, plan = work.network, np.dtype(work.config.dtype), self.plan
        n, F = network.sizes, network.F
        P = lib.panel(dtype, m)
        M = -(-m // P) * P
        plan.F, plan.loss, plan.panel, plan.room = F, LOSSES.index(network.loss.name), P, m
        self._arena = arena or work.arena.of("activations")
        self._layers(work, w, gradient, M, P)
        self._data(work, dtype)
        plan.c = self._room(M, np.int32)
        plan.y_panels = self._room(n[F] * M, dtype)
        # Threads that wait for each other in short phases take more time than they save, above all on a busy machine.
        self._threads = work.threads if m * network.parameter_count >= LEAST_WORK else 1
        plan.row = self._room(self._threads * (-(-max(n[1], n[F]) // P) + 1) * P, dtype)
        plan.arranged = self._room(self._threads * lib.arranged(dtype, P), dtype)
        plan.loss_of, plan.metric_of = (self._room(M, np.float64) for _ in range(2))
        self._parameter_count = network.parameter_count
        self._is_labelled, self._is_double = work.training.is_labelled, dtype == np.float64

    def point_to(self, x: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Says where the samples lie, which may be elsewhere at the next call.  The first call starts the threads."""
        if self._threads > 1 and self._team is None:
            self.plan.team = self._team = self._lib.start_team(self._threads)
        assert x.flags.c_contiguous
        self.plan.x.rows, self.plan.samples = x.ctypes.data, len(x)
        if y is not None:
            assert y.flags.c_contiguous
            assert len(y) == len(x)
            if self._is_labelled:
                assert y.dtype == np.int32
                self.plan.classes = y.ctypes.data
            else:
                self.plan.y.rows = y.ctypes.data

    def forward(self, rows: NDArray[np.int64], sums: NDArray[np.float64], run: RunPlan | None = None) -> None:
        """Computes a^1 … a^F of these rows, and adds Σ L_i and the sum of the metric to `sums`, shape (2,), float64.

        `run` is told how long that took.
        """
        rows = np.ascontiguousarray(rows)
        answer = self._lib.forward(self._is_double, self.plan, rows.ctypes.data, len(rows), sums.ctypes.data, run)
        assert answer == Answer.DONE, OUT_OF_RANGE

    def backward(self, m: int, upper: int, lower: int, *, is_sum: bool) -> None:
        """After that, of the same m samples: d^l, ∂L/∂W^l and ∂L/∂b^l for l = upper … lower.

        `is_sum`: they are added to what is there.
        """
        self._lib.backward(self._is_double, self.plan, m, upper, lower, is_sum)

    def node(
        self, rows: NDArray[np.int64], tree: TreePlan, out: Array, sums: NDArray[np.float64], run: RunPlan
    ) -> None:
        """Leaves S(node) in `out`, of the node whose samples these are; adds what each grain sums up to `sums`."""
        rows, count = np.ascontiguousarray(rows), self._parameter_count
        assert sums.flags.c_contiguous
        answer = self._lib.node(
            self._is_double, self.plan, tree, rows.ctypes.data, len(rows), count, out.ctypes.data, sums.ctypes.data, run
        )
        assert answer == Answer.DONE, OUT_OF_RANGE

    def update(self, slice_plan: SlicePlan, numbers: NDArray[np.float64]) -> None:
        """Updates a slice of w; `numbers`: η, 1 - β₁^t, 1 - β₂^t."""
        self._lib.update(self._is_double, self.plan, slice_plan, numbers.ctypes.data)

    def advance(self, slice_plan: SlicePlan, run: RunPlan) -> Answer:
        """Goes on with the steps of `run`: see `step.h`."""
        answer = Answer(self._lib.advance(self._is_double, self.plan, slice_plan, run))
        assert answer != Answer.REFUSED, OUT_OF_RANGE
        return answer

    def close(self) -> None:
        """Ends the threads."""
        self._lib.stop_team(self._team)
        self._team = self.plan.team = None

    def _layers(self, work: Work, w: Array, gradient: Array | None, M: int, P: int) -> None:
        network, dtype, start = work.network, w.dtype, 0
        n, F = network.sizes, network.F
        layers = (LayerPlan * (F + 1))()
        for l in range(1, F + 1):
            layer = layers[l]
            layer.n, layer.a = n[l], self._room(n[l] * M, dtype)
            if l == 1 or (l < F and gradient is not None):
                layer.at = self._room(-(-n[l] // P) * P * M, dtype)
            if l == 1:
                continue
            sigma = network.sigma(l).name
            layer.sigma = SIGMAS.index(sigma)
            layer.z = self._room(n[l] * M, dtype) if l == F or sigma in NEEDS_Z else layer.a
            biases = start + n[l] * n[l - 1]
            layer.start, layer.W, layer.b = start, w[start:].ctypes.data, w[biases:].ctypes.data
            if gradient is not None:
                layer.d = self._room(n[l] * M, dtype)
            start = biases + n[l]
        self._kept.append(layers)
        self.plan.gradient = None if gradient is None else gradient.ctypes.data
        self.plan.layer = ctypes.addressof(layers)

    def _data(self, work: Work, dtype: np.dtype[Any]) -> None:
        """How samples are read, and what is measured of them."""
        plan, data = self.plan, work.training
        plan.x = self._columns(data.layout.dtype("x"), work.problem.input, dtype)
        if data.layout.y_name and not data.is_labelled:
            plan.y = self._columns(data.layout.dtype("y"), work.problem.target, dtype)
        (metric,) = work.problem.metrics
        match metric:
            case BinaryAccuracy():
                plan.metric = Metric.BINARY_ACCURACY
            case Accuracy():
                plan.metric = Metric.ACCURACY
            case RootMeanSquareError():
                plan.metric, plan.weights = Metric.SQUARED_ERROR, self._copy(metric.weights)
            case _:
                raise NotImplementedError(metric.name)

    def _columns(self, source: np.dtype[Any], scaling: Scaling, dtype: np.dtype[Any]) -> ColumnsPlan:
        plan, kept = columns_plan(source, scaling, dtype)
        self._kept += kept
        return plan

    def _room(self, count: int, dtype: DTypeLike) -> int:
        array = self._arena.take(count, dtype)
        self._kept.append(array)
        return int(array.ctypes.data)

    def _copy(self, array: NDArray[Any]) -> int:
        copy = np.array(array, order="C")
        self._kept.append(copy)
        return int(copy.ctypes.data)
