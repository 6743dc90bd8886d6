"""How much memory a bench will take, before it is taken: see `ranks.memory_plan`."""

from __future__ import annotations

from distbp.bench.products import SUM_BYTES
from distbp.config import Config
from distbp.data.split import Split
from distbp.engine.batch_gradient import batch_gradient_bytes, has_overlap, sums_of_a_rank
from distbp.engine.reduction import reduction_bytes
from distbp.engine.step_memory import can_share, step_memory_bytes
from distbp.engine.work import optimizer_of
from distbp.mathematics.network import Network, initialize_bytes, parameter_bytes
from distbp.ranks.communicator import Communicator
from distbp.ranks.memory_plan import DATA, Measured, MemoryPlan, Term


def bench_plan(
    measured: Measured,
    comm: Communicator,
    config: Config,
    network: Network,
    shape: Split,
    n: int,
    rows: int,
    used: list[int],
    nodes: int,
) -> MemoryPlan:
    """The plan; `rows`: random samples; `used`: how many ranks of a node are at work, one number after another.

    What ranks share lasts to the end, as MPI's windows do; the rest is that of all ranks at work, for fewer of them
    take as much together.
    """
    dtype, vectors = config.dtype, len(optimizer_of(config).vectors)
    runs, ranks = 1 + (nodes > 1), max(used)
    sums = [sums_of_a_rank(config, [n], r) for r in used]
    shared = sum(runs * step_memory_bytes(network, dtype, vectors, r * one) for r, one in zip(used, sums, strict=True))
    parameters = parameter_bytes(network, dtype)
    exchanged = 0
    if not config.reproducible:
        of_nodes = [range(ranks)] * nodes
        exchanged = reduction_bytes(network, dtype, config.wire, of_nodes, overlap=has_overlap(config, comm))
    gradient = batch_gradient_bytes(config, network, shape, n, 0, ranks)
    terms = [
        Term("parameters, gradients, optimizer", shared, shared=can_share(comm, network, dtype, vectors, sum(sums))),
        Term("the same, of passes alone", (2 + vectors + sums[0]) * parameters),
        Term("activations", (2 + runs) * sum(gradient.values())),
        Term(f"random {DATA}", rows * shape.layout.row_bytes(), shared=True),
        Term("order of the samples", 8 * (2 * rows + n * nodes)),
        Term("exchange with other nodes", 2 * exchanged),
        Term("vectors that are added up", 2 * SUM_BYTES),
        Term("for a moment: drawing the parameters", initialize_bytes(network)),
    ]
    return measured.plan(terms, "a smaller --hidden")
