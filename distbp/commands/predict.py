"""`distbp predict`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from distbp.commands.options import memory_option, stall_option, trust_links_option
from distbp.counted import counted
from distbp.ranks.launch import Launch, say
from distbp.settings.files import with_paths


@click.command()
@click.argument("checkpoint")
@click.argument("data", nargs=-1)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write. Its ending says in which format: .h5, .hdf5, .csv, .tsv, .csv.gz, .tsv.gz, .json, .jsonl, "
    ".npy, or .parquet with distbp[parquet].",
)
@click.option("--split", default="test", show_default=True, help="Group of the files to predict.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--x", default="", help="Names of the inputs in the files.  [default: as in training, x, or by name]")
@memory_option
@stall_option
@trust_links_option
@click.pass_obj
def predict(
    launch: Launch,
    checkpoint: str,
    data: tuple[str, ...],
    out: Path,
    split: str,
    overwrite: bool,
    x: str,
    memory: float,
    stall_minutes: float,
    trust_links: bool,
) -> None:
    """Writes the predictions of a network to a file.

    CHECKPOINT is a file, or a run directory, of which best.h5 is taken. Without DATA, the data are those that the
    network was trained on. The file appears when it is complete.

    \b
    distbp predict run new.h5 --split train --out new.csv

    HDF5 and NPY have `class` (N,) and `probability` (N, K) for a classifier. Otherwise they have `y` (N, outputs), in
    the units of the targets. The other formats have columns: class and probability_LABEL for each label, or the
    targets. JSON has an object for each sample; .jsonl has one on each line.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped by SIGINT, SIGTERM, SIGUSR1 or SIGUSR2. After 75 nothing
    was written: run the same command again.
    """
    from distbp.ranks.watch import Watch

    out = Path(with_paths({"out": str(out)}, "command line")["out"])
    with Watch(launch, stall_minutes=stall_minutes, advice="Nothing was written: run the same command again") as watch:
        from distbp.prediction.formats import check_format
        from distbp.prediction.memory_plan import prediction_terms
        from distbp.prediction.predict import predict as predict_split
        from distbp.prediction.trained import Columns, Use, load
        from distbp.ranks.communicator import on_first

        comm, pulse = watch.comm, watch.pulse(f"{out} was written")
        if out.name:  # before what may take long; `predict` looks at the rest
            on_first(comm, lambda: check_format(out))
        use = Use(data, split, False, Columns(x), prediction_terms, trust_links, memory)
        used = load(comm, checkpoint, use, pulse, say)
        N = len(used.data)
        with click.progressbar(
            length=N, label="predicting", hidden=comm.rank > 0 or not sys.stderr.isatty(), file=sys.stderr
        ) as bar:
            predict_split(
                comm,
                used.state,
                used.data,
                out,
                overwrite=overwrite,
                inputs=used.files,
                threads=used.threads,
                advance=bar.update,
                pulse=pulse,
                note=say,
            )
    if comm.rank == 0:
        click.echo(f"{out}: predictions for {counted(N, 'sample')} of {split}")
