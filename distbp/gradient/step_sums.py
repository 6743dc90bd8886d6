"""Loss and metric of the steps of an epoch, added up over all ranks in float64, without a message of their own a step.

A rank's part of each step is kept until the sums are asked for.  Then the parts of each step are added over the ranks
without rounding (`distbp.mathematics.exact_sum`), and the steps one after another: so it changes no bit when they are
asked for, which a stop and a resume inside an epoch do.
"""

from __future__ import annotations

from math import inf

import numpy as np

from distbp.mathematics.exact_sum import ExactSum, exponent
from distbp.ranks.communicator import Communicator

MOST = 1024  # steps that are kept


class StepSums:
    """`loss` and `metric`, from those so far on; all ranks use theirs together."""

    def __init__(self, comm: Communicator, loss: float, metric: float) -> None:
        self._comm, self._loss, self._metric = comm, loss, metric
        self._parts: list[tuple[float, float]] = []

    def add(self, loss: float, metric: float) -> None:
        """This rank's part of a step."""
        self._parts.append((loss, metric))
        if len(self._parts) == MOST:
            self._add_up()

    def total(self) -> tuple[float, float]:
        """Loss and metric of all steps and ranks."""
        if self._parts:
            self._add_up()
        return self._loss, self._metric

    def _add_up(self) -> None:
        parts, self._parts = np.array(self._parts), []
        largest = np.abs(parts)
        largest[np.isnan(largest)] = inf  # MAX and NaN do not go together
        self._comm.allreduce(largest, "max")
        exponents = np.array([[exponent(one) for one in row] for row in largest.tolist()])
        sums = ExactSum(exponents, self._comm.size)
        sums.add(parts)
        self._comm.allreduce(sums.sums)
        for loss, metric in sums.value().tolist():
            self._loss += loss
            self._metric += metric
