"""The sums of the steps of an epoch, added up over all ranks in float64, without a message of their own in each step.

A rank's part of each step is kept until the sums are asked for.  Then the parts of each step are added over the ranks
without rounding (`distbp.mathematics.exact_sum`), and the steps one after another.  So no bit changes with when they
are asked for, which a stop and a resume inside an epoch do.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from distbp.engine.sums import Steps, Sums
from distbp.mathematics.exact_sum import ExactSum, exponents
from distbp.ranks.communicator import Communicator

MOST = 1024  # steps, after which their sums are no longer kept one by one


class EpochSums:
    """The sums of an epoch, which begin with those of its steps so far; all ranks use theirs together."""

    def __init__(self, comm: Communicator, so_far: Sequence[float], samples: int = 0) -> None:
        """`so_far`: the sums of all ranks over `samples` samples, in the order of `Problem.sums`."""
        self._comm, self._sums = comm, Sums(list(so_far), samples)
        self._parts, self._kept = list[NDArray[np.float64]](), 0

    @property
    def samples(self) -> int:
        """Of all ranks."""
        return self._sums.samples

    def add(self, steps: Steps) -> None:
        """Some more steps: those that are sound."""
        self._parts.append(steps.parts[: steps.sound])
        self._kept += steps.sound
        self._sums.samples += int(steps.samples[: steps.sound].sum())
        if self._kept >= MOST:
            self._add_up()

    def total(self) -> Sums:
        """The sums of all steps and ranks."""
        if self._kept:
            self._add_up()
        return Sums([*self._sums.values], self._sums.samples)

    def _add_up(self) -> None:
        parts = np.concatenate(self._parts)
        self._parts, self._kept = [], 0
        largest = np.abs(parts)
        largest[np.isnan(largest)] = inf  # MAX and NaN do not go together
        self._comm.allreduce(largest, "max")
        sums = ExactSum(exponents(largest), self._comm.size)
        sums.add(parts)
        self._comm.allreduce(sums.sums)
        steps = np.concatenate([[self._sums.values], sums.value()])
        with np.errstate(over="ignore", invalid="ignore"):  # such a sum is infinite, or no number
            self._sums.values = np.add.accumulate(steps, axis=0)[-1].tolist()  # one after another
