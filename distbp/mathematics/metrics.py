"""Metrics: what is reported beside the loss, in units that people read.

A metric is made of sums over samples, so that it can be added up over pieces, ranks and steps.  `sums` names them;
`of_piece` returns what a piece adds to each, after `forward`; `value` makes the metric from the sums of n samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.activations import Array
from distbp.mathematics.losses import LOSSES, Loss, has_digits, wide_squares


class Metric(Protocol):
    """One metric.  Arrays have the shape (n_F, m): a column for each sample."""

    @property
    def name(self) -> str:
        """As in "train_accuracy"."""

    @property
    def sums(self) -> tuple[str, ...]:
        """The names of its sums."""

    def of_piece(self, y: Array, a: Array, scratch: Array) -> tuple[float, ...]:
        """What the samples of a piece add to the sums; `a` is a^F.  Overwrites `scratch`, which is like `a`."""

    def value(self, sums: Sequence[float], n: int) -> float:
        """The metric of n samples; n > 0."""


class Accuracy:
    """The share of the samples whose class has the largest output."""

    name: str = "accuracy"
    sums: tuple[str, ...] = ("correct",)

    def of_piece(self, y: Array, a: Array, scratch: Array) -> tuple[float, ...]:
        """The number of right answers."""
        return (float(np.count_nonzero(a.argmax(axis=0) == y.argmax(axis=0))),)

    def value(self, sums: Sequence[float], n: int) -> float:
        """Right answers by samples."""
        return sums[0] / n


class BinaryAccuracy(Accuracy):
    """The share of right answers where each output says yes or no, by a^F > 1/2; the mean over the outputs."""

    def of_piece(self, y: Array, a: Array, scratch: Array) -> tuple[float, ...]:
        """The number of right answers, mean over the outputs."""
        return (float(np.count_nonzero((a > 0.5) == (y > 0.5))) / len(y),)


class RootMeanSquareError:
    """The root mean square error over samples and outputs, in the units of the targets."""

    name: str = "rmse"
    sums: tuple[str, ...] = ("squared_error",)

    def __init__(self, spread: NDArray[np.float64]) -> None:
        """`spread`, shape (n_F,): the units in which y and a^F are given."""
        largest = float(spread.max())
        # In which the squares are summed: 1, unless squares of the targets may be beyond float64.
        self._unit = 1.0 if 1e-100 < largest < 1e100 else largest
        self.weights = np.square(spread / self._unit)

    def of_piece(self, y: Array, a: Array, scratch: Array) -> tuple[float, ...]:
        """Squared errors, mean over the outputs."""
        error = np.subtract(a, y, out=scratch)
        sums: Array = np.square(error, out=error).sum(axis=1, dtype=np.float64)
        if not has_digits(float(sums.sum()), error):
            sums = wide_squares(y, a).sum(axis=1)
        return (float(sums @ self.weights) / len(y),)

    def value(self, sums: Sequence[float], n: int) -> float:
        """√ of the mean."""
        return float(np.sqrt(sums[0] / n)) * self._unit


def names_of_sums(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """What is summed up over samples, by name: the loss first, then what the metrics are made of."""
    return ("loss", *(name for metric in metrics for name in metric.sums))


# For a loss, and the units of its targets.
METRICS: dict[str, Callable[[Loss, NDArray[np.float64]], Metric]] = {
    "accuracy": lambda loss, spread: BinaryAccuracy() if loss.is_binary else Accuracy(),
    "rmse": lambda loss, spread: RootMeanSquareError(spread),
}


def metrics_of(loss: str, *, has_classes: bool, spread: NDArray[np.float64]) -> tuple[Metric, ...]:
    """Those that go with a loss; `spread`, shape (n_F,): the units of the targets."""
    name = "accuracy" if has_classes else LOSSES[loss].target_metric
    return (METRICS[name](LOSSES[loss], spread),)


def all_metrics() -> list[tuple[Metric, ...]]:
    """The metrics of each kind of run, each combination of names once."""
    found = {}
    for loss in LOSSES:
        for has_classes in (True, False):
            metrics = metrics_of(loss, has_classes=has_classes, spread=np.ones(1))
            found[tuple(metric.name for metric in metrics)] = metrics
    return list(found.values())
