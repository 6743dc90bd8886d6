"""What is measured with some ranks of each node at work: the parts of a step, and, beside them, whole steps.

The model is made from the parts alone; the whole steps are what its predictions are held against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from distbp.bench.model import Link, Node, Passes, fit_link, samples_of_a_rank
from distbp.bench.products import LongSum, Products
from distbp.bench.rounds import Rounds, by_clock, by_phases
from distbp.bench.workload import Steps, Task, make_run
from distbp.gradient.batch_gradient import sums_of_a_rank
from distbp.gradient.reproducible import CHUNK
from distbp.gradient.step_memory import TAIL
from distbp.mathematics.activations import Array
from distbp.mathematics.grains import grain_count
from distbp.ranks.communicator import Communicator
from distbp.ranks.mpi import ALLREDUCE_BYTES
from distbp.ranks.stop import Pulse
from distbp.training.phases import Phases
from distbp.training.run import Run

SMALLEST = 8  # bytes
SIZES = (SMALLEST, 4 * 2**10, 64 * 2**10, 2**20, 16 * 2**20)


@dataclass(frozen=True)
class Whole:
    """Seconds of a whole step of n samples on so many nodes, as measured."""

    nodes: int
    n: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What some ranks of each node have found."""

    node: Node
    link: Link | None
    wholes: list[Whole]
    m: int  # of the products
    operations_per_second: float  # of a rank, in matrix products
    bytes_per_second: float  # of a node, through memory
    allreduce: dict[int, float]  # bytes -> seconds, over the nodes


def measure(
    workers: Communicator,
    task: Task,
    threads: int,
    predicted: list[int],
    seconds: float,
    pulse: Pulse,
    advance: Callable[[], None],
) -> Measured:
    """All ranks of `workers`, as many on each node, measure together; `predicted`: numbers of nodes.

    Raises Stopped, agreed by the workers.
    """
    here = workers.node_ranks()
    r, nodes, n, grain = len(here), workers.size // len(here), task.n, task.grain
    config = task.config
    rounds = Rounds(workers, seconds, pulse, advance)

    # Passes: each rank alone with the samples that it would have.
    m_of = {N: samples_of_a_rank(n, grain, N * r) for N in predicted}
    ms = sorted({*m_of.values(), samples_of_a_rank(n, grain, nodes * r), -(-m_of[1] // 2)})
    alone = workers.split(workers.rank)
    run = make_run(alone, task, ms[-1], max(sums_of_a_rank(config, m, m, 1) for m in ms), updates=False)
    passes = Steps(run)
    for m in ms:
        rounds.add(_passes(m), by_phases(workers, run, lambda m=m: passes.gradient(m)))  # type: ignore[misc]

    # Reduction and update: the ranks of a node, with as few samples as make the same sums.
    node = workers if nodes == 1 else workers.split(min(here))
    run = make_run(node, task, n, sums_of_a_rank(config, n, n, r))
    few = r if grain is None else grain_count(n, grain)
    short = replace(run, config=replace(config, grain=1), batch_size=few, phases=Phases())
    short_steps, steps = Steps(short), Steps(run)
    rounds.add("reduction and update", by_phases(workers, short, lambda: short_steps(few)))

    products, long_sum = Products(run.state.parameters, task.problem.network, m_of[1], config.dtype), LongSum(config.dtype)
    rounds.add("matrix products", by_clock(workers, products))
    rounds.add("memory", by_clock(workers, long_sum))
    rounds.add(_step(1, n), by_clock(workers, lambda: steps(n)))
    wholes, item = [(1, n)], np.dtype(config.dtype).itemsize
    size, sizes = max(mine.stop - mine.start for mine in run.memory.slices) * item, []
    if nodes > 1:
        all_sums = max(sums_of_a_rank(config, one, one, workers.size) for one in (n, nodes * n))
        everywhere = make_run(workers, task, nodes * n, all_sums)
        all_steps, sizes = Steps(everywhere), [*(one for one in SIZES if one < size), size + TAIL * item]
        peers, zeros = everywhere.memory.peers, np.zeros(sizes[-1] // item, config.dtype)
        m = samples_of_a_rank(n, grain, workers.size)
        for one in sizes:  # at the pace of steps: some networks let short bursts pass at a higher rate
            part = zeros[: one // item]
            rounds.add(_allreduce(one), by_clock(workers, _allreduce_of(peers, part), lambda: rounds.seconds(_passes(m), "data", "forward", "backward")))
        for samples in (n, nodes * n):
            rounds.add(_step(nodes, samples), by_clock(workers, lambda n=samples: all_steps(n)))  # type: ignore[misc]
            wholes.append((nodes, samples))
    rounds.run()

    messages = -(-size // ALLREDUCE_BYTES) if grain is None else -(-size // (CHUNK * item)) + 1
    allreduce = {one: rounds.seconds(_allreduce(one)) for one in sizes}
    link = fit_link(nodes, allreduce[SMALLEST], size, allreduce[sizes[-1]], -(-size // ALLREDUCE_BYTES)) if sizes else None
    return Measured(
        Node(
            r,
            threads,
            {m: Passes(*(rounds.seconds(_passes(m), phase) for phase in ("data", "forward", "backward"))) for m in ms},
            rounds.seconds("reduction and update", "reduction"),
            rounds.seconds("reduction and update", "update"),
            size,
            messages,
        ),
        link,
        [Whole(*one, rounds.seconds(_step(*one))) for one in wholes],
        min(m_of[1], products.m),
        products.operations / rounds.seconds("matrix products"),
        r * long_sum.bytes / rounds.seconds("memory"),
        allreduce,
    )


def _passes(m: int) -> str:
    return f"passes over {m} samples"


def _step(nodes: int, n: int) -> str:
    return f"steps of {n} samples on {nodes} node{'s' * (nodes > 1)}"


def _allreduce(size: int) -> str:
    return f"Allreduce of {size} bytes"


def _allreduce_of(peers: Communicator, part: Array) -> Callable[[], None]:
    return lambda: peers.allreduce(part)
