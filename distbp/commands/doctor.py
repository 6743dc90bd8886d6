"""`distbp doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from distbp.ranks.launch import Launch


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    help="directory for results, where it is tried out whether they can be written",
)
@click.pass_obj
def doctor(launch: Launch, out: Path) -> None:
    """Says whether this installation works: libraries, MPI and its launcher, cores, memory, files.

    \b
    distbp doctor                         in one process
    mpirun -n 4 distbp doctor --out DIR   on the ranks and nodes of a job

    A line for each check: ok; warn, it could be better; FAIL, a run would not work, and then the exit code is 1.
    """
    from distbp.doctor.doctor import examine

    code = examine(launch, out, click.echo)
    if code:
        raise click.exceptions.Exit(code)
