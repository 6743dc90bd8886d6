"""How much memory the ranks of a command will take together, beside what their nodes have.

The parts are what the constructors of the large arrays take from a counting arena (`distbp.mathematics.arena`); who
knows the command puts them together: `distbp.training.memory_plan`, `distbp.prediction.memory_plan`.  What lasts is
added up; of what is taken for a moment only, the largest counts.  What Python, MPI and the other libraries have is
measured, and an allowance is added for what they will still take: buffers of BLAS, MPI and HDF5, and small things.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from distbp.errors import TooLargeError
from distbp.mathematics.arena import COUNTABLE, CountingArena
from distbp.ranks.communicator import Communicator
from distbp.ranks.node_memory import free_bytes, in_units, taken_bytes

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
    """The plans of all ranks, the same on all of them.

    `smaller`: what makes the rest smaller than the data, if anything does; `table`: what shows all parts, likewise.
    """

    def __init__(self, ranks: list[RankPlan], smaller: str = "", table: str = "") -> None:
        self.ranks, self._smaller, self._table = ranks, smaller, table
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
        mend = [self._smaller] if self._smaller and of_data < 0.9 * self.largest.bytes else []
        mend += ["fewer ranks on a node"] if many else []
        mend += ["less --memory, so that data stay in their files"] if of_data > 0.1 * self.largest.bytes else []
        refused = TooLargeError(
            f"not enough memory: this run needs {in_units(node.needed)} of memory on {node.host}, for "
            f"{_ranks(node.ranks)}, and {in_units(node.there)} are there; the largest parts"
            f"{' of a rank' if many else ''}: {parts}\n"
            f"choose {', or '.join(mend) or 'a larger node'}"
            + (f"; {self._table} shows all parts" if self._table else "")
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
            f"warning   memory is tight: about {in_units(node.needed)} of {in_units(node.there)} on {node.host}"
            f"{f'; see {self._table}' if self._table else ''}"
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


class Measured:
    """What this rank has before anything large is taken, and where it is; makes the plan of all ranks."""

    def __init__(self, comm: Communicator) -> None:
        self._comm, self._libraries = comm, taken_bytes()
        self._node, self._host = min(comm.node_ranks()), socket.gethostname()

    def plan(self, terms: list[Term], smaller: str = "", table: str = "") -> MemoryPlan:
        """The plan of all ranks, of which this one needs these."""
        terms = [*terms, Term(LIBRARIES, self._libraries + ALLOWANCE_BYTES)]
        rank = RankPlan(terms, self._node, self._host, os.getpid(), free_bytes(), taken_bytes())
        return MemoryPlan(self._comm.allgather(rank), smaller, table)


def check_countable(parameters: int, smaller: str) -> None:
    """Raises TooLargeError, agreed, for so many parameters that their memory cannot even be counted."""
    if parameters > COUNTABLE:
        refused = TooLargeError(f"not enough memory: the network has {parameters:.3g} parameters\nchoose {smaller}")
        refused.agreed = True
        raise refused


def terms_of(counted: CountingArena, *, is_shared: bool = True) -> list[Term]:
    """What constructors have taken; `is_shared`: the ranks of a node can have together what they are meant to."""
    return [Term(name, size, shared=is_shared and name in counted.shared) for name, size in counted.terms.items()]


def largest_moment(moments: Mapping[str, int]) -> Term:
    """Of what is taken for a moment only, that which is most."""
    moment = max(moments, key=lambda name: moments[name])
    return Term(f"for a moment: {moment}", max(0, moments[moment]))


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
