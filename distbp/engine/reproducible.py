"""∂L_T/∂w with the same bits on any number of ranks (`--reproducible`).

A step, for a batch of n samples in grains of G (see `distbp.mathematics.grains`):

1. Each rank: z, a, d and the gradient of its grains, as in the text; their bits do not depend on who works on them.
2. Each rank adds them up along a tree that belongs to the batch (see `distbp.mathematics.grain_tree`), as far as it
   has the grains.
3. Each rank is sent the sums of all ranks for its slice of w, adds them up to the root of the tree, and divides by n:
   ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w.  Then the slices are sent to all.

What is computed of a grain follows from the network, n and G: no bit depends on which rank does what.  MPI's own
Allreduce adds in an order that depends on the ranks, the size of the message and the library.

(3) moves what an Allreduce moves where the grains of each rank make one node of the tree, as those of 2^k grains on 2^j
ranks do.  A rank with several nodes keeps and sends a vector of the size of w for each: up to 2 log₂ of its grains.

The sums of the grains (see `distbp.engine.sums`) and the requests travel in one small Allreduce(MAX), each in a place
of its own.

Everything after this is element by element on numbers that all ranks share (momentum, Adam, weight decay), with
+ - × ÷ √ only, which IEEE 754 rounds in one way on every CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.engine.grain_sums import GrainSums
from distbp.engine.laps import Lap
from distbp.engine.step_memory import StepMemory
from distbp.engine.sums import Requests, Stepped, Sums
from distbp.engine.work import Work
from distbp.mathematics.activations import Array
from distbp.mathematics.batches import shard
from distbp.mathematics.exact_sum import total
from distbp.mathematics.grain_tree import Node, add_up, largest_nodes, merged, root, shares
from distbp.mathematics.grains import grain_count
from distbp.mathematics.network import Parameters
from distbp.ranks.communicator import Communicator

CHUNK = 2**19  # numbers of the gradient that are exchanged at a time, which is faster than all at once


class NodeSums(Protocol):
    """Works on the grains of a rank, of which each node of the tree has some."""

    def __call__(self, i: int, node: Node, count: int, batch: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        """Leaves S(node) in the i-th vector that this rank has in the step's memory.

        `count`: of the grains of the batch; in `sums`, shape (count, number of sums), it leaves what its grains sum up.
        """

    def close(self) -> None:
        """Ends what works in the background."""


class ReproducibleGradient:
    """∂L_B/∂w over the whole batch; in `g`, this rank's slice of it, all in one bucket."""

    def __init__(
        self,
        work: Work,
        memory: StepMemory,
        parameters: Parameters,
        lap: Lap,
        make: Callable[[Work, StepMemory, Parameters, Lap], NodeSums] = GrainSums,
    ) -> None:
        """`make` makes what works on the grains of a rank."""
        self._comm, self._lap, self._grain = work.comm, lap, work.grain
        self._kinds = len(work.problem.sums)
        self._node_sums = make(work, memory, parameters, lap)
        self._exchange = _Exchange(memory)
        self.g = [self._exchange.g]

    def __call__(self, batch: NDArray[np.int64], requests: Requests) -> Stepped:
        """Leaves ∂L_B/∂w in `g`."""
        n, comm = len(batch), self._comm
        count = grain_count(n, self._grain)
        owned = [largest_nodes(*share, count) for share in shares(count, comm.size)]
        message = _Message(count, self._kinds, requests)
        for i, node in enumerate(owned[comm.rank]):
            self._node_sums(i, node, count, batch, message.sums)
        self._exchange.mean(owned, count, n)
        total = message.agree(comm, n)
        self._lap("reduction")
        return total

    def close(self) -> None:
        """Ends what works in the background."""
        self._node_sums.close()


def most_sums(sizes: Sequence[int], grain: int, ranks: int) -> int:
    """The nodes of the rank that has most, of batches of these sizes."""
    counts = {grain_count(n, min(grain, max(sizes))) for n in sizes}
    return max(len(largest_nodes(*share, count)) for count in counts for share in shares(count, ranks))


