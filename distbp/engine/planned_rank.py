"""A rank of a run that is only planned: it knows who is where, and has nobody to talk to.

With it and a counting arena an engine can be made to count its memory, also for other ranks and nodes than are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distbp.ranks.communicator import Communicator, NodeArray, OneProcess


class PlannedRank(OneProcess):
    """A rank of so many `nodes`, each of which is the list of its ranks, which share memory."""

    def __init__(self, rank: int, nodes: Sequence[Sequence[int]], *, has_threads: bool = True) -> None:
        self.rank, self.size, self.has_threads = rank, sum(map(len, nodes)), has_threads
        self.nodes = sorted(list(node) for node in nodes)

    def node_ranks(self) -> list[int]:
        return next(node for node in self.nodes if self.rank in node)

    def node_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NodeArray:
        """An array that nobody may look at: a counting arena does not."""
        here = self.node_ranks()
        return NodeArray(np.empty(0, dtype), here.index(self.rank), len(here))

    def of(self, members: list[int]) -> PlannedRank:
        """Some of the ranks, this one included, each on a node of its own."""
        alone = [[i] for i in range(len(members))]
        return PlannedRank(members.index(self.rank), alone, has_threads=self.has_threads)


def all_nodes(comm: Communicator, ranks: list[int]) -> list[list[int]]:
    """The ranks of each node; `ranks`: those that share memory with this one.  All ranks call this."""
    if isinstance(comm, PlannedRank):
        return comm.nodes
    return sorted({others[0]: others for others in comm.allgather(ranks)}.values())


def with_the_same(comm: Communicator, colors: list[int]) -> Communicator:
    """The ranks that have the same color as this one; `colors`: of all ranks.  All ranks call this."""
    own = colors[comm.rank]
    if isinstance(comm, PlannedRank):
        return comm.of([rank for rank, color in enumerate(colors) if color == own])
    return comm.split(own)
