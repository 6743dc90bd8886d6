"""How much memory a bench will take, before it is taken: see `ranks.memory_plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distbp.bench.model import samples_of_a_rank
from distbp.bench.products import SUM_BYTES, Products
from distbp.bench.workload import Task
from distbp.engine.choice import make_engine
from distbp.engine.planned_rank import PlannedRank
from distbp.engine.reduction import EXCHANGE
from distbp.engine.shared_memory import contents_of, step_memory
from distbp.engine.work import Work
from distbp.mathematics.arena import CountingArena
from distbp.mathematics.grains import grain_count
from distbp.mathematics.network import Parameters, initialize_bytes
from distbp.ranks.communicator import Communicator
from distbp.ranks.memory_plan import DATA, Measured, MemoryPlan, Term, check_countable, largest_moment
from distbp.settings.config import Config

SMALLER = "a smaller --hidden"


def bench_plan(
    measured: Measured, comm: Communicator, task: Task, rows: int, used: list[int], nodes: int
) -> MemoryPlan:
    """The plan of a task that has no data yet; `rows`: random samples that it will have.

    `used`: how many ranks of a node are at work, one number after another.

    What ranks share lasts to the end, as MPI's windows do; the rest is that of all ranks at work, for fewer of them
    take as much together.
    """
    config, problem, shape, n, r = task.config, task.problem, task.data, task.n, max(used)
    network = problem.network
    check_countable(network.parameter_count, SMALLER)

    def work(ranks: int, on_nodes: int, sizes: Sequence[int], config: Config = config) -> Work:
        here = [range(first, first + ranks) for first in range(0, on_nodes * ranks, ranks)]
        planned = PlannedRank(0, here, has_threads=comm.has_threads)
        return Work(planned, config, problem, shape, tuple(sizes), threads=task.threads, is_compiled=task.is_compiled)

    def steps(ranks: int) -> list[Work]:
        return [work(ranks, 1, [n]), *([work(ranks, nodes, [n, nodes * n])] if nodes > 1 else [])]

    most, few = samples_of_a_rank(n, task.grain, r), r if task.grain is None else grain_count(n, task.grain)
    alone, short = work(1, 1, [most]), work(r, 1, [few], replace(config, grain=1))
    rooms = [_room(one) for one in (alone, short, *steps(r))]
    exchanged = sum(room.terms.get(EXCHANGE, 0) for room in rooms)
    products = CountingArena()
    w = Parameters.zeros(network, config.dtype, CountingArena())
    Products(w, network, most, config.dtype, products)
    shared = sum(contents_of(one).bytes(ranks) for ranks in used for one in steps(ranks))
    moments = {"drawing the parameters": initialize_bytes(network)}
    for room in rooms:
        moments |= {name: max(size, moments.get(name, 0)) for name, size in room.moments.items()}
    terms = [
        Term("parameters, gradients, optimizer", shared, shared=comm.node_copies(shared) == 1),
        Term("the same, of passes alone", contents_of(alone).bytes(1) + products.terms["gradient"]),
        Term("activations", sum(room.in_all for room in rooms) - exchanged + products.terms["activations"]),
        Term(f"random {DATA}", rows * shape.layout.row_bytes(), shared=True),
        Term("order of the samples", 8 * (2 * rows + n * nodes)),
        Term(EXCHANGE, 2 * exchanged),
        Term("vectors that are added up", 2 * SUM_BYTES),
        largest_moment(moments),
    ]
    return measured.plan(terms, SMALLER)


def _room(work: Work) -> CountingArena:
    """What an engine takes besides the memory that the ranks of a node share."""
    counted = CountingArena()
    memory = step_memory(replace(work, arena=CountingArena()))
    make_engine(replace(work, arena=counted), memory=memory).close()
    return counted
