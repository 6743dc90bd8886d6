"""`distbp gradcheck`."""

from __future__ import annotations

import click

from distbp.errors import DistbpError
from distbp.ranks.launch import Launch


@click.command()
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of parameters, samples and directions."
)
@click.option("--verbose", is_flag=True, help="Print every network, not only the worst ones.")
@click.pass_obj
def gradcheck(launch: Launch, seed: int, verbose: bool) -> None:
    """Compares backpropagation with finite differences.

    It does so for every σ, every loss and several depths. The exit code is 1 if one of them is wrong.
    """
    if not launch.only_first():
        return
    from distbp.mathematics.gradcheck import TOLERANCE, all_networks, check_network

    checks = [check_network(network, seed) for network in all_networks()]
    checks.sort(key=lambda check: -check.error)
    click.echo(f"{'σ':<11}{'output σ':<11}{'L':<21}{'layers':<12}relative error")
    for check in checks if verbose else checks[:10]:
        click.echo(f"{check.name:<55}{check.error:.1e}")
    wrong = sum(check.error > TOLERANCE for check in checks)
    if wrong:
        raise DistbpError(f"{wrong} of {len(checks)} networks differ from finite differences by more than {TOLERANCE}")
    click.echo(f"{len(checks)} networks agree with finite differences to {TOLERANCE}; the worst are shown first")
