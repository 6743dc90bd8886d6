"""The reduction: from every rank's Σ_i ∂L_i/∂w to ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w, with one Allreduce a step.

Behind the gradient, in the same buffer, travel the sums of the loss, of the samples and of the metric, and two
requests, so that all ranks know them at the same step and act alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import DTypeLike

from distbp.mathematics.network import Network, Parameters, aligned_zeros, parameter_bytes
from distbp.ranks.communicator import Communicator

DIGIT = 4096.0
TAIL = 8  # numbers behind the gradient


@dataclass
class Tally:
    """Sums over samples, and requests: 0, or more where ranks make them."""

    loss: float = 0.0
    samples: int = 0
    metric: float = 0.0
    stop: int = 0
    save: int = 0

    def add(self, other: Tally) -> None:
        """Adds the sums of another batch; requests are not kept."""
        self.loss += other.loss
        self.samples += other.samples
        self.metric += other.metric


class Reduction:
    """Holds the gradient of a rank, and sums it over the ranks."""

    def __init__(self, comm: Communicator, network: Network, dtype: DTypeLike) -> None:
        self._comm = comm
        count = network.parameter_count
        self._buffer = aligned_zeros(count + TAIL, dtype)
        self._tail = self._buffer[count:]
        self.gradient = Parameters(network, self._buffer[:count])

    def reduce(self, tally: Tally) -> Tally:
        """Turns `gradient`, this rank's Σ_i ∂L_i/∂w, into ∂L_T/∂w; returns the tally of all ranks.

        A batch that all ranks leave empty is an error of the caller.
        """
        self._tail[0:2] = _digits(tally.loss)
        self._tail[2:4] = _digits(tally.samples)
        self._tail[4:6] = _digits(tally.metric)
        self._tail[6] = tally.stop
        self._tail[7] = tally.save
        self._comm.allreduce(self._buffer)
        loss_high, loss_low, n_high, n_low, metric_high, metric_low, stop, save = self._tail.tolist()
        n = int(n_high + n_low)
        self.gradient.vector /= n  # ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w
        return Tally(loss_high + loss_low, n, metric_high + metric_low, int(stop), int(save))


def reduction_bytes(network: Network, dtype: DTypeLike) -> int:
    """Memory of a `Reduction`."""
    return parameter_bytes(network, dtype) + TAIL * np.dtype(dtype).itemsize


def _digits(value: float) -> tuple[float, float]:
    """value = high + low with high a multiple of 4096.

    float32 holds whole numbers up to 2^24 only; in two digits counts stay exact up to 2^36 samples, and a loss sum
    keeps more of its figures.
    """
    if not isfinite(value):
        return value, 0.0
    high = float(np.float32(np.floor(value / DIGIT) * DIGIT))
    return high, value - high
