"""new_members.py ARGUMENTS…: runs `distbp ARGUMENTS` with one more loss, activation, optimizer and schedule.

Each is added as its file would add it: one entry in a table, made before the configuration reads the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distbp.mathematics import deferred_numpy as np
from distbp.mathematics.activations import ACTIVATIONS, Activation, Array
from distbp.mathematics.losses import LOSSES, Loss
from distbp.mathematics.optimizer import Optimizer, State
from distbp.mathematics.optimizers import OPTIMIZERS
from distbp.mathematics.schedules import SCHEDULES, Schedule, Shape


def log_cosh(y: Array, z: Array, a: Array, s: Array) -> float:
    """L_i = Σ_j ln cosh(a_j - y_j)"""
    np.subtract(a, y, out=s)
    return float(np.log(np.cosh(s)).sum(dtype=np.float64))


def log_cosh_nabla_a(y: Array, a: Array, out: Array) -> None:
    """∂L/∂a_j = tanh(a_j - y_j)"""
    np.subtract(a, y, out=out)
    np.tanh(out, out=out)


def sine(z: Array, out: Array) -> None:
    """σ(z) = sin z"""
    np.sin(z, out=out)


def sine_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = cos z"""
    np.cos(z, out=out)


@dataclass
class Sign(Optimizer):
    """w ← w - η sign(g), and the last g is kept."""

    name = "sign"

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("last",)

    def step(self, g: Array, state: State, s: Array, learning_rate: float, t: int) -> None:
        state["last"][:] = g
        np.sign(g, out=s)
        s *= learning_rate

    def reach_of_step(
        self, largest: Mapping[str, float], g: float, learning_rate: float, t: int
    ) -> tuple[float, dict[str, float], float]:
        return learning_rate, {"last": g}, max(1.0, learning_rate)


def halving(schedule: Schedule, step: int) -> float:
    """η = base / (1 + step)"""
    return schedule.base / (1 + step)


LOSSES["log_cosh"] = Loss("log_cosh", log_cosh, log_cosh_nabla_a, None, "identity", target_metric="rmse")
ACTIVATIONS["sine"] = Activation("sine", sine, sine_prime, "glorot")
OPTIMIZERS["sign"] = Sign
SCHEDULES["halving"] = Shape("halving", halving)

if __name__ == "__main__":
    from distbp.__main__ import main

    main()
