"""The chart of `distbp bench`: samples/s over nodes, strong and weak scaling, beside what would be ideal."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

from distbp.bench.findings import Findings
from distbp.bench.predict import Row
from distbp.errors import RunError, UsageError
from distbp.files.output import check_out
from distbp.files.write_patience import failure, written_whole

# Okabe and Ito's colours, which people who see colours differently can tell apart.
STRONG, WEAK, MEASURED = "#0072B2", "#009E73", "#D55E00"


def check_chart(out: Path, inputs: list[str], *, overwrite: bool) -> None:
    """Raises UsageError where a chart cannot be drawn, RunError where it cannot be written: before anything is done."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f'--out {out}: charts need matplotlib: pip install "distbp[plot]"')
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: expected a name that ends in .png")
    check_out(out, inputs, overwrite=overwrite)


def draw(path: Path, findings: Findings, rows: list[Row], note: Callable[[str], None], *, overwrite: bool) -> None:
    """Writes the chart; `note` tells the user.  Raises RunError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure, axes = pyplot.subplots(figsize=(7, 5), layout="constrained")
    nodes, n = [row.nodes for row in rows], findings.n
    axes.plot(nodes, [row.base * row.nodes for row in rows], color="black", linewidth=1, linestyle="--", label="ideal")
    axes.plot(nodes, [row.weak_rate for row in rows], "o-", color=WEAK, label=f"n = {n} for each node")
    axes.plot(nodes, [row.strong_rate for row in rows], "o-", color=STRONG, label=f"n = {n} in all")
    wholes = [whole for one in findings.measured for whole in one.wholes]
    axes.plot(
        [whole.nodes for whole in wholes],
        [whole.n / whole.seconds for whole in wholes],
        "x",
        color=MEASURED,
        markersize=8,
        label="measured, whole steps",
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(nodes)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("nodes")
    axes.set_ylabel("samples/s")
    axes.set_title(f"{findings.network.describe()}, {findings.config.dtype}", fontsize=10)
    axes.grid(linewidth=0.5, alpha=0.5)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    write = partial(figure.savefig, dpi=150, format="png")
    try:
        written_whole(path, write, note, overwrite=overwrite)
    except OSError as error:
        raise RunError(f"{path}: cannot write the chart: {failure(error)}") from None
    finally:
        pyplot.close(figure)
