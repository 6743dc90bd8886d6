"""`distbp evaluate`."""

from __future__ import annotations

import click

from distbp.commands.options import memory_option, stall_option, trust_links_option
from distbp.counted import counted
from distbp.ranks.launch import Launch, say


@click.command()
@click.argument("checkpoint")
@click.argument("data", nargs=-1)
@click.option("--split", default="test", show_default=True, help="Group of the files to evaluate on.")
@click.option("--x", default="", help="Names of the inputs in the files.  [default: as in training, x, or by name]")
@click.option(
    "--y", default="", help="Names of the labels or targets in the files.  [default: as in training, y, or by name]"
)
@memory_option
@stall_option
@trust_links_option
@click.pass_obj
def evaluate(
    launch: Launch,
    checkpoint: str,
    data: tuple[str, ...],
    split: str,
    x: str,
    y: str,
    memory: float,
    stall_minutes: float,
    trust_links: bool,
) -> None:
    """Prints the loss and the metric of a network.

    CHECKPOINT is a file, or a run directory, of which best.h5 is taken. Without DATA, the data are those that the
    network was trained on. Each sample counts once, so the figures are exact for any number of ranks.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped by SIGINT, SIGTERM, SIGUSR1 or SIGUSR2. After 75, run the
    same command again.
    """
    from distbp.ranks.watch import Watch

    with Watch(launch, stall_minutes=stall_minutes) as watch:
        from distbp.prediction.finite_scores import finite_scores
        from distbp.prediction.memory_plan import evaluation_terms
        from distbp.prediction.trained import Columns, Use, load

        comm, pulse = watch.comm, watch.pulse()
        use = Use(data, split, True, Columns(x, y), evaluation_terms, trust_links, memory)
        used = load(comm, checkpoint, use, pulse, say)
        scores, problem = finite_scores(comm, used, pulse), used.state.problem
    if comm.rank == 0:
        metrics = "".join(f", {name} {value:.8g}" for name, value in scores.metrics.items())
        click.echo(
            f"{split}: {counted(scores.samples, 'sample')}, {problem.network.loss.name} loss {scores.loss:.8g}{metrics}"
        )
