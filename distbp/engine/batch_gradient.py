"""∂L_B/∂w of a batch, over all ranks: the plain way, or with the same bits on any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.engine.laps import Lap
from distbp.engine.reduction import Reduction
from distbp.engine.reproducible import ReproducibleGradient, most_sums
from distbp.engine.shard_gradient import ShardGradient
from distbp.engine.step_memory import StepMemory
from distbp.engine.sums import Requests, Stepped
from distbp.engine.work import Work
from distbp.mathematics.activations import Array
from distbp.mathematics.batches import shard
from distbp.mathematics.network import Parameters
from distbp.ranks.communicator import Communicator
from distbp.settings.config import Config


class BatchGradient(Protocol):
    """Leaves ∂L_B/∂w in `g`, of each bucket the slice that is this rank's to update; its square in the step's memory.

    Between a call and the next there must be a fence of that memory.
    """

    g: list[Array]

    def __call__(self, batch: NDArray[np.int64], requests: Requests) -> Stepped:
        """`batch`: the same samples on every rank; `requests`: those of this rank."""

    def close(self) -> None:
        """Ends what works in the background."""


class OfShard(Protocol):
    """Leaves Σ_i ∂L_i/∂w over a rank's shard in the gradient of a reduction, which is told when layers are ready."""

    def __call__(self, rows: NDArray[np.int64], requests: Requests, n: int) -> None:
        """`rows` are the samples of the shard, of a batch of n; `requests`: those of this rank."""

    def close(self) -> None:
        """Ends what works in the background."""


class PlainGradient:
    """Each rank's shard is a contiguous part of the batch, worked on in pieces; one reduction."""

    def __init__(
        self,
        work: Work,
        memory: StepMemory,
        parameters: Parameters,
        lap: Lap,
        shard_gradient: Callable[..., OfShard] = ShardGradient,
    ) -> None:
        """`shard_gradient` makes what computes Σ_i ∂L_i/∂w over a shard, from work, parameters, reduction and lap."""
        self._comm = work.comm
        self._reduction = Reduction(memory, work.network, work.config.wire, lap, work.arena)
        self._shard_gradient = shard_gradient(work, parameters, self._reduction, lap)
        self.g = self._reduction.g

    def __call__(self, batch: NDArray[np.int64], requests: Requests) -> Stepped:
        """∂L_B/∂w = (1/n) Σ_i ∂L_i/∂w"""
        n = len(batch)
        start, end = shard(n, self._comm.rank, self._comm.size)
        self._shard_gradient(batch[start:end], requests, n)
        return self._reduction.finish()

    def close(self) -> None:
        """Ends what works in the background."""
        self._shard_gradient.close()
        self._reduction.close()


def batch_gradient(work: Work, memory: StepMemory, parameters: Parameters, lap: Lap) -> BatchGradient:
    """As the configuration says; `parameters` are those in `memory`."""
    kind = ReproducibleGradient if work.config.reproducible else PlainGradient
    return kind(work, memory, parameters, lap)


def has_overlap(config: Config, comm: Communicator) -> bool:
    """Whether parts of the gradient are exchanged while others are computed, where there are several nodes."""
    return config.overlap and comm.has_threads and not config.reproducible


def sums_of_a_rank(config: Config, sizes: Sequence[int], ranks: int) -> int:
    """How many gradients, or sums of grains, each rank holds in the step's memory, for batches of these sizes."""
    return most_sums(sizes, int(config.grain), ranks) if config.reproducible else 1
