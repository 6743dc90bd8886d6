"""Whether an update would leave w and the optimizer's vectors finite, before it is made.

A gradient may be finite, and what an optimizer makes of it not: in float32 the square of 2e19 is infinite, and with it
Adam's v, for ever.  So such an update is treated as a gradient that is not finite (`--on-nan`).

To look at all numbers in each step would take time.  Instead the formulas of the optimizer and the length of the
gradient give bounds of the largest numbers, at three prices:

1. In a `Calm` (`distbp.engine.calm`) gradients and learning rates below some limits leave all numbers far from the
   largest number there is, for so many updates: a step compares two numbers.
2. Otherwise the bounds are carried along from step to step: a few operations on numbers of Python.
3. Only where a bound comes near to the largest number, the numbers themselves are looked at; and where that does not
   settle it either, the update is tried on copies, block by block, with the code of the update itself.

The ranks of a node share their numbers, so all of them come to the same bounds.  What is tried has the same result on
all nodes: it is element by element, in operations that IEEE 754 rounds in one way; and where a bound lets an update
pass on one node and it is tried on another, it passes there as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from distbp.engine.calm import Calm, calm_from, is_far
from distbp.engine.own_slices import OwnSlice, within
from distbp.engine.step_memory import StepMemory
from distbp.mathematics.clipping import BLOCK
from distbp.mathematics.network import Network
from distbp.mathematics.optimizers import Optimizer
from distbp.ranks.communicator import Communicator

NEAR = 0.25  # of the largest number that a type has: bounds below it are far enough
PATIENCE = 256  # updates between two looks for a calm
ROUNDED = 1.01  # a length that was added up in float32 may be a little short
VANISHED = 1e-18  # numbers below may have a square of 0 in float32


class FiniteUpdate:
    """Of the updates of one rank, whose slices of w, g and the optimizer's vectors are `mine`."""

    def __init__(
        self, comm: Communicator, memory: StepMemory, network: Network, optimizer: Optimizer, mine: Sequence[OwnSlice]
    ) -> None:
        self._comm, self._memory, self._network, self._optimizer, self._mine = comm, memory, network, optimizer, mine
        self._most = NEAR * float(np.finfo(memory.w.dtype).max)
        self._largest = self._measured()
        self._calm: Calm | None = None
        self._until_next_look = 0

    @property
    def calm(self) -> tuple[float, float, int]:
        """Up to which length of the gradient and learning rate nothing needs to be looked at, for how many updates."""
        calm = self._calm
        return ((calm.g - VANISHED) / ROUNDED, calm.learning_rate, calm.updates) if calm else (0.0, 0.0, 0)

    def count(self, updates: int) -> None:
        """So many updates have been made in the calm."""
        if self._calm:
            self._calm.updates -= updates

    def what_is_not(self, length: float, learning_rate: float, t: int) -> str:
        """ "v of W of layer 2 would not be finite (…)"; or "", where all would be.  All ranks call this.

        `length`: |∂L_B/∂w|, or more.  It comes between fences 2 and 3 of a step, before the update.
        """
        g, calm = ROUNDED * length + VANISHED, self._calm
        if calm:
            if g <= calm.g and learning_rate <= calm.learning_rate and calm.updates:
                calm.updates -= 1
                return ""
            self._calm, self._largest = None, self._measured()
            self._memory.fence()  # all ranks of the node have looked, and none has written
        after = self._optimizer.reach(self._largest, g, learning_rate, t)
        if not is_far(after, self._most):
            after = self._optimizer.reach(self._measured(), g, learning_rate, t)
            self._memory.fence()
            if not is_far(after, self._most) and (wrong := self._tried(learning_rate, t)):
                return wrong
        self._largest = after
        self._until_next_look -= 1
        if self._until_next_look < 0:
            self._calm = calm_from(self._optimizer, after, self._most, g, learning_rate, t + 1)
            self._until_next_look = PATIENCE
        return ""

    def _measured(self) -> dict[str, float]:
        """Of all numbers of the node, which are the same on all nodes."""
        vectors = {"w": self._memory.w, **self._memory.vectors}
        return {name: max(float(one.max()), -float(one.min())) for name, one in vectors.items()}

    def _tried(self, learning_rate: float, t: int) -> str:
        """What would not be finite, on any rank; the ranks of a node tell each other by the squares of the gradient.

        These were looked at before the last fence, and are put back when all ranks have seen what they tell.
        """
        memory, found = self._memory, self._first_not_finite(learning_rate, t)
        block = found[0] // BLOCK if found else 0
        before = memory.squares[block], memory.scaled[block]
        if found:
            memory.squares[block] = memory.scaled[block] = math.inf
        memory.fence()
        if math.isfinite(memory.length.scaled):
            return ""
        everywhere = [one for one in self._comm.allgather(found) if one]
        if found:
            memory.squares[block], memory.scaled[block] = before
        index, name, g = min(everywhere)
        layer, array = self._place(index)
        what = f"{array} of layer {layer}" if name == "w" else f"{name} of {array} of layer {layer}"
        return (
            f"{what} would not be finite in {self._memory.w.dtype}, for a gradient of {g:.4g} and a learning rate of "
            f"{learning_rate:.4g}"
        )

    def _first_not_finite(self, learning_rate: float, t: int) -> tuple[int, str, float] | None:
        """The index in w, what is not finite there, and the gradient."""
        for bucket, own in zip(self._memory.buckets, self._mine, strict=True):
            for first in range(0, len(own.w), BLOCK):
                block = slice(first, min(first + BLOCK, len(own.w)))
                copies = {name: one[block].copy() for name, one in own.vectors.items()}
                new = own.w[block].copy()
                biases = within(own.biases, block)
                self._optimizer.update(new, own.g[block].copy(), copies, learning_rate, t, biases)
                for name, one in {**copies, "w": new}.items():
                    bad = ~np.isfinite(one)
                    if bad.any():
                        i = first + int(bad.argmax())
                        return bucket.mine.start + i, name, float(own.g[i])
        return None

    def _place(self, index: int) -> tuple[int, str]:
        """The layer, and W or b, of a number of w."""
        n, stop = self._network.sizes, 0
        for l in range(2, self._network.F + 1):
            for name, count in (("W", n[l] * n[l - 1]), ("b", n[l])):
                stop += count
                if index < stop:
                    return l, name
        raise AssertionError(index)
