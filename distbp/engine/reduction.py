"""The reduction: from every rank's Σ_i ∂L_i/∂w to ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w.

Within a node each rank adds up its slice of all gradients, from the memory that they share (`StepMemory`); across nodes
the ranks with the same slice add it up, while backpropagation goes on with the layers below.  Behind the gradient, with
layer F, travel what is not finite of the loss, the number of samples, and two requests, so that all ranks know them at
the same step and act alike.

They are numbers of the gradient's type.  The sums of the loss and of the metric are not among them: float32 has neither
the digits nor the range of squared errors in the units of the targets.  Each rank keeps its own in float64, and they
are added up where they are asked for, once an epoch (`distbp.engine.epoch_sums`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from distbp.engine.exchange import exchange_of
from distbp.engine.laps import Lap, no_lap
from distbp.engine.step_memory import TAIL, Bucket, StepMemory
from distbp.engine.sums import Requests, Stepped, Sums
from distbp.mathematics.activations import Array
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.batches import pieces
from distbp.mathematics.network import Network, Parameters
from distbp.ranks.background import Background
from distbp.ranks.communicator import Communicator

DIGIT = 4096
EXCHANGE = "exchange with other nodes"  # in a memory plan
CACHED = 2**15  # numbers that are added up at a time, while they are in the cache


class Reduction:
    """Sums what all ranks leave in their `gradient`; `g` has then, of each bucket, this rank's slice of ∂L_T/∂w.

    A step is begun with the sums of this rank and its requests; then all layers are `ready`, from F down; then it is
    finished.  All ranks do so together.  `wire`: "full", or the name of a rounding, for what nodes send each other;
    `lap` is told what the time since the last lap was spent on.
    """

    def __init__(
        self,
        memory: StepMemory,
        network: Network,
        wire: str = "full",
        lap: Lap = no_lap,
        arena: Arena = ALIGNED,
    ) -> None:
        self._memory, self._lap, self._layers = memory, lap, range(network.F, 1, -1)
        count, own = network.parameter_count, memory.sums[memory.part][0]
        self.gradient = Parameters(network, own[:count])
        self._tail, self._n, self._part = own[count:], 1, Sums([0.0])
        self._agreed = memory.sums[memory.owners - 1][0][count:]  # the tails of all ranks
        self._background = Background(memory.peers) if len(memory.buckets) > 1 else None
        peers = self._background.comm if self._background else memory.peers
        room = arena.of(EXCHANGE)
        self._parts = {bucket.l: _Part(memory, bucket, peers, wire, room) for bucket in memory.buckets}
        self.g: list[Array] = [part.g for part in self._parts.values()]

    def reduce(self, part: Sums, requests: Requests, n: int) -> Stepped:
        """A whole step, for a gradient that is there."""
        self.begin(part, requests, n)
        self.all_ready()
        return self.finish()

    def begin(self, part: Sums, requests: Requests, n: int) -> None:
        """The sums over the samples of this rank, its requests, and the number of samples of all ranks."""
        # TAIL numbers; two of them hold the number of samples exactly in float32, up to 2^36
        self._tail[:] = (part.flaw, *divmod(part.samples, DIGIT), *requests)
        self._part, self._n = part, n

    def ready(self, l: int) -> None:
        """This rank's gradient of layer l is whole; a bucket that is whole now is added up over all ranks."""
        part = self._parts.get(l)
        if part is None:
            return
        self._lap("backward")
        self._memory.fence()
        part.add_up(self._n)
        if self._background:
            self._background.start(part.exchange)
        else:
            part.exchange()
        if l > 2:  # backpropagation goes on
            self._lap("reduction")

    def all_ready(self) -> None:
        """This rank's gradient of all layers is whole."""
        for l in self._layers:
            self.ready(l)

    def finish(self) -> Stepped:
        """Leaves ∂L_T/∂w in `g`; returns the sums of this rank, with what all ranks have told."""
        if self._background:
            self._background.wait()
        for part in self._parts.values() if self._memory.peers.size > 1 else ():
            part.measure()
        self._memory.fence()
        flaw, high, low, *requests = self._agreed.tolist()
        self._lap("reduction")
        samples = int(high) * DIGIT + int(low)
        return Stepped(self._part, samples, flaw, Requests(*map(int, requests)))

    def close(self) -> None:
        """Ends what works in the background."""
        if self._background:
            self._background.close()


class _Part:
    """This rank's slice of a bucket, in its own gradient and in those of the other ranks of the node."""

    def __init__(self, memory: StepMemory, bucket: Bucket, peers: Communicator, wire: str, arena: Arena) -> None:
        self._memory, own, mine = memory, memory.sums[memory.part][0], bucket.mine
        self._own, self._mine = own, mine
        has_tail = bucket is memory.buckets[0] and memory.part == memory.owners - 1
        tail = slice(mine.stop, mine.stop + TAIL * has_tail)
        self.g, self._tail = own[mine], own[tail]
        self._others = [sums[0] for of, sums in enumerate(memory.sums) if of != memory.part]
        self._other_tails = [other[tail] for other in self._others]
        self._peers, self._sent = peers, own[mine.start : tail.stop]
        self._exchange: Callable[[], None] | None = None
        if peers.size > 1 and (wire != "full" or len(memory.buckets) > 1):
            self._exchange = exchange_of(peers, self.g, wire, in_parts=True, arena=arena)

    @cached_property
    def _blocks(self) -> list[tuple[Array, list[Array], int]]:
        """Parts of this rank's slice, of the same in the other gradients, and where in w they start."""
        return [
            (self._own[start:stop], [other[start:stop] for other in self._others], start)
            for start, stop in pieces(self._mine.start, self._mine.stop, CACHED)
        ]

    def add_up(self, n: int) -> None:
        """1/n of the gradients of all ranks of the node, in `g`, measured where that is all; and what they tell."""
        is_alone = self._peers.size == 1
        for total, others, start in self._blocks:
            for other in others:
                total += other
            divide(total, n)  # ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w
            if is_alone:
                self._memory.measure(total, start)
        for tail in self._other_tails:
            self._tail += tail

    def measure(self) -> None:
        """The squares of `g`, when it is whole."""
        for total, _, start in self._blocks:
            self._memory.measure(total, start)

    def exchange(self) -> None:
        """The same over all nodes."""
        if self._exchange:
            self._exchange()
            self._peers.allreduce(self._tail)
        elif self._peers.size > 1:
            self._peers.allreduce(self._sent)


def divide(array: Array, n: int) -> None:
    """array /= n; a power of 2 needs no division for the same bits."""
    if n & (n - 1) == 0:
        array *= 1.0 / n
    else:
        array /= n
