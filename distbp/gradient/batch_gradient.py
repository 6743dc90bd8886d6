"""∂L_B/∂w of a batch, over all ranks: the plain way, or with the same bits on any number of ranks."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.config import Config
from distbp.data.split import Split
from distbp.gradient.reduction import Reduction, Tally, reduction_bytes
from distbp.gradient.reproducible import ReproducibleGradient, reproducible_bytes
from distbp.gradient.shard_gradient import ShardGradient, shard_gradient_bytes
from distbp.mathematics.activations import Array
from distbp.mathematics.batches import shard
from distbp.mathematics.network import Network

if TYPE_CHECKING:
    from distbp.training.run import Run


class BatchGradient(Protocol):
    """Leaves ∂L_B/∂w in `vector`, the same on every rank; `finite`: whether all of it is a number."""

    vector: Array

    @property
    def finite(self) -> bool:
        """Of the last batch."""

    def __call__(self, batch: NDArray[np.int64], *, stop: bool, save: bool) -> Tally:
        """The tally of all ranks.  `batch`: the same samples on every rank; `stop`, `save`: this rank's requests."""


class PlainGradient:
    """Each rank's shard is a contiguous part of the batch, worked on in pieces; one Allreduce."""

    def __init__(self, run: Run) -> None:
        self._comm = run.comm
        self._reduction = Reduction(run.comm, run.problem.network, run.config.dtype)
        self._shard_gradient = ShardGradient(run, self._reduction.gradient)
        self.vector = self._reduction.gradient.vector

    @property
    def finite(self) -> bool:
        """Of the last batch."""
        return isfinite(self.vector @ self.vector)

    def __call__(self, batch: NDArray[np.int64], *, stop: bool, save: bool) -> Tally:
        """∂L_B/∂w = (1/n) Σ_i ∂L_i/∂w"""
        start, end = shard(len(batch), self._comm.rank, self._comm.size)
        tally = self._shard_gradient(batch[start:end])  # Σ_i ∂L_i/∂w over this rank's shard
        tally.stop, tally.save = stop, save
        return self._reduction.reduce(tally)


def batch_gradient(run: Run) -> BatchGradient:
    """As the configuration says."""
    return ReproducibleGradient(run) if run.config.reproducible else PlainGradient(run)


def batch_gradient_bytes(config: Config, network: Network, data: Split, n: int, rank: int, size: int) -> dict[str, int]:
    """Memory of the `batch_gradient` of a rank: "activations", "feed", "sums", "gradient"; "trial": for a moment."""
    if config.reproducible:
        return reproducible_bytes(network, data, n, int(config.grain), rank, size, config.dtype)
    shard_bytes = shard_gradient_bytes(network, data, n, size, config.dtype)
    return {**shard_bytes, "gradient": reduction_bytes(network, config.dtype), "trial": 0}
