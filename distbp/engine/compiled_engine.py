"""The compiled engine: the equations of the NumPy engine in C (see `native/step.h`), with no Python between the steps.

The ranks of a node share memory as those of the NumPy engine do (`StepMemory`), and a step has the same fences, which
are in C, too.  What is rare stays in Python, and is the code of the NumPy engine: a gradient that is not finite, or so
large that the update has to be looked at first.

Where there are several nodes, C computes what a rank computes by itself and makes the update; what the nodes exchange
is the NumPy engine's.

In the reproducible mode (see `reproducible`) there is a tree of grains: on one node C adds up along it,
on several nodes Python.  The bits are the same, whatever the nodes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.loader import Batch
from distbp.data.split import Split
from distbp.engine.batch_gradient import BatchGradient, PlainGradient
from distbp.engine.compiled_block import compiled_evaluation
from distbp.engine.compiled_grains import CompiledGrainSums, GrainTree
from distbp.engine.compiled_net import CompiledNet, why_not_compiled
from distbp.engine.compiled_shard import CompiledShardGradient
from distbp.engine.engine import Ask
from distbp.engine.evaluate import Evaluation
from distbp.engine.finite_update import FiniteUpdate
from distbp.engine.laps import Lap, no_lap
from distbp.engine.native.library import Library
from distbp.engine.native.plan import RULES, SUMS, Answer, RunPlan, SlicePlan
from distbp.engine.numpy_engine import NumpyEngine
from distbp.engine.own_slices import decaying, without_decay
from distbp.engine.reduction import DIGIT
from distbp.engine.reproducible import ReproducibleGradient
from distbp.engine.shard_gradient import room_of
from distbp.engine.step_memory import TAIL, StepMemory
from distbp.engine.sums import Requests, Stepped, Steps, Sums
from distbp.engine.work import Work
from distbp.mathematics.activations import Array
from distbp.mathematics.exact_sum import total
from distbp.mathematics.fixed_functions import powers
from distbp.mathematics.grains import grain_count
from distbp.ranks.binding import cores_of

SPINS = 300  # turns at a fence before other threads are let run: some 10 µs


class CompiledEngine(NumpyEngine):
    """See `distbp.engine.engine.Engine`; `lap` and `memory` are as for the NumPy engine."""

    def __init__(self, work: Work, lib: Library, lap: Lap = no_lap, memory: StepMemory | None = None) -> None:
        self._lib, self._to_close = lib, list[Evaluation]()
        super().__init__(work, lap, memory)
        self._own_steps = self._gradient if isinstance(self._gradient, _OwnGradient) else None
        self._kept = list[Any]()
        self._spins = _spins(work, self.memory)
        self._slices = [self._slice_plan(mine) for mine in self.slices]
        self._run = RunPlan(rank=work.comm.rank, size=work.comm.size)
        if self._own_steps and (tree := self._own_steps.tree):
            self._run.tree = ctypes.addressof(tree.plan)

    def _batch_gradient(self) -> BatchGradient:
        work, memory, lib = self._work, self.memory, self._lib
        if len(memory.nodes) == 1:
            own = _OwnGradient(work, lib, memory)
            self._net = own.net
            return own

        def make(*parts: Any) -> Any:
            own = (CompiledGrainSums if work.config.reproducible else CompiledShardGradient)(lib, *parts)
            self._net = own.net
            return own

        kind = ReproducibleGradient if work.config.reproducible else PlainGradient
        return kind(work, memory, self.parameters, self._lap, make)

    def _change(self, rate: float, t: int) -> None:
        numbers = self._numbers([rate], t - 1)
        for one in self._slices:
            self._net.update(one, numbers)

    def step(self, batches: Sequence[Batch], rates: Sequence[float], done: int, ask: Ask) -> Steps:
        """See `Engine`."""
        if not self._own_steps:
            return super().step(batches, rates, done, ask)
        self._update = self._update or self._finite_update()
        return self._steps(batches, rates, done, ask(done + 1))

    def gradient(self, batch: Batch, requests: Requests) -> Stepped:
        """See `Engine`."""
        if not self._own_steps:
            return super().gradient(batch, requests)
        return self._steps([batch], [0.0], 0, requests, has_update=False).last

    def evaluation(self, data: Split) -> Evaluation:
        """See `Engine`."""
        work = self._work
        if why_not_compiled(work.problem, work.config, data):
            return super().evaluation(data)
        work = replace(work, training=data)
        self._to_close.append(compiled_evaluation(work, self._lib, self.parameters, self._validation_arena()))
        return self._to_close[-1]

    def close(self) -> None:
        """See `Engine`."""
        super().close()
        for one in self._to_close:
            one.close()

    def _steps(
        self,
        batches: Sequence[Batch],
        rates: Sequence[float],
        done: int,
        requests: Requests,
        *,
        has_update: bool = True,
    ) -> Steps:
        """Goes on until C comes back with steps that are done; between, it may want to have something looked at."""
        assert self._own_steps
        run, net, tree, count = self._run, self._net, self._own_steps.tree, len(batches)
        rows = np.ascontiguousarray(batches[0].rows if count == 1 else np.concatenate([one.rows for one in batches]))
        lengths = np.array([len(batch.rows) for batch in batches], np.int64)
        numbers = self._numbers(rates, done)
        kept = tree.begin(lengths.tolist()) if tree else None
        parts, agreed = np.empty((count, SUMS)), np.empty((count, TAIL))
        net.point_to(self._work.training.x, self._work.training.y)
        run.steps, run.step, run.stage, run.first_row = count, 0, 0, 0
        run.rows, run.lengths, run.numbers = rows.ctypes.data, lengths.ctypes.data, numbers.ctypes.data
        run.part, run.agreed, run.requests[:] = parts.ctypes.data, agreed.ctypes.data, requests
        looked = Stepped(Sums([]), 0, 0.0, requests)
        update = self._update if has_update else None
        self._lap("data")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            while (answer := self._advance(update)) != Answer.DONE:
                if answer == Answer.WAITING:
                    self.memory.check()
                    continue
                looked.flaw = float(agreed[run.step, 0])
                self._look_in_python(looked, rates[run.step], done + run.step + 1, update)
                run.is_update = bool(update) and not looked.wrong
                run.length = 0.0  # the gradient has been shortened where it had to be
        run.tell_laps(self._lap)
        parts, agreed, samples = parts[: run.step], agreed[: run.step], lengths[: run.step]
        assert (agreed[:, 1] * DIGIT + agreed[:, 2] == samples).all(), "samples were lost or repeated"
        if tree and kept is not None:
            for part, n, of_grains in zip(parts, samples.tolist(), kept, strict=False):
                part[:] = self._of_all(of_grains[: grain_count(n, tree.grain)])
        told = agreed[:, 3:].astype(np.int64)
        looked.part, looked.samples = Sums(parts[-1].tolist()), int(samples[-1])
        looked.requests = Requests(*told[-1].tolist())
        return Steps(parts, samples, looked, int(told[:, Requests._fields.index("ahead")].max()))

    def _of_all(self, of_grains: NDArray[np.float64]) -> list[float]:
        """The sums of all ranks, which know those of all grains: they are the part of the first."""
        if self._comm.rank:
            return [0.0] * SUMS
        return [total(values) for values in of_grains.T.tolist()]

    def _numbers(self, rates: Sequence[float], done: int) -> NDArray[np.float64]:
        """Of the steps behind `done`: η, 1 - β₁^t, 1 - β₂^t."""
        betas = (self._config.beta1, self._config.beta2)
        columns = np.array([rates, *(powers(beta, done + 1, len(rates)) for beta in betas)])
        np.subtract(1.0, columns[1:], out=columns[1:])
        return np.ascontiguousarray(columns.T)

    def _advance(self, update: FiniteUpdate | None) -> Answer:
        """A call of C, which makes updates by itself as long as all numbers surely stay finite."""
        run = self._run
        run.calm_length, run.calm_rate, run.calm_steps = update.calm if update else (0.0, 0.0, 0)
        before = run.calm_steps
        (own,) = self._slices
        answer = self._net.advance(own, run)
        if update:
            update.count(before - run.calm_steps)
        return answer

    def _look_in_python(self, stepped: Stepped, rate: float, t: int, update: FiniteUpdate | None) -> None:
        """As the NumPy engine looks at every step."""
        if not math.isfinite(self._run.length):
            self.memory.fence()  # until then others may read the squares, which are written again
            for own, where in zip(self.g, self.slices, strict=True):
                self.memory.measure(own, where.start)
            self.memory.fence()
        if update:
            self._look(stepped, rate, t)
        else:
            self._look_at_gradient(stepped)

    def _slice_plan(self, mine: slice) -> SlicePlan:
        """What this rank adds up and updates of a bucket."""
        memory, config = self.memory, self._config
        count, vectors = len(memory.w), [one.ctypes.data for one in memory.vectors.values()]
        gradients = [one for sums in memory.sums for one in sums]
        agreed = memory.sums[memory.owners - 1][0][count:]
        segments = np.array(decaying(mine, without_decay(config, self._network)), np.int64).reshape(-1, 3)
        addresses = (ctypes.c_void_p * len(gradients))(*(one.ctypes.data for one in gradients))
        self._kept += [segments, addresses]
        return SlicePlan(
            start=mine.start,
            stop=mine.stop,
            count=count,
            ranks=len(memory.sums),
            own=memory.part,
            has_tail=memory.part == memory.owners - 1,
            slots=len(memory.sums[0]),
            gradient=ctypes.addressof(addresses),
            agreed=agreed.ctypes.data,
            w=memory.w.ctypes.data,
            m=vectors[0] if vectors else None,
            v=vectors[1] if len(vectors) > 1 else None,
            squares=memory.squares.ctypes.data,
            fence=memory.turns.ctypes.data,
            spins=self._spins,
            rule=RULES.index(config.optimizer),
            nesterov=config.nesterov,
            momentum=config.momentum,
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
            decay=config.weight_decay,
            limit=config.clip_norm,
            segments=len(segments),
            segment=segments.ctypes.data,
        )


def _spins(work: Work, memory: StepMemory) -> int:
    """How long ranks of this node wait for each other before they let others run: 0 where there are fewer cores."""
    of_ranks = work.comm.allgather((cores_of(0), work.threads))
    here = [of_ranks[rank] for rank in memory.ranks] if len(of_ranks) > 1 else of_ranks
    cores = frozenset[int]().union(*(cores for cores, _ in here))
    return SPINS if sum(threads for _, threads in here) <= len(cores) else 0


class _OwnGradient:
    """The gradient of a rank, and room for the samples of its shard; C does the rest."""

    def __init__(self, work: Work, lib: Library, memory: StepMemory) -> None:
        own = memory.sums[memory.part][0]
        m, _ = room_of(work.network, work.n, work.comm.size, work.config.dtype)
        self.tree = GrainTree(work, memory) if work.config.reproducible else None
        m = self.tree.m if self.tree else m
        self.net = CompiledNet(work, lib, memory.w, own, m)
        (bucket,) = memory.buckets
        self.g: list[Array] = [own[bucket.mine]]

    def __call__(self, batch: NDArray[np.int64], requests: Requests) -> Stepped:
        raise NotImplementedError  # see CompiledEngine

    def close(self) -> None:
        self.net.close()
