"""The seam between training and what computes a step: `train` knows engines by this protocol alone.

All ranks make theirs together and make the same calls.  `tests/engine_tests.py` is the contract in tests; every engine
inherits it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from distbp.data.loader import Batch
from distbp.data.split import Split
from distbp.engine.evaluate import Evaluation
from distbp.engine.sums import Requests, Stepped, Steps
from distbp.mathematics.activations import Array
from distbp.mathematics.network import Parameters

Ask = Callable[[int], Requests]  # what this rank asks for with step t


class Engine(Protocol):
    """Computes steps: w ← w - η ∂L_B/∂w, or what the optimizer makes of it.

    `parameters` are W^l and b^l, views of `w`, a vector of the computation's dtype; `vectors` are those of the
    optimizer, by name, each as long as w.  The ranks of a node may share this memory: nobody writes there between two
    calls but by `fill`.  `g` is what this rank has of ∂L_B/∂w after `gradient`, and `slices` says where in w it lies.
    """

    w: Array
    parameters: Parameters
    vectors: dict[str, Array]
    g: list[Array]
    slices: list[slice]
    nodes: list[list[int]]  # the ranks of each node
    parts: int  # in which the gradient of a step is exchanged between nodes

    def fill(self, write: Callable[[], None]) -> None:
        """Calls `write`, which may fill w and the vectors, once on each node; then all ranks see what it wrote."""

    def step(self, batches: Sequence[Batch], rates: Sequence[float], done: int, ask: Ask) -> Steps:
        """Takes the steps done + 1, done + 2, … with these batches and learning rates, which are the same on all ranks.

        A step whose loss, gradient or update is not finite leaves w and the vectors as they were, and says so in
        `last.wrong`.  The call ends after such a step, and after one with which any rank asks for something; `ask` is
        called at least once in a call, with the number of a step that follows.  Raises what loading samples may raise,
        agreed.
        """

    def gradient(self, batch: Batch, requests: Requests) -> Stepped:
        """Leaves ∂L_B/∂w in `g`, for methods that make their own steps; w and the vectors stay as they are."""

    def evaluation(self, data: Split) -> Evaluation:
        """A split made ready to be evaluated again and again, as validation does."""

    def close(self) -> None:
        """Ends what works in the background."""
