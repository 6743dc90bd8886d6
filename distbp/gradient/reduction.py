"""The reduction: from every rank's Σ_i ∂L_i/∂w to ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w.

Within a node each rank adds up its slice of all gradients, from the memory that they share (`StepMemory`); across nodes
the ranks with the same slice add it up with one Allreduce, while backpropagation goes on with the layers below.  Behind
the gradient, with layer F, travel the sums of the loss, of the samples and of the metric, and two requests, so that all
ranks know them at the same step and act alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import floor, isfinite

import numpy as np

from distbp.gradient.step_memory import TAIL, Bucket, StepMemory
from distbp.mathematics.activations import Array
from distbp.mathematics.network import Network, Parameters
from distbp.ranks.background import Background

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
    """Sums what all ranks leave in their `gradient`; `g` has then, of each bucket, this rank's slice of ∂L_T/∂w.

    A step is begun with the tally; then all layers are `ready`, from F down; then it is finished.  All ranks do so
    together.  `lap` is told what the time since the last lap was spent on.
    """

    def __init__(self, memory: StepMemory, network: Network, lap: Callable[[str], None] = lambda phase: None) -> None:
        self._memory, self._lap, self._layers = memory, lap, range(network.F, 1, -1)
        count, own = network.parameter_count, memory.sums[memory.part][0]
        self.gradient = Parameters(network, own[:count])
        self._tail = own[count:]
        self._agreed = memory.sums[memory.owners - 1][0][count:]  # the tails of all ranks
        self._background = Background(memory.peers) if len(memory.buckets) > 1 else None
        self._parts = {bucket.l: _Part(memory, bucket) for bucket in memory.buckets}
        self.g: list[Array] = [part.g for part in self._parts.values()]

    def reduce(self, tally: Tally, n: int) -> Tally:
        """A whole step, for a gradient that is there."""
        self.begin(tally)
        for l in self._layers:
            self.ready(l)
        return self.finish(n)

    def begin(self, tally: Tally) -> None:
        """This rank's tally."""
        sums = (*_digits(tally.loss), *_digits(tally.samples), *_digits(tally.metric))
        self._tail[:] = (*sums, tally.stop, tally.save)

    def ready(self, l: int) -> None:
        """This rank's gradient of layer l is whole; a bucket that is whole now is added up over all ranks."""
        part, peers = self._parts.get(l), self._memory.peers
        if part is None:
            return
        self._lap("backward")
        self._memory.fence()
        part.add_up()
        if self._background:
            self._background.start(partial(self._background.comm.allreduce, part.sent))
        elif peers.size > 1:
            peers.allreduce(part.sent)
        self._lap("reduction")

    def finish(self, n: int) -> Tally:
        """Leaves ∂L_T/∂w of n samples in `g`; returns the tally of all ranks."""
        if self._background:
            self._background.wait()
        for part in self._parts.values():
            if len(part.g):
                divide(part.g, n)  # ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w
                self._memory.measure(part.g, part.bucket)
        self._memory.fence()
        loss_high, loss_low, n_high, n_low, metric_high, metric_low, stop, save = self._agreed.tolist()
        self._lap("reduction")
        return Tally(loss_high + loss_low, int(n_high + n_low), metric_high + metric_low, int(stop), int(save))

    def close(self) -> None:
        """Ends what works in the background."""
        if self._background:
            self._background.close()


class _Part:
    """This rank's slice of a bucket, in its own gradient and in those of the other ranks of the node."""

    def __init__(self, memory: StepMemory, bucket: Bucket) -> None:
        own = memory.sums[memory.part][0]
        has_tail = bucket is memory.buckets[0] and memory.part == memory.owners - 1
        part = slice(bucket.mine.start, bucket.mine.stop + TAIL * has_tail)
        self.bucket, self.g, self.sent = bucket, own[bucket.mine], own[part]
        self._others = [sums[0][part] for of, sums in enumerate(memory.sums) if of != memory.part]

    def add_up(self) -> None:
        """The gradients of all ranks of the node, in `sent`."""
        for start in range(0, len(self.sent), CACHED) if self._others else ():
            block = slice(start, start + CACHED)
            total = self.sent[block]
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
