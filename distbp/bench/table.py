"""What `distbp bench` prints."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from distbp.bench.findings import Findings, Wanted
from distbp.bench.measure import Measured
from distbp.bench.model import samples_of_a_rank
from distbp.bench.predict import WORTH, Row, predicted, worth
from distbp.ranks.node_memory import in_units

PARTS = {
    "passes": "forward and backward pass",
    "data": "gathering of samples",
    "reduction": "sum over the ranks of a node",
    "exchange": "exchange between nodes",
    "update": "update of the parameters",
}
MENDS = {
    "passes": "more nodes make them shorter",
    "data": "inputs of fewer bytes are gathered sooner",
    "reduction": "there are fewer with a larger --batch-size",
    "exchange": "there are fewer with a larger --batch-size, and they are shorter on fewer nodes",
    "update": "there are fewer with a larger --batch-size",
}
MODEL = "T(N) = data + γ(m) + reduction + exchange - hidden + update; exchange = rounds k α + 2 (N-1)/N B β"
FAR = 0.2
SLOWER = 1.5  # times as long for a sample as on one node, which is worth a line


def lines(findings: Findings, wanted: Wanted, rows: list[Row]) -> Iterator[str]:
    """All of it."""
    yield from _constants(findings)
    yield from _checks(findings)
    yield from _predictions(findings, wanted, rows)
    yield f"model     {MODEL}"
    yield from _bounds(findings, rows)
    yield from _advice(findings, rows)


def _constants(findings: Findings) -> Iterator[str]:
    yield "measured  on each node, all these ranks at work"
    cells = [("ranks x threads", "products", "γ for a sample", "memory", "reduction", "update", "α", "β")]
    for one in findings.measured:
        node, link = one.node, one.link
        m = max(node.passes)
        network = (in_seconds(link.alpha), f"{link.beta * 1e9:.3g} ns/byte") if link else ("", "")
        cells.append(
            (
                node.words,
                f"{one.operations_per_second / 1e9:.3g} GFLOP/s a rank",
                f"{in_seconds(node.passes[m].gamma / m)} (m = {m})",
                f"{one.bytes_per_second / 1e9:.3g} GB/s",
                in_seconds(node.reduction),
                in_seconds(node.update),
                *network,
            )
        )
    yield from aligned(cells)
    for one in findings.measured if findings.nodes > 1 else ():
        times = ", ".join(f"{in_units(size)} {in_seconds(seconds)}" for size, seconds in one.exchange.items())
        largest = max(one.exchange)
        moved = 2 * (findings.nodes - 1) / findings.nodes * largest * one.node.ranks
        rate = 8e-9 * moved / one.exchange[largest]
        yield (
            f"  exchange over {findings.nodes} nodes, {_ranks(one)} of each at once: {times}; {rate:.3g} Gbit/s a node"
        )


def _checks(findings: Findings) -> Iterator[str]:
    yield "checked   whole steps on these nodes, samples/s"
    cells, worst = [("ranks x threads", "nodes", "n", "predicted", "measured", "deviation")], 0.0
    for one in findings.measured:
        for whole in one.wholes:
            expected = predicted(findings, one, whole)
            worst = max(worst, abs(whole.seconds / expected - 1))
            cells.append(
                (
                    one.node.words,
                    f"{whole.nodes}",
                    f"{whole.n}",
                    f"{whole.n / expected:,.0f}",
                    f"{whole.n / whole.seconds:,.0f}",
                    f"{100 * (whole.seconds / expected - 1):+.0f} %",
                )
            )
    yield from aligned(cells)
    if worst > FAR:
        yield f"  off by more than {100 * FAR:.0f} %: other work on these nodes or their network? try more --seconds"


def _predictions(findings: Findings, wanted: Wanted, rows: list[Row]) -> Iterator[str]:
    n = findings.n
    network = "the network as measured" if findings.nodes > 1 else ""
    if wanted.latency is not None:
        network = f"a network of {wanted.latency:g} µs and {wanted.bandwidth:g} Gbit/s, which was not measured"
    yield f"predicted samples/s{f', with {network}' if network and len(rows) > 1 else ''}"
    cells = [("nodes", "ranks x threads", f"n = {n}", "efficiency", f"n = {n} a node", "efficiency", "most of a step")]
    for row in rows:
        share = row.strong.parts()[row.strong.largest] / row.strong.seconds
        cells.append(
            (
                f"{row.nodes}",
                row.node.words,
                f"{row.strong_rate:,.0f}",
                f"{100 * row.strong_efficiency:.0f} %",
                f"{row.weak_rate:,.0f}",
                f"{100 * row.weak_efficiency:.0f} %",
                f"{100 * share:.0f} % {PARTS[row.strong.largest]}",
            )
        )
    yield from aligned(cells)
    if len(rows) == 1 and wanted.nodes > 1:
        yield (
            "  More nodes cannot be predicted from one: start it on two, or say what connects them, with "
            "--link-latency and --link-bandwidth"
        )


def _bounds(findings: Findings, rows: list[Row]) -> Iterator[str]:
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.strong.largest)]
    for group in groups:
        first, last, part = group[0].nodes, group[-1].nodes, group[0].strong.largest
        where = f"on {_nodes(first)}" if first == last else f"on {first} to {last} nodes"
        label = "bound" if group is groups[0] else ""
        yield f"{label:<10}{where}: {PARTS[part]}; {MENDS[part]}"
    for row in rows[1:]:
        m, most = (samples_of_a_rank(findings.n, findings.grain, k * row.node.ranks) for k in (row.nodes, 1))
        times = row.node.passes_at(m).gamma / m / (row.node.passes_at(most).gamma / most)
        if times > SLOWER:
            yield (
                f"          from {row.nodes} nodes on a rank has {m} sample{'s' * (m > 1)} or fewer, and takes "
                f"{times:.1f} times as long for each as on one node: a larger --batch-size"
            )
            break


def _advice(findings: Findings, rows: list[Row]) -> Iterator[str]:
    best = worth(rows)
    node, ranks = best.node, best.nodes * best.node.ranks
    launcher = f"mpirun -n {ranks} " if ranks > 1 else ""
    others = ", ".join(one.node.words for one in findings.measured if one.node != node)
    yield (
        f"advice    {node.words} (ranks x threads) on each node{f', rather than {others}' if others else ''}: "
        f"{launcher}distbp train --threads {node.threads}"
    )
    if len(rows) > 1:
        fastest = max(rows, key=lambda row: row.strong_rate)
        faster = f"the fastest is {_nodes(fastest.nodes)}, with {100 * fastest.strong_efficiency:.0f} %"
        if fastest is best:
            faster = "more are slower"
        yield (
            f"          {_nodes(best.nodes)}: the most that still have {100 * WORTH:.0f} % efficiency in batches of "
            f"n = {findings.n}; {faster}"
        )


def aligned(cells: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Columns, each as wide as it must be; empty ones are left out."""
    columns = [column for column in zip(*cells, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        yield ("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count > 1)}"


def _ranks(measured: Measured) -> str:
    return f"{measured.node.ranks} rank{'s' * (measured.node.ranks > 1)}"


def in_seconds(seconds: float) -> str:
    """1.5 ms"""
    unit, factor = next(((u, f) for u, f in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)) if seconds >= f), ("ns", 1e-9))
    return f"{seconds / factor:.3g} {unit}"
