"""The limit: the matrix products of a step and nothing else, in NumPy, into memory that is there already.

For each layer W a, and in the way back d aᵀ, and Wᵀ d but for the input layer: what backpropagation cannot do without.
Each rank does its share of the batch, in pieces of at most 1024 samples as in distbp, and waits for nobody; the ranks
start together, and the slowest counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from task import Task, answer, first_weights, given, measure, shard

PIECE = 1024  # samples; more do not make the products faster


class Products:
    """Those of a piece of m samples.  A sample is a column, and in memory a row, as in distbp."""

    def __init__(self, task: Task, W: list[Any], m: int) -> None:
        rng = np.random.default_rng(0)
        self._W, self._dW = W, [np.empty_like(w) for w in W]
        self._a, self._d = ([rng.random((m, n), dtype=np.float32).T for n in task.layers] for _ in range(2))
        self._z = [np.empty((m, n), np.float32).T for n in task.layers]

    def step(self) -> None:
        """All of them, once."""
        W, dW, a, d, z = self._W, self._dW, self._a, self._d, self._z
        for l in range(len(W)):
            np.matmul(W[l], a[l], out=z[l + 1])
        for l in reversed(range(len(W))):
            if l:
                np.matmul(W[l].T, d[l + 1], out=z[l])
            np.matmul(d[l + 1], a[l].T, out=dW[l])


def main() -> None:
    """Does the task, which is always "speed"."""
    task, comm = given(), MPI.COMM_WORLD
    assert comm.size == task.ranks, f"{comm.size} ranks instead of {task.ranks}"
    part = shard(task.n, comm.rank, comm.size)
    samples, W = part.stop - part.start, [W for W, _ in first_weights(task)]
    sizes = [min(PIECE, samples - first) for first in range(0, samples, PIECE)]
    products = {m: Products(task, W, m) for m in set(sizes)}

    def run(count: int) -> None:
        for _ in range(count):
            for m in sizes:
                products[m].step()

    count, seconds = measure(run, task.seconds, comm.bcast, lambda seconds: comm.allreduce(seconds, MPI.MAX))
    if comm.rank == 0:
        answer({"speed": count * task.n / seconds})


if __name__ == "__main__":
    main()
