"""Σ_i ∂L_i/∂w over a rank's shard of a batch, computed in C: the counterpart of `shard_gradient`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.engine.compiled_net import CompiledNet
from distbp.engine.laps import Lap
from distbp.engine.native.library import Library
from distbp.engine.native.plan import SUMS, RunPlan
from distbp.engine.reduction import Reduction
from distbp.engine.shard_gradient import room_of
from distbp.engine.sums import Requests, Sums
from distbp.engine.work import Work
from distbp.mathematics.batches import pieces
from distbp.mathematics.network import Parameters


class CompiledShardGradient:
    """Backpropagation over a rank's shard of a batch, in pieces of bounded size: see `ShardGradient`."""

    def __init__(self, lib: Library, work: Work, parameters: Parameters, reduction: Reduction, lap: Lap) -> None:
        self._reduction, self._lap, self._training, self._F = reduction, lap, work.training, work.network.F
        self._m, _ = room_of(work.network, work.n, work.comm.size, work.config.dtype)
        self.net = CompiledNet(work, lib, parameters.vector, reduction.gradient.vector, self._m)
        self._run, self._sums = RunPlan(), np.zeros(SUMS)

    def __call__(self, rows: NDArray[np.int64], requests: Requests, n: int) -> None:
        """`rows` are the samples of the shard, of a batch of n; none leave a gradient of 0."""
        net, count, reduction = self.net, len(rows), self._reduction
        self._sums.fill(0.0)
        if count == 0:
            reduction.gradient.vector.fill(0.0)
            reduction.begin(Sums(self._sums.tolist()), requests, n)
            reduction.all_ready()
            return
        net.point_to(self._training.x, self._training.y)
        for first, last in pieces(0, count, self._m):
            m, is_sum = last - first, first > 0
            net.forward(rows[first:last], self._sums, self._run)
            self._run.tell_laps(self._lap)
            if last < count:
                net.backward(m, self._F, 2, is_sum=is_sum)
                self._lap("backward")
                continue
            reduction.begin(Sums(self._sums.tolist(), count), requests, n)
            for l in range(self._F, 1, -1):
                net.backward(m, l, l, is_sum=is_sum)
                reduction.ready(l)

    def close(self) -> None:
        """Ends the threads."""
        self.net.close()
