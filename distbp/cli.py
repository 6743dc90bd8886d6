"""The command line: all commands.  Only what `--help` needs is imported here."""

from __future__ import annotations

import click

from distbp import __version__
from distbp.commands.bench import bench
from distbp.commands.doctor import doctor
from distbp.commands.evaluate import evaluate
from distbp.commands.gradcheck import gradcheck
from distbp.commands.import_command import import_command
from distbp.commands.inspect import inspect
from distbp.commands.predict import predict
from distbp.commands.train import train
from distbp.ranks.launch import Launch


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="distbp %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Trains feed-forward neural networks on MPI ranks, with the exact gradient of the whole batch.

    Each rank runs backpropagation over its shard of a batch; the gradients are summed with Allreduce and divided by
    n, the number of samples of the whole batch; rank 0 writes checkpoints in HDF5.

    \b
    mpirun -n 4 distbp train data.h5      train on 4 ranks
    distbp train                          train on the digits that come with distbp, in one process
    """
    if isinstance(context.obj, Launch):
        context.obj.command = context.invoked_subcommand or ""


for command in (train, evaluate, predict, import_command, inspect, gradcheck, doctor, bench):
    cli.add_command(command)
