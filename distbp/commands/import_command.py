"""`distbp import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from distbp.commands.options import trust_links_option
from distbp.ranks.launch import Launch


@click.command("import")
@click.argument("source", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="HDF5 file to write")
@click.option("--test", multiple=True, metavar="SOURCE", help="source of the split test; may be given several times")
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="part of the rows, of each class alike, that becomes the split test",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="of the choice of the test rows")
@click.option("--x", default="", help="columns that are inputs, with commas between  [default: all others]")
@click.option("--y", default="", help="columns with the labels or targets  [default: one called y, label, target, …]")
@click.option(
    "--kind",
    type=click.Choice(["auto", "labels", "targets"]),
    default="auto",
    show_default=True,
    help="what --y is; auto: whole numbers and text are labels, other numbers targets",
)
@click.option(
    "--header/--no-header",
    default=True,
    show_default=True,
    help="whether the first line of a CSV file names the columns; else they are 0, 1, 2, …",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "float64"]),
    default="auto",
    show_default=True,
    help="type of the stored inputs; auto: as they are, text as float32",
)
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip", "lzf"]),
    default="none",
    show_default=True,
    help="none trains fastest",
)
@click.option(
    "--split", default="", help="splits (groups) to take of HDF5 sources, with commas between  [default: all]"
)
@trust_links_option
@click.option("--overwrite", is_flag=True, help="replace the file if it exists")
@click.pass_obj
def import_command(
    launch: Launch, /, source: tuple[str, ...], out: Path, test: tuple[str, ...], **options: Any
) -> None:
    """Writes an HDF5 data set from SOURCEs: CSV, TSV, NPY, NPZ, IDX (MNIST's format), Parquet, HDF5.

    \b
    distbp import measurements.csv --y quality --test-fraction 0.2 --out data.h5
    distbp import train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz \\
        --test t10k-images-idx3-ubyte.gz --test t10k-labels-idx1-ubyte.gz --out mnist.h5
    distbp import simulation.h5 --x pressure,velocity --y drag --test-fraction 0.1 --out data.h5

    Several sources are one split, end to end; IDX and NPY files come in pairs, inputs and labels. An NPZ file has
    arrays x and y, or x_train, y_train, x_test, y_test. CSV, TSV, NPY and IDX may be gzipped. The groups of an HDF5
    file (netCDF-4 is one) are splits; one with data sets in no group is as a whole (--split /) the split train.
    """
    if not launch.only_first():
        return
    from distbp.progress import RowProgress
    from distbp.tables.import_data import ImportOptions, import_data

    for name, option in (("x", "x"), ("y", "y"), ("splits", "split")):
        options[name] = tuple(one.strip() for one in options.pop(option).split(",") if one.strip())
    progress = RowProgress()
    try:
        done = import_data(source, test, out, ImportOptions(**options), progress)
    finally:
        progress.close()
    splits = ", ".join(f"{rows} rows in {split}" for split, rows in done.splits.items())
    click.echo(f"{out}: {splits}; {done.width} inputs ({done.dtype}), {done.y}")
