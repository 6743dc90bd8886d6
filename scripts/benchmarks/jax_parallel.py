"""JAX, data-parallel: over processes (`jax.distributed`), or over several CPU devices of one process.

Each device has all data and all weights, computes the gradient of its share of the batch, and adds it to those of the
others (`jax.lax.psum` in `jax.shard_map`).  All steps of an epoch are one compiled function (`jax.lax.scan`).  The
gradient goes through psum as one vector: psum of the W and b one by one took two to four times as long over gloo.

--collectives gloo or mpi: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment, as torchrun sets them
(mpirun's own variables for the rank are read, too).  JAX calls MPI through MPItrampoline: MPITRAMPOLINE_LIB has to name
a library that MPIwrapper made for the MPI at hand.  Without --collectives: a device for each thread.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec
from jax_step import mean_loss
from task import Task, first_weights, given, perform, read_data

AXIS = "data"
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")


class JaxParallel:
    """One process; its devices are some or all of those of the mesh."""

    def __init__(self, task: Task) -> None:
        self.rank, self._processes = jax.process_index(), jax.process_count()
        mesh = jax.make_mesh((jax.device_count(),), (AXIS,))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        x, y = read_data(task)
        self.together = len(x) // task.n
        self._data = self._put((x, y if task.is_regression else y.astype(np.int32)))
        self.x = self._data[0]
        weights = [(np.ascontiguousarray(W.T), b) for W, b in first_weights(task)]
        self._state = self._put((weights, jax.tree.map(np.zeros_like, weights)))
        self._order, self._loss = self._put(np.arange(len(x), dtype=np.int32)), jnp.zeros(())
        self._random = np.random.default_rng(0)
        self._epoch = self._compiled(task, mesh)

    def _put(self, arrays: Any) -> Any:
        """The same arrays on all devices."""
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(self._everywhere, a, a.shape), arrays)

    def _compiled(self, task: Task, mesh: Any) -> Any:
        eta, mu, n, steps, devices = task.learning_rate, task.momentum, task.n, self.together, mesh.size
        assert n % devices == 0, f"a batch of {n} samples on {devices} devices"

        def step(state: Any, data: Any, order: Any, number: Any) -> Any:
            weights, velocity = state
            first = number * n + jax.lax.axis_index(AXIS) * (n // devices)
            rows = jax.lax.dynamic_slice(order, (first,), (n // devices,))
            a, y = (jnp.take(array, rows, axis=0, mode="clip") for array in data)
            vector, unravel = ravel_pytree(jax.value_and_grad(mean_loss)(weights, a, y))
            loss, gradient = unravel(jax.lax.psum(vector, AXIS) / devices)
            velocity = jax.tree.map(lambda v, g: mu * v + g, velocity, gradient)
            return (jax.tree.map(lambda w, v: w - eta * v, weights, velocity), velocity), loss

        def epoch(state: Any, data: Any, order: Any) -> Any:
            state, losses = jax.lax.scan(
                lambda state, number: step(state, data, order, number), state, jnp.arange(steps)
            )
            return state, losses[-1]

        everywhere = PartitionSpec()
        parallel = jax.shard_map(epoch, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)
        return partial(jax.jit, donate_argnums=0)(parallel)

    def shuffle(self) -> None:
        """See Contestant, as for the rest."""
        self._order = self._put(self._random.permutation(len(self.x)).astype(np.int32))

    def step(self, number: int) -> None:
        assert number == 0, "a call does an epoch"
        self._state, self._loss = self._epoch(self._state, self._data, self._order)

    def wait(self) -> None:
        jax.block_until_ready(self._state)

    def loss(self) -> float:
        return float(self._loss)

    def agree(self, value: int) -> int:
        if self._processes == 1:
            return value
        return int(multihost_utils.broadcast_one_to_all(np.int32(value)))

    def slowest(self, seconds: float) -> float:
        return seconds  # the processes go in step


def join(collectives: str, processes: int) -> None:
    """Makes this process one of several."""
    rank = next(os.environ[name] for name in RANKS if name in os.environ)
    jax.config.update("jax_cpu_collectives_implementation", collectives)
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    jax.distributed.initialize(address, processes, int(rank))


def main() -> None:
    """Does the task."""
    task = given()
    if "--collectives" in sys.argv:
        join(sys.argv[sys.argv.index("--collectives") + 1], task.ranks)
    else:
        jax.config.update("jax_num_cpu_devices", task.threads)
    contestant = JaxParallel(task)
    perform(task, contestant, len(contestant.x))
    if task.ranks > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
