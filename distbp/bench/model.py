"""The model: seconds of a step on N nodes, each with r ranks of t threads, from what was measured on a few.

    T(N) = data(m) + γ(m) + reduction + exchange(N) - hidden (1 - busy) + update            seconds
    exchange(N) = rounds · k α  +  2 (N-1)/N · B β                                         0 on one node
    hidden = min((1 - last) exchange(N), (1 - first) backward(m) / pieces)                 0 without overlap

- m: samples of the rank that has most, of a batch of n on N·r ranks.
- data(m): gathering and scaling m samples; γ(m): forward and backward pass over m samples.  Measured at several m, with
  all ranks of a node at work, for they share its memory and its clock; in between, straight lines.
- reduction: within a node.  Its fences, and the sum of a slice of w over its ranks.  It does not depend on m or N.
- update: the optimizer on a slice of w, and a fence.  Likewise.
- B: bytes that a rank exchanges in a step, its slice of the gradient, 1/r of w.  They go in k messages.
- α: seconds (latency) of a message; β: seconds for a byte, while all r ranks of a node share its link.
- hidden: seconds of the exchange that pass under the backward pass of the last piece of the samples.  first: the part
  of that pass, by its products, that comes before the first bucket is there; last: the part of the bytes that belong to
  the last one; busy: the part of the time of the exchange in which it keeps a core from computing.

Rounds: 2 where each peer adds up a part and sends it to all at once (`distbp.engine.exchange`, with overlap or 16
bits).  Else it is an Allreduce of Rabenseifner's, as MPI libraries have it for long messages: a reduce-scatter and an
allgather, each of log₂ N rounds.  Where N is no power of two, the nodes beyond one send all they have to another first,
and get the result at the end: 2 rounds and 2 B β more than on the next lower power of two; libraries that take a ring
instead are faster there.  (R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations
in MPICH", 2005, section 4.5.)

Not in the model: ranks that wait for one that is disturbed, links that are slower the farther nodes are apart, and
other jobs on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from distbp.mathematics.grains import sample_shares


@dataclass(frozen=True)
class Link:
    """α, seconds for a message, and β, seconds for a byte, of all ranks of a node that use its link at once.

    `in_parts`: by `distbp.engine.exchange`, not by an Allreduce; `busy`: see above.
    """

    alpha: float
    beta: float
    in_parts: bool = False
    busy: float = 0.0

    def seconds(self, nodes: int, size: float, messages: int) -> float:
        """An exchange of so many bytes of each rank, in so many messages."""
        rounds, times = _rounds(nodes, in_parts=self.in_parts)
        return rounds * messages * self.alpha + times * size * self.beta


def _rounds(nodes: int, *, in_parts: bool) -> tuple[int, float]:
    """Rounds, and how many times its bytes a node sends."""
    if in_parts:
        return 2, 2 * (nodes - 1) / nodes
    power = 2 ** (nodes.bit_length() - 1)
    beyond = 2 * (nodes > power)
    return 2 * (nodes.bit_length() - 1) + beyond, 2 * (power - 1) / power + beyond


def fit_link(
    nodes: int,
    smallest: float,
    size: int,
    seconds: float,
    messages: int,
    *,
    in_parts: bool = False,
    busy: float = 0.0,
) -> Link:
    """From exchanges over so many nodes (two or more): seconds of the smallest one, and of one of `size` bytes.

    The smallest Allreduce is a single exchange in each of log₂ N rounds, and not two.  At `size` the link has the
    seconds that were measured.
    """
    rounds, times = _rounds(nodes, in_parts=in_parts)
    alpha = min(smallest / (rounds if in_parts else rounds - nodes.bit_length() + 1), seconds / (rounds * messages))
    return Link(alpha, (seconds - rounds * messages * alpha) / (times * size), in_parts, busy)


def given_link(latency_microseconds: float, gigabits: float, ranks: int, *, in_parts: bool = False) -> Link:
    """From what is said of a network: its latency, and its bandwidth, which the ranks of a node share."""
    return Link(latency_microseconds * 1e-6, 8.0 / (gigabits * 1e9) * ranks, in_parts)


@dataclass(frozen=True)
class Passes:
    """Seconds of a rank for m samples."""

    data: float
    forward: float
    backward: float

    @property
    def gamma(self) -> float:
        """Both passes."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Node:
    """What was measured on a node with so many ranks, each of so many threads.

    `passes`: by m, two or more; `size`, `messages`: what each rank exchanges in a step; `first`, `last`: see above;
    `piece`: samples that are worked on at once, at most.
    """

    ranks: int
    threads: int
    passes: Mapping[int, Passes]
    reduction: float
    update: float
    size: int
    messages: int
    first: float = 1.0
    last: float = 1.0
    in_parts: bool = False
    piece: int = 2**62

    @property
    def words(self) -> str:
        return f"{self.ranks} x {self.threads}"

    def passes_at(self, m: int) -> Passes:
        """Of m samples: on straight lines between what was measured, and beyond it."""
        known = sorted(self.passes)
        return Passes(*(_on_lines(m, known, [getattr(self.passes[k], f.name) for k in known]) for f in fields(Passes)))


def _on_lines(m: int, known: Sequence[int], seconds: Sequence[float]) -> float:
    if m > known[-1] and len(known) > 1:
        slope = (seconds[-1] - seconds[-2]) / (known[-1] - known[-2])
        return seconds[-1] + max(0.0, slope) * (m - known[-1])
    return float(np.interp(m, known, seconds))


@dataclass(frozen=True)
class Step:
    """Seconds of the parts of a step."""

    data: float
    forward: float
    backward: float
    reduction: float
    exchange: float
    update: float

    @property
    def seconds(self) -> float:
        return float(sum(getattr(self, field.name) for field in fields(self)))

    @property
    def largest(self) -> str:
        """The part that takes most; both passes are one."""
        parts = self.parts()
        return max(parts, key=lambda name: parts[name])

    def parts(self) -> dict[str, float]:
        """Seconds, by what they are for."""
        return {
            "passes": self.forward + self.backward,
            "data": self.data,
            "reduction": self.reduction,
            "exchange": self.exchange,
            "update": self.update,
        }


def samples_of_a_rank(n: int, grain: int | None, ranks: int) -> int:
    """m: of the rank that has most of a batch of n; `grain`: in the reproducible mode."""
    return max(end - start for start, end in sample_shares(n, grain, ranks))


def step(node: Node, link: Link | None, nodes: int, n: int, grain: int | None = None) -> Step:
    """A step of a batch of n samples on so many nodes; without a link only on one."""
    m = samples_of_a_rank(n, grain, nodes * node.ranks)
    passes = node.passes_at(m)
    exchange = 0.0
    if nodes > 1:
        assert link is not None, "nothing is known of the network"
        whole = link.seconds(nodes, node.size, node.messages)
        hidden = min((1.0 - node.last) * whole, (1.0 - node.first) * passes.backward / -(-m // node.piece))
        exchange = whole - hidden * (1.0 - link.busy)
    return Step(passes.data, passes.forward, passes.backward, node.reduction, exchange, node.update)


def doubled(nodes: int) -> list[int]:
    """1, 2, 4, … and, at the end, `nodes`."""
    return [*(2**i for i in range((nodes - 1).bit_length())), nodes]
