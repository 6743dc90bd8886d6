"""A loop of NumPy and mpi4py as one writes it: one blocking Allreduce for each W and b, after the backward pass.

It adds up what a library for data-parallel training on MPI such as ChainerMN does in its simplest communicator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from task import Task, first_weights, given, perform, read_data, shard


class NumPyLoop:
    """One rank.  Samples are rows."""

    together = 1

    def __init__(self, task: Task) -> None:
        self._comm = MPI.COMM_WORLD
        self.rank = self._comm.rank
        assert self._comm.size == task.ranks, f"{self._comm.size} ranks instead of {task.ranks}"
        self._task, self._part = task, shard(task.n, self.rank, task.ranks)
        self.x, self._y = read_data(task)
        self._is_regression = task.is_regression
        self._W, self._b = (list(parameters) for parameters in zip(*first_weights(task), strict=True))
        self._velocity = [np.zeros_like(w) for w in (*self._W, *self._b)]
        self._random = np.random.default_rng(0)
        self._order = np.arange(len(self.x))
        self._loss_sum = 0.0

    def shuffle(self) -> None:
        """See Contestant, as for the rest."""
        self._order = self._random.permutation(len(self.x))

    def step(self, number: int) -> None:
        n = self._task.n
        rows = self._order[number * n : (number + 1) * n][self._part]
        a = [self.x[rows]]
        for W, b in zip(self._W[:-1], self._b[:-1], strict=True):
            a.append(np.maximum(a[-1] @ W.T + b, 0))
        d = self._error(a[-1] @ self._W[-1].T + self._b[-1], self._y[rows]) / np.float32(n)
        dW, db = [], []
        for l in reversed(range(len(self._W))):
            dW.insert(0, d.T @ a[l])
            db.insert(0, d.sum(axis=0))
            if l:
                d = (d @ self._W[l]) * (a[l] > 0)
        for w, v, g in zip((*self._W, *self._b), self._velocity, (*dW, *db), strict=True):
            self._comm.Allreduce(MPI.IN_PLACE, g)
            v *= self._task.momentum
            v += g
            w -= self._task.learning_rate * v

    def _error(self, z: Any, y: Any) -> Any:
        """∂L_i/∂z of each sample; the losses are added up."""
        if self._is_regression:
            difference = z - y
            self._loss_sum = float(np.square(difference).sum()) / z.shape[1]
            return difference * np.float32(2 / z.shape[1])
        z -= z.max(axis=1, keepdims=True)
        e = np.exp(z)
        total = e.sum(axis=1, keepdims=True)
        samples = np.arange(len(y))
        self._loss_sum = float((np.log(total[:, 0]) - z[samples, y]).sum())
        e /= total
        e[samples, y] -= 1
        return e

    def wait(self) -> None:
        pass

    def loss(self) -> float:
        return float(self._comm.allreduce(self._loss_sum)) / self._task.n

    def agree(self, value: int) -> int:
        return int(self._comm.bcast(value))

    def slowest(self, seconds: float) -> float:
        return float(self._comm.allreduce(seconds, MPI.MAX))


def main() -> None:
    """Does the task."""
    task = given()
    contestant = NumPyLoop(task)
    perform(task, contestant, len(contestant.x))


if __name__ == "__main__":
    main()
