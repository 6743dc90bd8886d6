"""What is asked of a bench, and what it has found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from distbp.bench.measure import Measured
from distbp.bench.model import Link, Node, given_link
from distbp.mathematics.network import Network
from distbp.settings.config import Config, flag


@dataclass(frozen=True)
class Wanted:
    """What the user wants to know: predictions up to so many nodes, measured in about so many seconds.

    `inputs`, `outputs`: of the network, where there are no data; `latency` in µs, `bandwidth` in Gbit/s: of the network
    between nodes, where it is to be another than the one that was measured, if any.  `out`: a chart.
    """

    nodes: int = 64
    seconds: float = 20.0
    inputs: int = 0
    outputs: int = 0
    latency: float | None = None
    bandwidth: float | None = None
    out: str = ""
    overwrite: bool = False

    def options(self) -> dict[str, Any]:
        """By their names on the command line."""
        names = {"latency": "link_latency", "bandwidth": "link_bandwidth"}
        return {flag(names.get(name, name)): value for name, value in asdict(self).items()}

    def link(self, node: Node, measured: Link | None) -> Link | None:
        """What connects the nodes, for so many ranks of each; None where nothing is known of it."""
        if self.latency is None or self.bandwidth is None:
            return measured
        return given_link(self.latency, self.bandwidth, node.ranks, in_parts=node.in_parts)


@dataclass(frozen=True)
class Findings:
    """All that was measured, on rank 0 and on the others; `nodes`: on so many."""

    config: Config
    network: Network
    n: int
    grain: int | None
    nodes: int
    measured: list[Measured]
