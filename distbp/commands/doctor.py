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
    help="Directory for results. doctor tries whether they can be written there.",
)
@click.pass_obj
def doctor(launch: Launch, out: Path) -> None:
    """Checks this installation: MPI, cores, memory, files.

    \b
    distbp doctor                         in one process
    mpirun -n 4 distbp doctor --out DIR   on the ranks and nodes of a job

    It prints a line for each check. The line begins with `ok`, with `warn` if something could be better, or with
    `FAIL` if a run would not work. After a FAIL the exit code is 1.
    """
    from distbp.doctor.doctor import examine

    code = examine(launch, out, click.echo)
    if code:
        raise click.exceptions.Exit(code)
