"""JAX: one process; the whole step, from the rows of a batch to the new weights, is one compiled function.

Weights and momentum are donated, so that they are updated in place.  With --scan all steps of an epoch are one function
(`jax.lax.scan`), which is JAX's fastest form.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from task import Task, first_weights, given, perform, read_data


def mean_loss(weights: Any, a: Any, y: Any) -> Any:
    """The mean loss of samples with inputs a: cross-entropy of class labels y, or the squared error of real y."""
    for W, b in weights[:-1]:
        a = jax.nn.relu(a @ W + b)
    W, b = weights[-1]
    z = a @ W + b
    if y.ndim == 2:
        return jnp.mean(jnp.square(z - y))
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])


class Jax:
    """The only process."""

    rank, together = 0, 1

    def __init__(self, task: Task) -> None:
        x, y = read_data(task)
        self.x, self.y = jnp.asarray(x), jnp.asarray(y if task.is_regression else y.astype(np.int32))
        self._weights = [(jnp.asarray(W.T.copy()), jnp.asarray(b)) for W, b in first_weights(task)]
        self._velocity = jax.tree.map(jnp.zeros_like, self._weights)
        self._loss = jnp.zeros(())
        self._order: Any = jnp.arange(len(x))
        self._random = np.random.default_rng(0)
        eta, mu, n = task.learning_rate, task.momentum, task.n

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(weights: Any, velocity: Any, x: Any, y: Any, order: Any, number: Any) -> Any:
            rows = jax.lax.dynamic_slice(order, (number * n,), (n,))
            a, y = (jnp.take(array, rows, axis=0, mode="clip") for array in (x, y))
            loss, gradient = jax.value_and_grad(mean_loss)(weights, a, y)
            velocity = jax.tree.map(lambda v, g: mu * v + g, velocity, gradient)
            return jax.tree.map(lambda w, v: w - eta * v, weights, velocity), velocity, loss

        self._step = step
        self._begin(step, len(x) // n)

    def _begin(self, step: Any, steps: int) -> None:
        """When the function of a step is there; an epoch has so many."""

    def shuffle(self) -> None:
        """See Contestant, as for the rest."""
        self._order = jnp.asarray(self._random.permutation(len(self.x)).astype(np.int32))

    def step(self, number: int) -> None:
        self._weights, self._velocity, self._loss = self._step(
            self._weights, self._velocity, self.x, self.y, self._order, number
        )

    def wait(self) -> None:
        jax.block_until_ready(self._weights)

    def loss(self) -> float:
        return float(self._loss)

    def agree(self, value: int) -> int:
        return value

    def slowest(self, seconds: float) -> float:
        return seconds


class JaxScan(Jax):
    """All steps of an epoch in one call."""

    def _begin(self, step: Any, steps: int) -> None:
        self.together = steps

        @partial(jax.jit, donate_argnums=(0, 1))
        def epoch(weights: Any, velocity: Any, x: Any, y: Any, order: Any, number: Any) -> Any:
            def one(carried: Any, number: Any) -> Any:
                weights, velocity, loss = step(*carried, x, y, order, number)
                return (weights, velocity), loss

            (weights, velocity), losses = jax.lax.scan(one, (weights, velocity), number + jnp.arange(steps))
            return weights, velocity, losses[-1]

        self._step = epoch


def main() -> None:
    """Does the task."""
    scans = "--scan" in sys.argv
    if scans:
        sys.argv.remove("--scan")
    task = given()
    contestant = (JaxScan if scans else Jax)(task)
    perform(task, contestant, len(contestant.x))


if __name__ == "__main__":
    main()
