"""The command line: all commands.  Only what `--help` needs is imported here."""

from __future__ import annotations

import click

from distbp import __version__
from distbp.commands.bench import bench
from distbp.commands.doctor import doctor
from distbp.commands.evaluate import evaluate
from distbp.commands.gradcheck import gradcheck
from distbp.commands.help_command import help_command
from distbp.commands.import_command import import_command
from distbp.commands.inspect import inspect
from distbp.commands.predict import predict
from distbp.commands.train import train
from distbp.commands.verify import verify
from distbp.ranks.launch import Launch


class _InOrder(click.Group):
    """Its help lists the commands in the order in which a user meets them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="distbp %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Trains feed-forward neural networks, in one process or data-parallel on MPI ranks.

    \b
    distbp train                          train on the digits, a data set of distbp
    distbp train data.h5                  train on your data, in one process
    mpirun -n 4 distbp train data.h5      train on 4 ranks
    distbp COMMAND --help                 list the options of a command
    distbp help                           list the pages of the documentation

    Every rank computes the gradient of its shard of a batch. The gradients are added up over all ranks and divided by
    the number of samples in the whole batch. So every number of ranks gives the gradient of the whole batch.
    """
    if isinstance(context.obj, Launch):
        context.obj.command = context.invoked_subcommand or ""


for command in (import_command, inspect, train, evaluate, predict, verify, bench, doctor, gradcheck, help_command):
    cli.add_command(command)
