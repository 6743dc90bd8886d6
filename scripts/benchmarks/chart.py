"""The bar chart: what share of the limit each contestant reaches, network by network."""

from __future__ import annotations

import statistics
from pathlib import Path

# Okabe and Ito's colours, which people who see colours differently can tell apart.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#F0E442", "#999999")


def draw(path: Path, networks: dict[str, str], bars: dict[str, dict[str, list[float]]], title: str) -> None:
    """Bars of shares (of each round; the line is lowest to highest): contestant -> network -> rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    inches = 4 + 2 * len(networks)
    figure, axes = pyplot.subplots(figsize=(inches, 5.2), layout="constrained")
    width = 0.84 / len(bars)
    for i, (contestant, shares) in enumerate(bars.items()):
        for j, network in enumerate(networks):
            found = shares.get(network)
            if not found:
                continue
            x, middle = j + (i - (len(bars) - 1) / 2) * width, statistics.median(found)
            axes.bar(
                x, middle, width * 0.94, color=COLOURS[i % len(COLOURS)], label=contestant if j == 0 else None, zorder=2
            )
            axes.vlines(x, min(found), max(found), color="black", linewidth=1, zorder=3)
            text = f"{100 * middle:.0f}" if middle >= 0.1 else f"{100 * middle:.1f}"
            axes.annotate(text, (x, max(found)), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    axes.axhline(1, color="black", linewidth=1, linestyle="--", zorder=1)
    axes.set_xticks(range(len(networks)), [words.replace(", n = ", "\nn = ") for words in networks.values()])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("samples/s, share of the limit (matrix products alone)")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", linewidth=0.5, alpha=0.5, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(len(bars), inches // 3), frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