class _Exchange:
    """Sums of grains on their way to ∂L_B/∂w: each rank of a node adds up its slice of w from the sums of all."""

    def __init__(self, memory: StepMemory) -> None:
        self._memory = memory
        (self._bucket,) = memory.buckets
        self.g = memory.sums[memory.part][0][self._bucket.mine]
        self._nodes = memory.nodes_of_peers

    def mean(self, owned: list[list[Node]], count: int, n: int) -> None:
        """1/n of the sum of all grains, in `g`.  `owned`: the nodes of each rank, whose sums are in the memory."""
        memory, peers, first = self._memory, self._memory.peers, self._bucket.mine.start
        memory.fence()
        for start in range(0, len(self.g), CHUNK):
            g = self.g[start : start + CHUNK]
            part = slice(first + start, first + start + len(g))
            known = {
                node: sums[i][part]
                for rank, sums in zip(memory.ranks, memory.sums, strict=True)
                for i, node in enumerate(owned[rank])
            }
            if peers.size > 1:
                self._mean_of_peers(owned, known, count, n, g)
            else:
                np.divide(add_up(root(count), count, known.get), n, out=g)  # ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w
        if len(self.g):
            memory.measure(self.g, first)
        memory.fence()

    def _mean_of_peers(self, owned: list[list[Node]], known: dict[Node, Array], count: int, n: int, g: Array) -> None:
        """Each of the peers adds up a slice of this slice, for all of them."""
        peers = self._memory.peers
        of_peers = [merged({node for rank in ranks for node in owned[rank]}, count) for ranks in self._nodes]
        sums = [add_up(node, count, known.get) for node in of_peers[peers.rank]]
        slices = [slice(*shard(len(g), rank, peers.size)) for rank in range(peers.size)]
        lengths = [one.stop - one.start for one in slices]
        mine = slices[peers.rank]
        here = self._distribute(of_peers, sums, lengths)
        np.divide(add_up(root(count), count, here.get), n, out=g[mine])
        peers.allgather_parts(g, lengths)

    def _distribute(self, owned: list[list[Node]], sums: list[Array], lengths: list[int]) -> dict[Node, Array]:
        """This rank's slice of S(node), for all nodes of all peers."""
        known: dict[Node, Array] = {}
        peers = self._memory.peers
        own = lengths[peers.rank]
        for i in range(max(map(len, owned))):
            senders = [nodes[i : i + 1] for nodes in owned]
            nodes = [node for nodes in senders for node in nodes]
            received = np.empty(own * len(nodes), self.g.dtype)
            peers.alltoall(
                sums[i] if i < len(sums) else self.g[:0],
                [length * (i < len(sums)) for length in lengths],
                received,
                [own * len(nodes) for nodes in senders],
            )
            known.update(zip(nodes, received.reshape(len(nodes), own), strict=True))
        return known


class _Message:
    """What the ranks tell each other: one Allreduce(MAX), -inf where a rank has nothing to say.

    `sums`: those of the grains, each in its place.
    """

    def __init__(self, grains: int, sums: int, requests: Requests) -> None:
        self._values = np.full(len(requests) + sums * grains, -inf)
        self._requests = self._values[: len(requests)]
        self._requests[:] = requests
        self.sums = self._values[len(requests) :].reshape(grains, sums)

    def agree(self, comm: Communicator, n: int) -> Stepped:
        """The sums of a batch of n samples, with what all ranks have told."""
        self._values[np.isnan(self._values)] = inf  # MAX and NaN do not go together
        comm.allreduce(self._values, "max")
        of_grains = self.sums.T.tolist()
        assert -inf not in of_grains[0], "samples were lost"
        whole = Sums([total(values) for values in of_grains], n)
        # All ranks know the sums of all: they are the part of the first.
        part = whole if comm.rank == 0 else Sums([0.0] * len(of_grains))
        return Stepped(part, n, whole.flaw, Requests(*map(int, self._requests.tolist())))
