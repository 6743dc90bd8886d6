"""What is to be trained, on random numbers: the steps of an engine on any ranks, as `train` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from distbp.data.layout import Column, Layout, Part
from distbp.data.loader import Batch
from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.data.split import NOTHING, Split
from distbp.engine.choice import make_engine
from distbp.engine.epoch_sums import EpochSums
from distbp.engine.step_memory import StepMemory
from distbp.engine.sums import Requests
from distbp.engine.work import Work
from distbp.mathematics.batches import shard
from distbp.mathematics.network import Network, initialize
from distbp.ranks.communicator import Communicator
from distbp.settings.config import Config
from distbp.training.phases import Phases

DATA_BYTES = 128 * 2**20  # of random samples, at most: more than caches hold, as data sets are
MOST_ROWS = 2**18  # of narrow ones
WHOLE = 100  # random whole numbers are below it
BLOCK_ROWS = 4096  # that are drawn at a time
LEARNING_RATE = 1e-6  # nothing is to be learnt, and nothing may overflow


def shape_without_data(inputs: int, outputs: int, rows: int, *, labelled: bool) -> Split:
    """A split in no file, with float32 inputs, and with classes, or float32 targets."""

    def column(name: str, width: int, dtype: str) -> tuple[Column]:
        return (Column("", f"train/{name}", None, rows, width, dtype, (width,), None),)

    part = Part(0, rows, column("x", inputs, "<f4"), column("y", 1, "<i8") if labelled else column("y", outputs, "<f4"))
    labels = tuple(range(outputs)) if labelled else None
    return Split(Layout("train", "x", "y", (part,)), NOTHING, None, labels, in_memory=False)


def random_rows(shape: Split, n: int) -> int:
    """How many random samples stand for the data: no more than these have, and at least one batch of n if they can."""
    return min(len(shape), max(n, min(MOST_ROWS, DATA_BYTES // shape.layout.row_bytes())))


def random_split(comm: Communicator, shape: Split, rows: int, seed: int) -> Split:
    """`rows` random samples of the same columns and types, once for each node, in memory."""
    x = _random_array(comm, (rows, shape.layout.width("x")), shape.layout.dtype("x"), seed)
    y = _random_array(comm, (rows, *shape.y_shape), shape.y_dtype, seed + 1, len(shape.labels or ()))
    layout = replace(shape.layout, parts=(replace(shape.layout.parts[0], first=0, rows=rows),))
    return replace(shape, layout=layout, x=x, y=y, in_memory=True)


def _random_array(
    comm: Communicator, shape: tuple[int, ...], dtype: np.dtype[np.generic], seed: int, classes: int = 0
) -> NDArray[np.generic]:
    """Each rank fills its part: whole numbers below `classes`, or WHOLE; others from -1 to 1."""
    array = comm.node_array(shape, dtype)
    rng = np.random.default_rng([seed, comm.rank])
    start, end = shard(shape[0], array.part, array.parts)
    for first in range(start, end, BLOCK_ROWS):
        block = array.array[first : min(first + BLOCK_ROWS, end)]
        if dtype.kind == "f":
            block[...] = rng.random(block.shape, np.float32) * 2 - 1
        else:
            block[...] = rng.integers(0, classes or WHOLE, block.shape)
    array.fence()
    return array.array


def random_problem(network: Network, config: Config, shape: Split) -> Problem:
    """The problem; its scaling is that of the random numbers, so that neurons are as busy as with real data.

    A neuron that is hardly ever active has vectors of the optimizer that vanish, on which a CPU computes slowly.
    """
    n = network.sizes
    target = config.scale if not shape.is_labelled and network.loss.scales_targets else "none"
    return Problem(
        network,
        _random_scaling(n[1], shape.layout.dtype("x"), config.scale),
        _random_scaling(n[network.F], shape.layout.dtype("y"), target),
        shape.labels,
    )


def _random_scaling(width: int, dtype: np.dtype[np.generic], method: str) -> Scaling:
    """Mean and standard deviation, or minimum and length, of what `_random_array` makes."""
    low, length = (-1.0, 2.0) if dtype.kind == "f" else (0.0, WHOLE - 1.0)
    shift, spread = {
        "none": (0.0, 1.0),
        "minmax": (low, length),
        "standardize": (low + length / 2, length / sqrt(12)),
    }[method]
    return Scaling(np.full(width, shift), np.full(width, spread))


@dataclass(frozen=True)
class Task:
    """What is to be trained: the configuration, with what its "auto" means, the problem, and random samples.

    `order`: rows of the data, in a random order.  Before there are samples, `data` has their columns and types alone.
    `threads`: of a rank; `is_compiled`: which engine it is.
    """

    config: Config
    problem: Problem
    data: Split
    order: NDArray[np.int64]
    n: int
    is_compiled: bool = False
    threads: int = 1

    @property
    def grain(self) -> int | None:
        """G, in the reproducible mode."""
        return self.config.samples_of_a_grain


class Steps:
    """The steps of an engine, one after another, each with the next samples of an order that repeats."""

    def __init__(self, comm: Communicator, task: Task, sizes: Sequence[int], other: Steps | None = None) -> None:
        """An engine on the ranks of `comm`, for batches of these sizes.  All ranks of `comm` call this.

        `other`: steps of the same network on the same ranks, in whose memory these work.
        """
        self.phases = Phases()
        threads, is_compiled = task.threads, task.is_compiled
        work = Work(comm, task.config, task.problem, task.data, tuple(sizes), threads=threads, is_compiled=is_compiled)
        engine = make_engine(work, self.phases.lap, other.memory if other else None)
        self.engine = engine
        self.memory: StepMemory = engine.memory
        if other is None:
            config, network = task.config, task.problem.network
            engine.fill(lambda: initialize(engine.parameters, network, config.seed, config.initialization))
        self._order = task.order if work.n <= len(task.order) else np.resize(task.order, work.n)
        self._sums, self._done = EpochSums(comm, [0.0] * len(task.problem.sums)), 0

    def __call__(self, n: int) -> None:
        """A step of a batch of n samples, as `train` takes it; n is one of the sizes."""
        start = self._done % (len(self._order) // n) * n
        batch = Batch(self._order[start : start + n], 0, start)
        steps = self.engine.step([batch], [LEARNING_RATE], self._done, lambda step: Requests())
        self._sums.add(steps)
        self._done += 1

    def close(self) -> None:
        """Ends what works in the background."""
        self.engine.close()
