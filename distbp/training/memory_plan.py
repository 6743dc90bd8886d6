"""How much memory a run will take, on each rank and on each node, before it is taken.

The numbers come from functions beside the code that takes the memory; here they are put together.  What lasts is added
up; of what is taken for a moment only (writing a checkpoint, drawing the first weights) the largest counts.  What
Python, MPI and the other libraries have is measured, and an allowance is added for what they will still take: buffers
of BLAS, MPI and HDF5, and small things.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from distbp.config import AUTO, Config
from distbp.data.loading import Choice, choose_loader, held_bytes
from distbp.data.problem import network_for
from distbp.data.split import Split, foresee_split, read_ahead_bytes
from distbp.errors import TooLargeError
from distbp.gradient.batch_gradient import batch_gradient_bytes
from distbp.gradient.evaluate import evaluation_bytes
from distbp.mathematics.batches import batch_samples
from distbp.mathematics.grains import default_grain
from distbp.mathematics.network import Network, initialize_bytes, parameter_bytes
from distbp.mathematics.optimizers import Optimizer
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.node_memory import free_bytes, in_units, taken_bytes
from distbp.training.checkpoint import write_bytes

ALLOWANCE_BYTES = 24 * 2**20  # for what Python and its libraries take later
TIGHT = 0.9  # of what is there
DATA, LIBRARIES = "data", "Python, MPI, libraries"


@dataclass(frozen=True)
class Term:
    """A part of the memory of a rank; `shared`: the ranks of a node have it together."""

    name: str
    bytes: int
    shared: bool = False


@dataclass(frozen=True)
class RankPlan:
    """What one rank needs, where it is, and what is there: `free` on its node, `taken` by its process already."""

    terms: list[Term]
    node: int  # the first rank on it
    host: str
    process: int
    free: int
    taken: int

    @property
    def bytes(self) -> int:
        """Of this rank, with what it shares."""
        return sum(term.bytes for term in self.terms)


@dataclass(frozen=True)
class NodePlan:
    """What the ranks of a node need together, and can have: what is free, and what they have already."""

    ranks: list[int]
    host: str
    needed: int
    free: int
    taken: int

    @property
    def there(self) -> int:
        """Bytes that these ranks can have."""
        return self.free + self.taken


class MemoryPlan:
    """The plans of all ranks, the same on all of them."""

    def __init__(self, ranks: list[RankPlan]) -> None:
        self.ranks = ranks
        self.largest = max(ranks, key=lambda rank: rank.bytes)
        self.nodes = [
            _node(ranks, [i for i, rank in enumerate(ranks) if rank.node == node])
            for node in sorted({rank.node for rank in ranks})
        ]
        self.tightest = max(self.nodes, key=lambda node: node.needed / max(1, node.there))

    def check(self) -> None:
        """Raises TooLargeError, agreed, where a node has less than its ranks need."""
        node = self.tightest
        if node.needed <= node.there:
            return
        terms = sorted(self.largest.terms, key=lambda term: -term.bytes)
        parts = ", ".join(f"{term.name} {in_units(term.bytes)}" for term in terms[:3])
        many = len(node.ranks) > 1
        of_data = sum(term.bytes for term in self.largest.terms if DATA in term.name)
        mend = ["a smaller --hidden"] if of_data < 0.9 * self.largest.bytes else []
        mend += ["fewer ranks on a node"] if many else []
        mend += ["less --memory, so that data stay in their files"] if of_data > 0.1 * self.largest.bytes else []
        refused = TooLargeError(
            f"not enough memory: this run needs {in_units(node.needed)} of memory on {node.host}, for "
            f"{_ranks(node.ranks)}, and {in_units(node.there)} are there; the largest parts"
            f"{' of a rank' if many else ''}: {parts}\n"
            f"choose {', or '.join(mend) or 'a larger node'}; distbp train --dry-run shows all parts"
        )
        refused.agreed = True
        raise refused

    @property
    def warning(self) -> str:
        """Where a node has hardly more than is needed; else ""."""
        node = self.tightest
        if node.needed <= TIGHT * node.there:
            return ""
        return (
            f"warning   memory is tight: about {in_units(node.needed)} of {in_units(node.there)} on {node.host}; "
            "see distbp train --dry-run"
        )

    def lines(self) -> Iterator[str]:
        """A table for people: the rank that needs most, and each node."""
        many = len(self.ranks) > 1
        rank = self.ranks.index(self.largest)
        yield f"memory    of rank {rank}, which needs most" if many else "memory"
        for term in self.largest.terms:
            if term.bytes:
                shared = "  (once for all ranks of a node)" if term.shared and many else ""
                yield f"  {term.name:<36}{in_units(term.bytes):>12}{shared}"
        yield f"  {'in all':<36}{in_units(self.largest.bytes):>12}"
        yield f"  (of {LIBRARIES}, {in_units(ALLOWANCE_BYTES)} are an allowance, the rest is measured)"
        for node in self.nodes:
            yield (
                f"node      {node.host}, {_ranks(node.ranks)}: {in_units(node.needed)} needed, "
                f"{in_units(node.there)} there ({in_units(node.free)} free, {in_units(node.taken)} taken already)"
            )


class MemoryPlanner:
    """Makes plans; to be made before anything large is taken, for it measures what the libraries have."""

    def __init__(self, comm: Communicator) -> None:
        self._comm, self._libraries = comm, taken_bytes()
        self._node, self._host = min(comm.node_ranks()), socket.gethostname()

    def foresee(
        self,
        config: Config,
        files: Sequence[str],
        network: Network | None,
        optimizer: Optimizer,
        memory: float,
    ) -> MemoryPlan:
        """The plan before anything is read but headers: the least that a run needs; `memory`: bytes for data.

        `network`: that of a run that is resumed.  Without it the classes are not known, and count as two.
        """
        comm, names = self._comm, (config.x, config.y)
        training = foresee_split(comm, files, config.split, *names, trust_links=config.trust_links, memory=memory)
        validation = None
        if config.validation_split:
            left = memory - held_bytes(training)
            validation = foresee_split(
                comm, files, config.validation_split, *names, trust_links=config.trust_links, memory=left
            )
        is_resumed = network is not None
        if network is None:
            _, network = agree(comm, lambda: network_for(config, training))
        n = batch_samples(config.batch_size, len(training))
        if config.reproducible and config.grain == AUTO:
            config = replace(config, grain=default_grain(n))
        choice = choose_loader(comm, config, training, n, memory - held_bytes(validation))
        return self.plan(choice, network, optimizer, training, validation, is_resumed=is_resumed)

    def plan(
        self,
        choice: Choice,
        network: Network,
        optimizer: Optimizer,
        training: Split,
        validation: Split | None,
        *,
        is_resumed: bool,
    ) -> MemoryPlan:
        """The plan, with all that it depends on known; the splits may have been read."""
        comm = self._comm
        terms = [
            *_network_terms(comm, choice, network, optimizer, training, validation, is_resumed=is_resumed),
            *_data_terms(comm, choice, training, validation),
            Term(LIBRARIES, self._libraries + ALLOWANCE_BYTES),
        ]
        rank = RankPlan(terms, self._node, self._host, os.getpid(), free_bytes(), taken_bytes())
        return MemoryPlan(comm.allgather(rank))


def _network_terms(
    comm: Communicator,
    choice: Choice,
    network: Network,
    optimizer: Optimizer,
    training: Split,
    validation: Split | None,
    *,
    is_resumed: bool,
) -> list[Term]:
    """What follows from the network; what is taken for a moment only is the last one."""
    config, parameters = choice.config, parameter_bytes(network, choice.config.dtype)
    state = len(optimizer.vectors) * parameters
    gradient = batch_gradient_bytes(config, network, training, choice.n, comm.rank, comm.size)
    trial = gradient.pop("trial")
    validating = evaluation_bytes(network, validation, config.dtype) if validation else 0
    written = write_bytes(network, config.dtype, has_vectors=state > 0) if comm.rank == 0 else 0
    later = sum(gradient.values()) + validating  # not there yet when parameters are drawn, or read and copied
    moments = {
        "writing a checkpoint": written,
        "trying out products": trial,
        "drawing the parameters": 0 if is_resumed else initialize_bytes(network) - later - state,
        "reading the checkpoint": parameters + state - later if is_resumed else 0,
    }
    moment = max(moments, key=lambda name: moments[name])
    return [
        Term("parameters", parameters),
        Term(f"state of {config.optimizer}", state),
        Term("gradient", gradient["gradient"]),
        Term("sums of gradients", gradient["sums"]),
        Term("activations", gradient["activations"]),
        Term("samples of a batch as they are stored", gradient["feed"]),
        Term("activations of validation", validating),
        Term(f"for a moment: {moment}", max(0, moments[moment])),
    ]


def _data_terms(comm: Communicator, choice: Choice, training: Split, validation: Split | None) -> list[Term]:
    """What follows from the data."""
    windows, order = choice.bytes_of_rank(training.layout, comm.size)
    terms = [Term("order of the samples", order)]
    for data, what in ((training, "training"), (validation, "validation")):
        if data is not None:
            terms.append(Term(f"{what} {DATA}", held_bytes(data), shared=not data.why_not_shared))
            if not data.in_memory:
                windows += read_ahead_bytes(data)
    return [*terms, Term("read from files: windows of data", windows)]


def _node(ranks: list[RankPlan], here: list[int]) -> NodePlan:
    first = ranks[here[0]]
    shared = sum(term.bytes for term in first.terms if term.shared)
    needed = shared + sum(term.bytes for i in here for term in ranks[i].terms if not term.shared)
    processes = {ranks[i].process: ranks[i] for i in here}  # ranks may be threads of one process
    again = sum(term.bytes for term in first.terms if term.name == LIBRARIES) * (len(here) - len(processes))
    free, taken = min(ranks[i].free for i in here), sum(rank.taken for rank in processes.values())
    return NodePlan(here, first.host, needed - again, free, taken)


def _ranks(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    is_run = ranks == list(range(ranks[0], ranks[-1] + 1))
    return f"ranks {ranks[0]} to {ranks[-1]}" if is_run else "ranks " + ", ".join(map(str, ranks))
