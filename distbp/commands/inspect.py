"""`distbp inspect`."""

from __future__ import annotations

from typing import Any

import click

from distbp.commands.options import trust_links_option
from distbp.ranks.launch import Launch, printable
from distbp.settings.option import AUTO


@click.command()
@click.argument("file", nargs=-1, required=True)
@click.option("--digest", is_flag=True, help="Print a hash (SHA-256) of the parameters of each checkpoint.")
@click.option(
    "--diff",
    is_flag=True,
    help="Say where two checkpoints differ, and by how many ulps. The exit code is 1 if they do.",
)
@click.option(
    "--rank",
    type=click.Choice(["loss", "speed"]),
    help="Print a table of run directories: by validation loss, or by number of ranks with speed and efficiency.",
)
@click.option("--x", default=AUTO, show_default=True, help="Data set: names of the inputs, as in distbp train.")
@click.option(
    "--y", default=AUTO, show_default=True, help="Data set: names of the labels or targets, as in distbp train."
)
@click.option("--split", default=AUTO, show_default=True, help="Data set: the group or groups to look at.")
@click.option("--drop", default="", help="Data set: columns that are not to be inputs.")
@click.option("--task", type=click.Choice([AUTO, "classes", "targets"]), default=AUTO, help="Data set: what y is.")
@click.option("--each", is_flag=True, help="Data set: each file, or with a star each group, is one sample.")
@click.option(
    "--statistics/--no-statistics",
    default=True,
    show_default=True,
    help="Data set: read all of it, for ranges, means, classes and missing values.",
)
@trust_links_option
@click.pass_obj
def inspect(launch: Launch, /, file: tuple[str, ...], digest: bool, diff: bool, rank: str | None, **look: Any) -> None:
    """Shows what is in a data set, a checkpoint or a run.

    FILE is a file, a run directory, or a pattern such as "run-*". For a data set it shows the layout, statistics, and
    what `distbp train` would make of it. If the layout reads slowly, it says how to rewrite it.

    \b
    distbp inspect data.h5
    distbp inspect --rank loss run-*
    distbp inspect --diff run-1 run-2
    """
    if digest + diff + bool(rank) > 1:
        raise click.UsageError("--digest, --diff and --rank: expected one of them")
    if diff and len(file) != 2:
        raise click.UsageError(f"--diff: expected two checkpoints, got {len(file)}")
    if not launch.only_first():
        return
    from distbp.data.data_file import matching
    from distbp.inspection.data_inspection import View
    from distbp.inspection.file_inspection import describe, describe_difference, describe_digest
    from distbp.inspection.ranking import rank as ranked
    from distbp.progress import RowProgress

    if rank:
        for line in ranked(matching(file), rank):
            click.echo(printable(line))
        return
    if diff:
        differences = list(describe_difference(*file))
        for line in differences:
            click.echo(printable(line))
        if differences:
            raise click.exceptions.Exit(1)
        click.echo(f"{file[0]} and {file[1]} hold the same")
        return
    progress = RowProgress()
    try:
        for name in matching(file):
            for line in describe_digest(name) if digest else describe(name, View(**look, progress=progress)):
                click.echo(printable(line))
    finally:
        progress.close()
