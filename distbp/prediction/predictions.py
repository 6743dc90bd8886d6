"""What the outputs of a network say about samples: classes with their probabilities, or targets."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem


class PredictionFile(Protocol):
    """A new file of predictions, for one format; it may raise OSError, RuntimeError and ValueError (h5py's).

    It is made of the descriptor of an open file, which it leaves open.
    """

    def write(self, a: NDArray[Any]) -> None:
        """Adds samples: their outputs, shape (m, n_F), targets in their units."""

    def close(self) -> None:
        """Writes what has not been written."""


def name_of_values(problem: Problem) -> str:
    """The values of a sample are: "probability" or, where they are none, "output" of each class; or targets, "y"."""
    if problem.labels is None:
        return "y"
    network = problem.network
    return "probability" if network.sizes[-1] == 1 or network.output_activation.is_over_classes else "output"


def read_off(problem: Problem, a: NDArray[Any]) -> tuple[NDArray[np.int64] | None, NDArray[Any]]:
    """The classes of outputs of shape (m, n_F), shape (m,), or None for targets; and the values, (m, K) or (m, n_F)."""
    return (None, a) if problem.labels is None else (classes_of(a), values_of_classes(a))


def classes_of(a: NDArray[Any]) -> NDArray[np.int64]:
    """The classes 0 … K-1, shape (m,), of outputs of shape (m, K), or (m, 1) for two classes."""
    return (a[:, 0] > 0.5).astype(np.int64) if a.shape[1] == 1 else a.argmax(axis=1)


def values_of_classes(a: NDArray[Any]) -> NDArray[Any]:
    """The values of each class, shape (m, K): the outputs; of a single one, 1 - a and a."""
    return np.hstack([1.0 - a, a]) if a.shape[1] == 1 else a
