"""`distbp bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from distbp.commands.options import Grouped, config_options, given_options
from distbp.ranks.launch import Launch, printable
from distbp.settings.config import Config
from distbp.settings.merged import merge

OPTIONS = (
    "split",
    "x",
    "y",
    "trust_links",
    "scale",
    "hidden",
    "activation",
    "output_activation",
    "loss",
    "dtype",
    "optimizer",
    "momentum",
    "nesterov",
    "weight_decay",
    "decay_bias",
    "batch_size",
    "wire",
    "overlap",
    "reproducible",
    "grain",
    "seed",
    "stall_minutes",
    "engine",
    "threads",
)


MOST_USED = (
    *("config_file", "nodes", "seconds", "inputs", "outputs", "link_latency", "link_bandwidth", "out", "overwrite"),
    *("hidden", "batch_size", "threads"),
)


@click.command(cls=Grouped, first=MOST_USED)
@click.argument("data", nargs=-1)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file with options. Its paths are relative to its directory. The command line wins.",
)
@click.option("--inputs", type=click.IntRange(1), help="Inputs of the network, without DATA.")
@click.option(
    "--outputs", type=click.IntRange(1), help="Outputs of the network, without DATA: classes, or targets of --loss mse."
)
@click.option(
    "--nodes",
    type=click.IntRange(1, 2**20),
    default=64,
    show_default=True,
    help="Largest number of nodes to predict for.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86400, min_open=True),
    default=20.0,
    show_default=True,
    help="Time for the measurements, about. Long steps take longer.",
)
@click.option(
    "--link-latency",
    type=click.FloatRange(0, 1e9),
    help="Time of a message between two nodes in µs, for a network other than the measured one.",
)
@click.option(
    "--link-bandwidth", type=click.FloatRange(0, 1e9, min_open=True), help="Bandwidth of the link of a node in Gbit/s."
)
@click.option("--out", type=click.Path(path_type=Path), help="Chart to write (PNG). This needs distbp[plot].")
@click.option("--overwrite", is_flag=True, help="Replace the chart if it exists.")
@config_options(*OPTIONS)
@click.pass_obj
def bench(
    launch: Launch,
    /,
    data: tuple[str, ...],
    config_file: Path | None,
    inputs: int | None,
    outputs: int | None,
    nodes: int,
    seconds: float,
    link_latency: float | None,
    link_bandwidth: float | None,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Predicts the speed of training on more nodes.

    It measures matrix products, memory, both passes, sums within a node, and Allreduce over the nodes. From these it
    predicts the speed of `distbp train` on 1, 2, 4, … nodes. Then it compares the predictions with whole steps on the
    ranks at hand. Start it on all cores of two nodes to learn what more nodes would do.

    \b
    distbp bench data.h5 --hidden 512,512 --batch-size 512
    mpirun -n 2 distbp bench data.h5 --hidden 512,512
    distbp bench --inputs 784 --outputs 10 --hidden 512,512

    Only the columns and labels of DATA are read; the samples are random numbers. The pages `distbp help performance`
    and `distbp help proposal` say more.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped on request.
    """
    if (inputs is None) != (outputs is None):
        raise click.UsageError("--inputs and --outputs belong together")
    if (link_latency is None) != (link_bandwidth is None):
        raise click.UsageError("--link-latency and --link-bandwidth belong together")
    given, origin, notes = given_options(
        data, config_file, options, several=launch.launched, read_default=inputs is None
    )
    config = merge(given, origin)
    chart = str(out) if out else ""
    asked = (nodes, seconds, inputs or 0, outputs or 0, link_latency, link_bandwidth, chart, overwrite)
    _bench(launch, config, notes, asked)


def _bench(launch: Launch, config: Config, notes: list[str], asked: tuple[Any, ...]) -> None:
    """`asked`: the fields of `Wanted`."""
    from distbp.ranks.watch import Watch

    with Watch(launch, stall_minutes=config.stall_minutes) as watch:
        from distbp.bench.bench import bench as measure
        from distbp.bench.chart import draw
        from distbp.bench.findings import Wanted
        from distbp.bench.predict import rows as predict
        from distbp.bench.table import lines
        from distbp.progress import StageProgress
        from distbp.ranks.communicator import on_first

        comm, wanted = watch.comm, Wanted(*asked)

        def note(text: str) -> None:
            click.echo(printable(text))

        for text in notes if comm.rank == 0 else ():
            note(text)
        progress = StageProgress(shown=comm.rank == 0)
        try:
            findings = measure(comm, config, wanted, note, watch.pulse(), progress)
        finally:
            progress.close()
        rows = predict(findings, wanted)
        for line in lines(findings, wanted, rows) if comm.rank == 0 else ():
            note(line)
        if wanted.out:
            on_first(comm, lambda: draw(Path(wanted.out), findings, rows, note, overwrite=wanted.overwrite))
            if comm.rank == 0:
                note(f"chart     {wanted.out}")
