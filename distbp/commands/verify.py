"""`distbp verify`."""

from __future__ import annotations

import click

from distbp.commands.options import memory_option, stall_option, trust_links_option
from distbp.ranks.launch import Launch, printable


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("data", nargs=-1)
@click.option(
    "--data", "data_files", multiple=True, help="Data file of the run, or a pattern, if it is elsewhere now: as DATA."
)
@click.option(
    "--segments",
    type=click.IntRange(1),
    metavar="K",
    help="Repeat K segments between kept checkpoints, drawn by lot, in place of all steps.",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of --segments, to draw the same ones again.")
@click.option(
    "--bisect",
    is_flag=True,
    help="Look for the first false line in few segments, if all lines that follow it are false as well.",
)
@memory_option
@stall_option
@trust_links_option
@click.pass_obj
def verify(
    launch: Launch,
    run: str,
    data: tuple[str, ...],
    data_files: tuple[str, ...],
    segments: int | None,
    seed: int | None,
    bisect: bool,
    memory: float,
    stall_minutes: float,
    trust_links: bool,
) -> None:
    """Repeats a reproducible run, and says whether it is true.

    RUN is the directory of a run that was trained with --reproducible, on any number of ranks. Its steps are repeated
    on the ranks at hand, and each line of its audit.csv is compared. Checkpoints, best.h5 and metrics.csv are compared,
    too. Nothing is written. A run is true if its configuration and its data give these very bits. DATA are its data
    files, if they are elsewhere now.

    \b
    distbp verify run
    mpirun -n 4 distbp verify run --data data.h5
    distbp verify run --segments 5

    The page `distbp help reproducibility` says what is proved by this.

    Exit codes: 0 all that was repeated is true, 1 something is false or cannot be verified, 2 wrong usage, 75 stopped
    by SIGINT, SIGTERM, SIGUSR1 or SIGUSR2.
    """
    if segments and bisect:
        raise click.UsageError("--segments and --bisect: expected one of them")
    if seed is not None and not segments:
        raise click.UsageError(f"--seed {seed} needs --segments K")
    from distbp.ranks.watch import Watch

    with Watch(launch, stall_minutes=stall_minutes) as watch:
        from distbp.errors import RunError
        from distbp.ranks.attention import Attention
        from distbp.verification.verify import How
        from distbp.verification.verify import verify as verify_run

        how = How((*data_files, *data), segments or 0, seed, bisect, trust_links, memory)
        attention = Attention(watch.beat, watch.stop_requested)
        found = verify_run(watch.comm, run, how, attention, lambda line: click.echo(printable(line)))
        if found:
            wrong = RunError(f"{run}: this run is false: {found}")
            wrong.agreed = True
            raise wrong
        if watch.comm.rank == 0:
            click.echo(printable(f"verified  {run}: all that was repeated is true"))
