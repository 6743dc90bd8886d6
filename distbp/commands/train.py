"""`distbp train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distbp.commands.options import Grouped, config_options, given_options
from distbp.config import Config, check_each, merge
from distbp.ranks.launch import Launch

if TYPE_CHECKING:
    from distbp.ranks.watch import Watch


@click.command(cls=Grouped)
@click.argument("data", nargs=-1)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="TOML file with options; the command line wins"
)
@click.option("--resume", is_flag=True, help="continue the run in --out from its newest good checkpoint")
@click.option(
    "--dry-run",
    is_flag=True,
    help="do all that comes before the first step, show what the run would be and how much memory it takes, and stop; "
    "no file is written",
)
@click.option("--simulate-ranks", type=click.IntRange(1, 1024), help="threads that stand in for ranks, without MPI")
@config_options()
@click.pass_obj
def train(
    launch: Launch,
    /,
    data: tuple[str, ...],
    config_file: Path | None,
    resume: bool,
    dry_run: bool,
    simulate_ranks: int | None,
    **options: Any,
) -> None:
    """Trains a network on DATA, HDF5 files with a group per split.

    Without DATA: as distbp.toml in this directory says; without that, on the digits data set that comes with distbp.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped on request after a checkpoint (run again with --resume).
    """
    given, origin, notes = given_options(data, config_file, options)
    if resume:  # the rest of the configuration is the run's
        check_each(given, origin)
        asked = ("out", "stop_signals", "grace", "stall_minutes")
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
        _train(watch, config, given if resume else None, notes, dry_run=dry_run, simulate_ranks=simulate_ranks)


def _train(
    watch: Watch,
    config: Config,
    resume_with: dict[str, Any] | None,
    notes: list[str],
    *,
    dry_run: bool,
    simulate_ranks: int | None,
) -> None:
    from distbp.ranks.communicator import Communicator, run_threads
    from distbp.training.report import ConsoleReporter
    from distbp.training.train import train as train_network

    def on_rank(rank_comm: Communicator) -> None:
        reporter = ConsoleReporter() if rank_comm.rank == 0 else None
        try:
            if reporter:
                for note in notes:
                    reporter.note(note)
            run = train_network(
                rank_comm,
                config,
                resume_with=resume_with,
                stop_requested=watch.stop_requested,
                beat=watch.beat,
                reporter=reporter,
                dry_run=dry_run,
            )
            if reporter and dry_run:
                reporter.dry_run(run)
        finally:
            if reporter:
                reporter.close()

    if simulate_ranks:
        run_threads(simulate_ranks, on_rank)
    else:
        on_rank(watch.comm)
