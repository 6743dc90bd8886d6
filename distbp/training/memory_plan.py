"""How much memory a run will take, on each rank and on each node, before it is taken: see `ranks.memory_plan`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from distbp.config import AUTO
from distbp.data.loading import Choice, choose_loader, held_bytes
from distbp.data.problem import network_for
from distbp.data.split import Split, foresee_split, read_ahead_bytes
from distbp.data.survey import Survey
from distbp.engine.batch_gradient import batch_gradient_bytes, has_overlap, sums_of_a_rank
from distbp.engine.evaluate import evaluation_bytes
from distbp.engine.reduction import reduction_bytes
from distbp.engine.step_memory import all_nodes, can_share
from distbp.mathematics.batches import batch_samples, batch_sizes
from distbp.mathematics.grains import default_grain
from distbp.mathematics.network import Network, initialize_bytes, parameter_bytes
from distbp.mathematics.optimizers import Optimizer
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.memory_plan import DATA, Measured, MemoryPlan, Term, largest_moment
from distbp.training.checkpoint import write_bytes


@dataclass(frozen=True)
class Needs:
    """What the memory of a run follows from; the splits may have been read, or not."""

    choice: Choice
    network: Network
    optimizer: Optimizer
    training: Split
    validation: Split | None
    is_resumed: bool


class MemoryPlanner:
    """Makes plans; to be made before anything large is taken, for it measures what the libraries have."""

    def __init__(self, comm: Communicator) -> None:
        self._comm, self._measured = comm, Measured(comm)

    def foresee(
        self,
        found: Survey,
        network: Network | None,
        optimizer: Optimizer,
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
        return self.plan(Needs(choice, network, optimizer, training, validation, is_resumed))

    def plan(self, needs: Needs) -> MemoryPlan:
        """The plan, with all that it depends on known."""
        terms = [*_network_terms(self._comm, needs), *_data_terms(self._comm, needs)]
        return self._measured.plan(terms, "a smaller --hidden", "distbp train --dry-run")


def _network_terms(comm: Communicator, needs: Needs) -> list[Term]:
    """What follows from the network; what is taken for a moment only is the last one."""
    config, network, validation = needs.choice.config, needs.network, needs.validation
    parameters = parameter_bytes(network, config.dtype)
    vectors, sums = (
        len(needs.optimizer.vectors),
        sums_of_a_rank(config, batch_sizes(len(needs.training), needs.choice.n), comm.size),
    )
    state, is_shared = vectors * parameters, can_share(comm, network, config.dtype, vectors, sums)
    gradient = batch_gradient_bytes(config, network, needs.training, needs.choice.n, comm.rank, comm.size)
    trial = gradient.pop("trial")
    nodes = all_nodes(comm, comm.node_ranks() if is_shared else [comm.rank])
    exchanged = 0
    if not config.reproducible:
        exchanged = reduction_bytes(network, config.dtype, config.wire, nodes, overlap=has_overlap(config, comm))
    validating = evaluation_bytes(network, validation, config.dtype) if validation else 0
    written = write_bytes(network, has_vectors=state > 0) if comm.rank == 0 else 0
    kept = parameters if validation and comm.rank == 0 else 0
    # Not there yet when parameters are drawn, or read and copied:
    later = parameters * sums + sum(gradient.values()) + validating + exchanged + kept
    moments = {
        "writing a checkpoint": written,
        "trying out products": trial,
        "drawing the parameters": 0 if needs.is_resumed else initialize_bytes(network) - later - state,
        "reading the checkpoint": parameters + state - later if needs.is_resumed else 0,
    }
    return [
        Term("parameters", parameters, shared=is_shared),
        Term(f"state of {config.optimizer}", state, shared=is_shared),
        Term("best parameters", kept),
        Term("gradient", parameters),
        Term("sums of gradients", (sums - 1) * parameters + gradient["sums"]),
        Term("exchange with other nodes", exchanged),
        Term("activations", gradient["activations"]),
        Term("samples of a batch as they are stored", gradient["feed"]),
        Term("activations of validation", validating),
        largest_moment(moments),
    ]


def _data_terms(comm: Communicator, needs: Needs) -> list[Term]:
    """What follows from the data."""
    windows, order = needs.choice.bytes_of_rank(needs.training.layout, comm.size)
    terms = [Term("order of the samples", order)]
    for data, what in ((needs.training, "training"), (needs.validation, "validation")):
        if data is not None:
            terms.append(Term(f"{what} {DATA}", held_bytes(data), shared=not data.why_not_shared))
            windows += 0 if data.in_memory else read_ahead_bytes(data)
    return [*terms, Term(f"read from files: windows of {DATA}", windows)]
