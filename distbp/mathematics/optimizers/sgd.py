"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distbp.mathematics import deferred_numpy as np
from distbp.mathematics.activations import Array
from distbp.mathematics.optimizer import Optimizer, State, rounded


@dataclass
class SGD(Optimizer):
    """w ← w - η v,  v ← μ v + g;  with Nesterov's momentum w ← w - η (g + μ v).

    As PyTorch's SGD: g + λ w takes the place of g with weight decay λ, and the first v is g.
    Plain gradient descent is μ = 0.
    """

    name = "sgd"

    momentum: float = 0.0
    nesterov: bool = False

    @property
    def vectors(self) -> tuple[str, ...]:
        """v, where there is momentum."""
        return ("v",) if self.momentum else ()

    def step(self, g: Array, state: State, s: Array, learning_rate: float, t: int) -> None:
        """s = η v, or η (g + μ v)"""
        if self.momentum:
            v = state["v"]
            v *= self.momentum
            v += g
            if self.nesterov:
                np.multiply(v, self.momentum, out=s)
                g += s
            else:
                g = v
        np.multiply(g, learning_rate, out=s)

    def reach_of_step(
        self, largest: Mapping[str, float], g: float, learning_rate: float, t: int
    ) -> tuple[float, dict[str, float], float]:
        after = {}
        if self.momentum:
            after["v"] = v = rounded(self.momentum * largest["v"] + g)
            g = rounded(g + self.momentum * v) if self.nesterov else v
        return learning_rate * g, after, max(g, learning_rate)


OPTIMIZER = SGD
