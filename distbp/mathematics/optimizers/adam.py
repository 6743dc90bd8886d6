"""Adam: steps whose size follows the means of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt

from distbp.mathematics import deferred_numpy as np
from distbp.mathematics.activations import Array
from distbp.mathematics.fixed_functions import power
from distbp.mathematics.optimizer import LEAST, Optimizer, State, rounded


@dataclass
class Adam(Optimizer):
    """Kingma & Ba 2015: m ← β₁ m + (1-β₁) g,  v ← β₂ v + (1-β₂) g²,  w ← w - η m̂ / (√v̂ + ε)

    with m̂ = m / (1 - β₁^t), v̂ = v / (1 - β₂^t).  Weight decay λ is added to the gradient: g + λ w.
    """

    name = "adam"
    squares = ("v",)

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @property
    def vectors(self) -> tuple[str, ...]:
        return "m", "v"

    def step(self, g: Array, state: State, s: Array, learning_rate: float, t: int) -> None:
        """s = η m̂ / (√v̂ + ε)"""
        m, v = state["m"], state["v"]
        m *= self.beta1
        np.multiply(g, 1.0 - self.beta1, out=s)
        m += s
        v *= self.beta2
        np.square(g, out=g)
        g *= 1.0 - self.beta2
        v += g
        np.sqrt(v, out=s)
        s /= sqrt(1.0 - power(self.beta2, t))
        s += self.epsilon
        np.divide(m, s, out=s)
        s *= learning_rate / (1.0 - power(self.beta1, t))

    def reach_of_step(
        self, largest: Mapping[str, float], g: float, learning_rate: float, t: int
    ) -> tuple[float, dict[str, float], float]:
        """√v̂ + ε is at least ε."""
        rate = learning_rate / (1.0 - power(self.beta1, t))
        m = rounded(self.beta1 * largest["m"] + (1.0 - self.beta1) * g)
        v = rounded(self.beta2 * largest["v"] + (1.0 - self.beta2) * g * g)
        ratio = rounded(m / self.epsilon) if self.epsilon >= LEAST else inf
        return rate * ratio, {"m": m, "v": v}, max(g * g, ratio, rate)


OPTIMIZER = Adam
