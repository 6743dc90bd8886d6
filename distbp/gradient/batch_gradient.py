"""∂L_B/∂w of a batch, over all ranks: the plain way, or with the same bits on any number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.config import Config
from distbp.data.split import Split
from distbp.gradient.reduction import Reduction, Tally
from distbp.gradient.reproducible import ReproducibleGradient, most_sums, reproducible_bytes
from distbp.gradient.shard_gradient import ShardGradient, shard_gradient_bytes
from distbp.mathematics.activations import Array
from distbp.mathematics.batches import shard
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator

if TYPE_CHECKING:
    from distbp.training.run import Run


class BatchGradient(Protocol):
    """Leaves ∂L_B/∂w in `g`, of each bucket the slice that is this rank's to update; its square in the step's memory.

    Between a call and the next there must be a fence of that memory.
    """

    g: list[Array]

    def __call__(self, batch: NDArray[np.int64], *, stop: bool, save: bool) -> Tally:
        """The tally of the batch.  `batch`: the same samples on every rank; `stop`, `save`: this rank's requests."""

    def close(self) -> None:
        """Ends what works in the background."""


class PlainGradient:
    """Each rank's shard is a contiguous part of the batch, worked on in pieces; one reduction."""

    def __init__(self, run: Run) -> None:
        self._comm = run.comm
        self._reduction = Reduction(run.memory, run.problem.network, run.config.wire, run.phases.lap)
        self._shard_gradient = ShardGradient(run, self._reduction)
        self.g = self._reduction.g

    def __call__(self, batch: NDArray[np.int64], *, stop: bool, save: bool) -> Tally:
        """∂L_B/∂w = (1/n) Σ_i ∂L_i/∂w"""
        n = len(batch)
        start, end = shard(n, self._comm.rank, self._comm.size)
        self._shard_gradient(batch[start:end], Tally(samples=end - start, stop=stop, save=save), n)
        return self._reduction.finish()

    def close(self) -> None:
        """Ends what works in the background."""
        self._reduction.close()


def batch_gradient(run: Run) -> BatchGradient:
    """As the configuration says."""
    return ReproducibleGradient(run) if run.config.reproducible else PlainGradient(run)


def has_overlap(config: Config, comm: Communicator) -> bool:
    """Whether parts of the gradient are exchanged while others are computed, where there are several nodes."""
    return config.overlap and comm.has_threads and not config.reproducible


def sums_of_a_rank(config: Config, N: int, n: int, size: int) -> int:
    """How many gradients, or sums of grains, each of `size` ranks holds in the step's memory; N samples in all."""
    return most_sums(N, n, int(config.grain), size) if config.reproducible else 1


def batch_gradient_bytes(config: Config, network: Network, data: Split, n: int, rank: int, size: int) -> dict[str, int]:
    """Memory of a rank besides the step's: "activations", "feed", "sums" of gradients; "trial": for a moment."""
    if config.reproducible:
        return reproducible_bytes(network, data, n, int(config.grain), rank, size, config.dtype)
    return {**shard_gradient_bytes(network, data, n, size, config.dtype), "trial": 0}
