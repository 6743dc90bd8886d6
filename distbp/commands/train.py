"""`distbp train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distbp.commands.options import Grouped, config_options, given_options
from distbp.ranks.job import job_of
from distbp.ranks.launch import Launch
from distbp.settings.config import Config
from distbp.settings.merged import merge
from distbp.settings.option import AUTO
from distbp.settings.values import check_each

if TYPE_CHECKING:
    from distbp.ranks.watch import Watch
    from distbp.training.prepare import Start

NEWEST = "newest"


class _Train(Grouped):
    """The value of --resume is "auto" or nothing: any other word that follows it is DATA."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        # click would take any word that follows --resume for its value, so the value is joined to it.
        words: list[str] = []
        end = args.index("--") if "--" in args else len(args)
        for i, word in enumerate(args):
            if i > 0 and word in (AUTO, NEWEST) and args[i - 1] == "--resume" and i < end:
                words[-1] = f"--resume={word}"
            else:
                words.append(f"--resume={NEWEST}" if word == "--resume" and i < end else word)
        return super().parse_args(context, words)


MOST_USED = (
    *("config_file", "out", "resume", "dry_run", "hidden", "activation", "epochs", "batch_size", "learning_rate"),
    *("optimizer", "schedule", "task", "reproducible"),
)


@click.command(cls=_Train, first=MOST_USED)
@click.argument("data", nargs=-1)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file with options. Its paths are relative to its directory. The command line wins.",
)
@click.option(
    "--resume",
    type=click.Choice([NEWEST, AUTO]),
    metavar=f"[{AUTO}]",
    help="Continue the run in --out from its newest good checkpoint. auto: begin the run if there is none.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what the run would be and how much memory it takes, and stop before the first step. Write no file.",
)
@click.option("--simulate-ranks", type=click.IntRange(1, 1024), help="Use threads in place of ranks, without MPI.")
@config_options()
@click.pass_obj
def train(
    launch: Launch,
    /,
    data: tuple[str, ...],
    config_file: Path | None,
    resume: str | None,
    dry_run: bool,
    simulate_ranks: int | None,
    **options: Any,
) -> None:
    """Trains a network on HDF5 data sets.

    DATA are HDF5 files with a group for each split. Without DATA, the options are read from distbp.toml of this
    directory. If there is none, the network is trained on the digits data set that comes with distbp.

    \b
    distbp train data.h5 --hidden 128,64 --epochs 50 --out run
    distbp train --resume --epochs 100 --out run
    mpirun -n 4 distbp train data.h5

    The pages `distbp help training` and `distbp help data` say more.

    \b
    Exit codes:
      0   done
      1   failed
      2   wrong usage
      75  stopped on request or before the end of its time, with a checkpoint;
          run the command again with --resume
    """
    given, origin, notes = given_options(data, config_file, options, several=launch.launched)
    if resume == NEWEST:  # the rest of the configuration is the run's
        check_each(given, origin)
        asked = ("out", "stop_signals", "time_limit", "stage_to", "grace", "stall_minutes")
        config = merge({name: given[name] for name in asked if name in given}, origin)
    else:
        config = merge(given, origin)
    if simulate_ranks and launch.launched:
        raise click.UsageError("--simulate-ranks is for one process; mpirun has started real ranks")
    from distbp.ranks.watch import Watch

    with Watch(
        launch,
        stall_minutes=config.stall_minutes,
        stop_signals=config.stop_signals.split(",") if config.stop_signals else (),
        grace=config.grace,
        answer="stopping after this step with a checkpoint",
        advice="The last checkpoint is good: continue with --resume",
    ) as watch:
        from distbp.training.prepare import Start

        start = Start(given if resume else None, resume == AUTO, dry_run, job_of(os.environ))
        _train(watch, config, start, notes, simulate_ranks)


def _train(watch: Watch, config: Config, start: Start, notes: list[str], simulate_ranks: int | None) -> None:
    from distbp.ranks.attention import Attention
    from distbp.ranks.communicator import Communicator, run_threads
    from distbp.training.train import train as train_network

    attention = Attention(watch.beat, watch.stop_requested)

    def on_rank(rank_comm: Communicator) -> None:
        console = None
        if rank_comm.rank == 0:
            from distbp.training.report import Console

            console = Console()
        try:
            if console:
                for note in notes:
                    console.note(note)
            run = train_network(rank_comm, config, start, attention=attention, listeners=[console] if console else [])
            if console and start.dry_run:
                console.dry_run(run)
        finally:
            if console:
                console.close()

    if simulate_ranks:
        run_threads(simulate_ranks, on_rank)
    else:
        on_rank(watch.comm)
