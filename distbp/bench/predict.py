"""From what was measured to a table: samples/s on 1, 2, 4, … N nodes, by the best use of their cores."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.bench.findings import Findings, Wanted
from distbp.bench.measure import Measured, Whole
from distbp.bench.model import Node, Step, doubled, step

WORTH = 0.5  # efficiency below which more nodes are not worth it


@dataclass(frozen=True)
class Row:
    """So many nodes, each used as `node`: a step of n samples in all, and one of n samples for each node."""

    nodes: int
    node: Node
    n: int
    strong: Step
    weak: Step
    base: float  # samples/s of the best node alone

    @property
    def strong_rate(self) -> float:
        """samples/s, in batches of n."""
        return self.n / self.strong.seconds

    @property
    def weak_rate(self) -> float:
        """samples/s, in batches of n for each node."""
        return self.n * self.nodes / self.weak.seconds

    @property
    def strong_efficiency(self) -> float:
        """1 where N nodes do N times as much as one."""
        return self.strong_rate / (self.nodes * self.base)

    @property
    def weak_efficiency(self) -> float:
        return self.weak_rate / (self.nodes * self.base)


def rows(findings: Findings, wanted: Wanted) -> list[Row]:
    """For each number of nodes, with the ranks x threads that are fastest there; one row where no network is known."""
    found: list[Row] = []
    for nodes in doubled(wanted.nodes):
        here = [row for one in findings.measured if (row := _row(findings, wanted, one, nodes, found))]
        if here:
            found.append(max(here, key=lambda row: row.strong_rate))
    return found


def _row(findings: Findings, wanted: Wanted, measured: Measured, nodes: int, before: list[Row]) -> Row | None:
    node, n, grain = measured.node, findings.n, findings.grain
    link = wanted.link(node, measured.link)
    if link is None and nodes > 1:
        return None
    strong, weak = step(node, link, nodes, n, grain), step(node, link, nodes, n * nodes, grain)
    return Row(nodes, node, n, strong, weak, before[0].base if before else n / strong.seconds)


def predicted(findings: Findings, measured: Measured, whole: Whole) -> float:
    """Seconds of a whole step that was measured."""
    return step(measured.node, measured.link, whole.nodes, whole.n, findings.grain).seconds


def worth(rows: list[Row]) -> Row:
    """The most nodes that are worth it, all at n samples."""
    return next(row for row in reversed(rows) if row.strong_efficiency >= WORTH)
