"""How much memory a run will take, on each rank and on each node, before it is taken: see `ranks.memory_plan`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from distbp.data.loading import Choice, choose_loader, held_bytes
from distbp.data.problem import Problem, network_for
from distbp.data.scaling import Scaling
from distbp.data.split import Split, foresee_split, read_ahead_bytes
from distbp.data.survey import Survey
from distbp.engine.choice import choose_engine, make_engine
from distbp.engine.planned_rank import PlannedRank, all_nodes
from distbp.engine.shared_memory import contents_of, step_memory
from distbp.engine.step_memory import can_share
from distbp.engine.work import Work
from distbp.mathematics.arena import CountingArena
from distbp.mathematics.batches import batch_samples, batch_sizes
from distbp.mathematics.grains import default_grain
from distbp.mathematics.network import Network, initialize_bytes
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.memory_plan import DATA, Measured, MemoryPlan, Term, check_countable, largest_moment, terms_of
from distbp.settings.option import AUTO
from distbp.training.checkpoint import write_bytes

SMALLER = "a smaller --hidden"


@dataclass(frozen=True)
class Needs:
    """What the memory of a run follows from; the splits may have been read, or not."""

    choice: Choice
    network: Network
    training: Split
    validation: Split | None
    is_resumed: bool


class MemoryPlanner:
    """Makes plans; to be made before anything large is taken, for it measures what the libraries have."""

    threads = 1  # of this rank; to be set when they are known

    def __init__(self, comm: Communicator) -> None:
        self._comm, self._measured = comm, Measured(comm)

    def foresee(
        self,
        found: Survey,
        network: Network | None,
        memory: float,
    ) -> MemoryPlan:
        """The plan before anything is read but headers: the least that a run needs; `memory`: bytes for data.

        `network`: that of a run that is resumed.  Without it the classes are not known, and count as two.
        """
        comm, config = self._comm, found.config
        training = foresee_split(comm, found.training, memory=memory)
        validation = None
        if found.validation:
            validation = foresee_split(comm, found.validation, memory=memory - held_bytes(training))
        is_resumed = network is not None
        if network is None:
            _, network = agree(comm, lambda: network_for(config, training))
        n = batch_samples(config.batch_size, len(training))
        if config.reproducible and config.grain == AUTO:
            config = replace(config, grain=default_grain(n))
        choice = choose_loader(comm, config, training, n, memory - held_bytes(validation))
        return self.plan(Needs(choice, network, training, validation, is_resumed))

    def plan(self, needs: Needs) -> MemoryPlan:
        """The plan, with all that it depends on known."""
        check_countable(needs.network.parameter_count, SMALLER)
        terms = [*_network_terms(self._comm, needs, self.threads), *_data_terms(self._comm, needs)]
        return self._measured.plan(terms, SMALLER, "distbp train --dry-run")


def _network_terms(comm: Communicator, needs: Needs, threads: int) -> list[Term]:
    """What follows from the network; what is taken for a moment only is the last one."""
    config, network, problem = needs.choice.config, needs.network, _problem(needs)
    work = Work(
        comm,
        config,
        problem,
        needs.training,
        batch_sizes(len(needs.training), needs.choice.n),
        threads=threads,
        is_compiled=choose_engine(comm, config, problem, needs.training).is_compiled,
    )
    contents = contents_of(work)
    is_shared = can_share(comm, contents)
    nodes = all_nodes(comm, comm.node_ranks() if is_shared else [comm.rank])
    planned = PlannedRank(comm.rank, nodes, has_threads=comm.has_threads)
    counted, later = _count(replace(work, comm=planned), needs.validation)
    draws = comm.rank == planned.node_ranks()[0]
    parameters, state = counted.terms["parameters"], counted.terms.get(contents.state, 0)
    moments = {
        "writing a checkpoint": write_bytes(network, has_vectors=state > 0) if comm.rank == 0 else 0,
        **counted.moments,
        "drawing the parameters": initialize_bytes(network) - later if draws and not needs.is_resumed else 0,
        # By layer, and as one vector, of which the allocator may keep one
        "reading the checkpoint": 2 * parameters + state - later if needs.is_resumed else 0,
    }
    return [*terms_of(counted, is_shared=is_shared), largest_moment(moments)]


def _problem(needs: Needs) -> Problem:
    """The problem, but for its scaling, which takes no memory that counts."""
    network, training = needs.network, needs.training
    n = network.sizes
    return Problem(network, Scaling.none(n[1]), Scaling.none(n[network.F]), training.labels)


def _count(work: Work, validation: Split | None) -> tuple[CountingArena, int]:
    """What an engine takes, and validation; how much of it is not written to before the first step."""
    counted = CountingArena()
    work = replace(work, arena=counted)
    memory = step_memory(work)
    at_once = counted.in_all
    engine = make_engine(work, memory=memory)
    if validation:
        engine.evaluation(validation)
        if work.comm.rank == 0:
            counted.of("best parameters").take(work.network.parameter_count, work.config.dtype)
    engine.close()
    return counted, counted.in_all - at_once


def _data_terms(comm: Communicator, needs: Needs) -> list[Term]:
    """What follows from the data."""
    windows = needs.choice.windows_bytes(comm, needs.training)
    terms = [Term("order of the samples", needs.choice.order_bytes)]
    for data, what in ((needs.training, "training"), (needs.validation, "validation")):
        if data is not None:
            terms.append(Term(f"{what} {DATA}", held_bytes(data), shared=not data.why_not_shared))
            windows += 0 if data.in_memory else read_ahead_bytes(data)
    return [*terms, Term(f"read from files: windows of {DATA}", windows)]
