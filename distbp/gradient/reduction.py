"""The reduction: from every rank's Σ_i ∂L_i/∂w to ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w.

Within a node each rank adds up its slice of all gradients, from the memory that they share (`StepMemory`); across nodes
the ranks with the same slice add it up with one Allreduce.  Behind the gradient, in the last slice, travel the sums of
the loss, of the samples and of the metric, and two requests, so that all ranks know them at the same step and act
alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite

import numpy as np

from distbp.gradient.step_memory import TAIL, StepMemory
from distbp.mathematics.activations import Array
from distbp.mathematics.network import Network, Parameters

DIGIT = 4096.0
WHOLE = DIGIT * 2**24  # up to here float32 has every multiple of DIGIT
CACHED = 2**15  # numbers that are added up at a time, while they are in the cache


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
    """Sums what all ranks leave in their `gradient`; `g` is then this rank's slice of ∂L_T/∂w."""

    def __init__(self, memory: StepMemory, network: Network) -> None:
        self._memory = memory
        count = network.parameter_count
        own = memory.sums[memory.part][0]
        self.gradient = Parameters(network, own[:count])
        self.g: Array = own[memory.mine]
        self._tail = own[count:]
        is_last = memory.part == len(memory.slices) - 1
        self._sent = own[memory.mine.start : memory.mine.stop + TAIL * is_last]  # what is added up here
        self._agreed = memory.sums[len(memory.slices) - 1][0][count:]  # the tails of all ranks
        part = slice(memory.mine.start, memory.mine.start + len(self._sent))
        self._others = [sums[0][part] for of, sums in enumerate(memory.sums) if of != memory.part]

    def reduce(self, tally: Tally, n: int) -> Tally:
        """Leaves ∂L_T/∂w of n samples in `g`; returns the tally of all ranks."""
        memory = self._memory
        sums = (*_digits(tally.loss), *_digits(tally.samples), *_digits(tally.metric))
        self._tail[:] = (*sums, tally.stop, tally.save)
        memory.fence()
        if len(self._sent):
            self._add_up()
            if memory.peers.size > 1:
                memory.peers.allreduce(self._sent)
            divide(self.g, n)  # ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w
            memory.measure(self.g)
        memory.fence()
        loss_high, loss_low, n_high, n_low, metric_high, metric_low, stop, save = self._agreed.tolist()
        return Tally(loss_high + loss_low, int(n_high + n_low), metric_high + metric_low, int(stop), int(save))

    def _add_up(self) -> None:
        """This rank's slice of the gradients of all ranks of the node."""
        for start in range(0, len(self._sent), CACHED) if self._others else ():
            block = slice(start, start + CACHED)
            total = self._sent[block]
            for other in self._others:
                total += other[block]


def divide(array: Array, n: int) -> None:
    """array /= n; a power of 2 needs no division for the same bits."""
    if n & (n - 1) == 0:
        array *= 1.0 / n
    else:
        array /= n


def _digits(value: float) -> tuple[float, float]:
    """value = high + low with high a multiple of 4096.

    float32 holds whole numbers up to 2^24 only; in two digits counts stay exact up to 2^36 samples, and a loss sum
    keeps more of its figures.
    """
    if not isfinite(value):
        return value, 0.0
    high = floor(value / DIGIT) * DIGIT
    if abs(high) > WHOLE:
        high = float(np.float32(high))
    return high, value - high
