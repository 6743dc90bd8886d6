"""`distbp evaluate`."""

from __future__ import annotations

import click

from distbp.commands.options import memory_option, trust_links_option
from distbp.ranks.launch import Launch


@click.command()
@click.argument("checkpoint")
@click.argument("data", nargs=-1)
@click.option("--split", default="test", show_default=True, help="group of the files to evaluate on")
@memory_option
@trust_links_option
@click.pass_obj
def evaluate(
    launch: Launch, checkpoint: str, data: tuple[str, ...], split: str, memory: float, trust_links: bool
) -> None:
    """Prints the loss and the metric of CHECKPOINT on a split of DATA.

    CHECKPOINT is a file, or a run directory (then its best.h5). Without DATA: the data the network was trained on.
    The figures are exact for any number of ranks: each sample counts once.
    """
    comm = launch.connect()
    from distbp.gradient.evaluate import Evaluation
    from distbp.prediction.trained import load

    used = load(comm, checkpoint, data, split, targets=True, trust_links=trust_links, memory=memory)
    state = used.state
    scores = Evaluation(comm, state.problem, used.data, state.config.dtype)(state.parameters)
    if comm.rank == 0:
        click.echo(
            f"{split}: {scores.samples} samples, {state.problem.network.loss.name} loss {scores.loss:.8g}, "
            f"{state.problem.metric} {scores.metric:.8g}"
        )
