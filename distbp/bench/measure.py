"""What is measured with some ranks of each node at work: the parts of a step, and, beside them, whole steps.

The model is made from the parts alone; the whole steps are what its predictions are held against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distbp.bench.model import Link, Node, Passes, fit_link, samples_of_a_rank
from distbp.bench.overlap import first_part
from distbp.bench.products import LongSum, Products
from distbp.bench.rounds import Rounds, by_clock, by_cores, by_phases
from distbp.bench.workload import Steps, Task
from distbp.engine.traffic import traffic_of
from distbp.mathematics.backprop import piece_samples
from distbp.mathematics.grains import grain_count
from distbp.ranks.background import Background
from distbp.ranks.communicator import Communicator
from distbp.ranks.stop import Pulse

SMALLEST = 8  # bytes
SIZES = (SMALLEST, 4 * 2**10, 64 * 2**10, 2**20, 16 * 2**20)
PASSES = ("data", "forward", "backward")


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
    m: int  # samples of the products
    operations_per_second: float  # of a rank, in matrix products
    bytes_per_second: float  # of a node, through memory
    exchange: dict[int, float]  # bytes -> seconds, over the nodes


def measure(
    workers: Communicator,
    task: Task,
    predicted: Sequence[int],
    seconds: float,
    pulse: Pulse,
    advance: Callable[[], None],
) -> Measured:
    """All ranks of `workers`, as many on each node, measure together; `predicted`: numbers of nodes.

    Raises Stopped, agreed by the workers.
    """
    rounds = Rounds(workers, seconds, pulse, advance)
    measuring = _Measuring(workers, task, rounds)
    try:
        measuring.add_passes([*predicted, measuring.nodes])
        measuring.add_node()
        if measuring.nodes > 1:
            measuring.add_network()
        rounds.run()
        return measuring.result()
    finally:
        measuring.close()


class _Measuring:
    """Adds what is to be measured to `rounds`, and reads the results from there."""

    def __init__(self, workers: Communicator, task: Task, rounds: Rounds) -> None:
        here = workers.node_ranks()
        self._workers, self._task, self._rounds = workers, task, rounds
        self._first, self._ranks = min(here), len(here)
        self.nodes = workers.size // self._ranks
        self._item = np.dtype(task.config.dtype).itemsize
        self._ms: list[int] = []  # samples of a rank for which passes are measured
        self._size = 0  # bytes that a rank exchanges in a step
        self._sizes: list[int] = []  # of messages
        self._wholes: list[tuple[int, int]] = []
        self._steps: list[Steps] = []
        self._background: Background | None = None
        self._traffic = traffic_of(workers, task.config, task.problem.network, self._ranks)

    def close(self) -> None:
        """Ends what works in the background."""
        for steps in self._steps:
            steps.close()
        if self._background:
            self._background.close()

    def add_passes(self, predicted: Sequence[int]) -> None:
        """Data, forward and backward of each rank alone, with the samples that it would have on so many nodes.

        Whole steps are taken, so that the caches hold what they do in a step, and only their passes are counted.
        """
        task, r = self._task, self._ranks
        most = samples_of_a_rank(task.n, task.grain, r)
        self._ms = sorted({*(samples_of_a_rank(task.n, task.grain, N * r) for N in predicted), -(-most // 2)})
        steps = self._make_steps(self._workers.split(self._workers.rank), task, self._ms)
        for m in self._ms:
            self._rounds.add(_passes(m), by_phases(self._workers, steps.phases, _call(steps, m)))

    def add_node(self) -> None:
        """Reduction and update on the ranks of a node, with as few samples as make the same sums; a whole step."""
        workers, task, r = self._workers, self._task, self._ranks
        node = workers if self.nodes == 1 else workers.split(self._first)
        steps = self._make_steps(node, task, [task.n])
        few = r if task.grain is None else grain_count(task.n, task.grain)
        short = self._make_steps(node, replace(task, config=replace(task.config, grain=1)), [few], steps)
        self._rounds.add("reduction and update", by_phases(workers, short.phases, _call(short, few)))
        self._add_whole(1, task.n, steps)
        most, parameters = samples_of_a_rank(task.n, task.grain, r), steps.engine.parameters
        self._products = Products(parameters, task.problem.network, most, task.config.dtype)
        self._long_sum = LongSum(task.config.dtype)
        self._rounds.add("matrix products", by_clock(workers, self._products))
        self._rounds.add("memory", by_clock(workers, self._long_sum))
        self._size = self._traffic.size

    def add_network(self) -> None:
        """The exchange over the nodes, of all ranks at once; whole steps, of a batch of n, and of n for each node.

        A rank is as busy before each exchange as its passes make it: some networks let short bursts pass at a higher
        rate.
        """
        workers, task, nodes = self._workers, self._task, self.nodes
        largest = nodes * task.n
        steps = self._make_steps(workers, task, [task.n, largest])
        self._sizes = [*(size for size in SIZES if size < self._size), self._size]
        numbers = np.zeros(self._size // self._item, task.config.dtype)
        m = samples_of_a_rank(task.n, task.grain, workers.size)
        peers = steps.memory.peers
        if steps.engine.parts > 1:
            self._background = Background(peers)
            peers = self._background.comm

        def pause() -> float:
            return self._rounds.seconds(_passes(m), *PASSES)

        for size in self._sizes:
            send = self._traffic.sender(peers, numbers[: size // self._item])
            self._rounds.add(_exchange(size), by_clock(workers, send, pause))
            if size == self._size and self._background:
                self._rounds.add("cores of the exchange", by_cores(workers, send))
        for n in (task.n, largest):
            self._add_whole(nodes, n, steps)

    def _make_steps(self, comm: Communicator, task: Task, sizes: Sequence[int], other: Steps | None = None) -> Steps:
        """Steps that are closed in the end."""
        self._steps.append(Steps(comm, task, sizes, other))
        return self._steps[-1]

    def _add_whole(self, nodes: int, n: int, steps: Steps) -> None:
        self._wholes.append((nodes, n))
        self._rounds.add(_step(nodes, n), by_clock(self._workers, _call(steps, n)))

    def result(self) -> Measured:
        """After the rounds."""
        seconds, network = self._rounds.seconds, self._task.problem.network
        traffic = self._traffic
        node = Node(
            self._ranks,
            self._task.threads,
            dict(zip(self._ms, self._all_passes(), strict=True)),
            seconds("reduction and update", "reduction"),
            seconds("reduction and update", "update"),
            self._size,
            traffic.messages,
            first_part(network, traffic.top),
            traffic.last,
            traffic.in_parts,
            piece_samples(network, self._task.config.dtype),
        )
        exchange = {size: seconds(_exchange(size)) for size in self._sizes}
        link = None
        if exchange:
            smallest, largest = (exchange[self._sizes[i]] for i in (0, -1))
            busy = min(1.0, seconds("cores of the exchange") / largest) if self._background else 0.0
            messages, in_parts = (node.messages if traffic.in_parts else traffic.allreduces), traffic.in_parts
            link = fit_link(self.nodes, smallest, self._size, largest, messages, in_parts=in_parts, busy=busy)
        return Measured(
            node,
            link,
            [Whole(nodes, n, seconds(_step(nodes, n))) for nodes, n in self._wholes],
            self._products.m,
            self._products.operations / seconds("matrix products"),
            self._ranks * self._long_sum.bytes / seconds("memory"),
            exchange,
        )

    def _all_passes(self) -> list[Passes]:
        """For each m.  Where fewer samples seem to take longer than more, something else did."""
        phases = [[self._rounds.seconds(_passes(m), phase) for m in self._ms] for phase in PASSES]
        return [
            Passes(*one)
            for one in zip(*(np.minimum.accumulate(one[::-1])[::-1].tolist() for one in phases), strict=True)
        ]


def _call(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)


def _passes(m: int) -> str:
    return f"passes over {m} sample{'s' * (m > 1)}"


def _step(nodes: int, n: int) -> str:
    return f"steps of {n} sample{'s' * (n > 1)} on {nodes} node{'s' * (nodes > 1)}"


def _exchange(size: int) -> str:
    return f"exchange of {size} bytes"
