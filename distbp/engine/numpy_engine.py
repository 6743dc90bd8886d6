"""The engine in NumPy: the reference, which reads like the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from distbp.data.loader import Batch
from distbp.data.split import Split
from distbp.engine.batch_gradient import BatchGradient, batch_gradient
from distbp.engine.engine import Ask
from distbp.engine.evaluate import Evaluation
from distbp.engine.finite_update import FiniteUpdate
from distbp.engine.laps import Lap, no_lap
from distbp.engine.own_slices import slices_of_rank, without_decay
from distbp.engine.shared_memory import step_memory
from distbp.engine.step_memory import StepMemory
from distbp.engine.sums import Requests, Stepped, Steps
from distbp.engine.work import Work, optimizer_of
from distbp.mathematics.arena import Arena
from distbp.mathematics.clipping import Length, shorten
from distbp.mathematics.network import Parameters


class NumpyEngine:
    """See `distbp.engine.engine.Engine`.

    `lap` is told what the time since the last lap was spent on.  `memory`: that of another engine for the same network
    on the same ranks, which is used in turns with it.
    """

    def __init__(self, work: Work, lap: Lap = no_lap, memory: StepMemory | None = None) -> None:
        config, network = work.config, work.network
        self._work, self._comm, self._config, self._network, self._lap = work, work.comm, config, network, lap
        self._optimizer = optimizer_of(config)
        self.memory = memory = memory or step_memory(work)
        self.w, self.vectors, self.parameters = memory.w, memory.vectors, Parameters(network, memory.w)
        self.nodes, self.parts = memory.nodes, len(memory.buckets)
        self._gradient = self._batch_gradient()
        self.g, self.slices = self._gradient.g, [bucket.mine for bucket in memory.buckets]
        self._mine = slices_of_rank(memory, self.g, without_decay(config, network))
        self._update: FiniteUpdate | None = None  # it looks at numbers: they are there when the first step is made

    def _batch_gradient(self) -> BatchGradient:
        return batch_gradient(self._work, self.memory, self.parameters, self._lap)

    def _finite_update(self) -> FiniteUpdate:
        return FiniteUpdate(self._comm, self.memory, self._network, self._optimizer, self._mine)

    def fill(self, write: Callable[[], None]) -> None:
        """See `Engine`."""
        if self.memory.part == 0:
            write()
        self.memory.fence()
        self._update = None  # it knows how large the numbers are

    def step(self, batches: Sequence[Batch], rates: Sequence[float], done: int, ask: Ask) -> Steps:
        """See `Engine`."""
        steps: list[Stepped] = []
        self._update = self._update or self._finite_update()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite is looked for instead
            for t, (batch, rate) in enumerate(zip(batches, rates, strict=True), done + 1):
                stepped = self._step(batch, rate, t, ask(t))
                steps.append(stepped)
                if stepped.wrong or stepped.requests.ends_call:
                    break
        return Steps.of(steps)

    def _step(self, batch: Batch, rate: float, t: int, requests: Requests) -> Stepped:
        stepped = self._gradient(batch.rows, requests)  # ∂L_B/∂w over the whole batch
        assert stepped.samples == len(batch.rows), "samples were lost or repeated"
        self._look(stepped, rate, t)
        if not stepped.wrong:
            self._change(rate, t)
        self.memory.fence()
        self._lap("update")
        return stepped

    def _change(self, rate: float, t: int) -> None:
        """Makes the update of this rank's slices."""
        for own in self._mine:
            self._optimizer.update(own.w, own.g, own.vectors, rate, t, own.biases)

    def _look(self, stepped: Stepped, rate: float, t: int) -> None:
        """Says what of the loss, the gradient or the update is not finite, if anything; shortens the gradient.

        Every rank holds the same sums, gradient and parameters, so all come to the same verdict.
        """
        length = self._look_at_gradient(stepped)
        if not stepped.wrong:
            assert self._update
            stepped.wrong = self._update.what_is_not(self._clip(length), rate, t)

    def _look_at_gradient(self, stepped: Stepped) -> Length:
        """Says what of the loss or the gradient is not finite, if anything; the length of the gradient."""
        length = self.memory.length
        if stepped.flaw:
            stepped.wrong, stepped.by_a_sample = f"the loss is {stepped.flaw}", True
        elif not math.isfinite(length.scaled):
            stepped.wrong, stepped.by_a_sample = "the gradient is not finite", True
        return length

    def _clip(self, length: Length) -> float:
        """The length of the gradient, shortened where it is above the limit; inf is beyond the largest number."""
        limit = self._config.clip_norm
        if not limit:
            return length.value
        agreed = np.array(length)
        self._comm.allreduce(agreed, "max")  # CPUs of different types may differ in its last bit
        of_all = Length(*agreed.tolist())
        for g in self.g:
            shorten(g, of_all, limit)
        return min(of_all.value, limit)

    def gradient(self, batch: Batch, requests: Requests) -> Stepped:
        """See `Engine`."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            stepped = self._gradient(batch.rows, requests)
            self._look_at_gradient(stepped)
        self.memory.fence()
        return stepped

    def evaluation(self, data: Split) -> Evaluation:
        """See `Engine`."""
        return Evaluation(self._comm, self._work.problem, data, self._config.dtype, self._validation_arena())

    def _validation_arena(self) -> Arena:
        return self._work.arena.of("activations of validation")

    def close(self) -> None:
        """See `Engine`."""
        self._gradient.close()
