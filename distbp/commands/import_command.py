"""`distbp import`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from distbp.commands.options import memory_option, trust_links_option
from distbp.counted import counted
from distbp.ranks.launch import Launch

NAMES = ("x", "y", "drop", "categorical")
COLUMNS = (
    click.option("--x", default="", help="columns that are inputs, with commas between  [default: x, or all others]"),
    click.option(
        "--y", default="", help="columns with the labels or targets  [default: one called y, label, target, …]"
    ),
    click.option("--drop", default="", help="columns to leave out"),
    click.option(
        "--categorical",
        default="",
        help="inputs that become a column for each value, also numbers  [default: text with few different values]",
    ),
    click.option(
        "--y-from",
        multiple=True,
        metavar="SOURCE",
        help="source of the labels or targets, row for row, where they are not in SOURCE; one for each, in their order",
    ),
    click.option("--unlabelled", is_flag=True, help="there are no labels or targets: a table for distbp predict"),
    click.option(
        "--like", default="", metavar="CHECKPOINT|RUN", help="inputs, categories and names as this network knows them"
    ),
    click.option(
        "--task",
        type=click.Choice(["auto", "classes", "targets"]),
        default="auto",
        show_default=True,
        help="what --y is; auto: text and whole numbers are labels of classes, other numbers are targets, and what may "
        "be either is asked about",
    ),
)
TEST = (
    click.option(
        "--test", multiple=True, metavar="SOURCE", help="source of the split test; may be given several times"
    ),
    click.option(
        "--test-fraction",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="part of the rows, drawn of each class alike, that becomes the split test; deceives where rows belong "
        "together (steps of a run, images of a patient): the test rows then have siblings that were trained on, and "
        "--test-group, --test-where or --test-last tell more",
    ),
    click.option(
        "--test-group", default="", metavar="COLUMN", help="with --test-fraction: rows with one value stay together"
    ),
    click.option(
        "--test-where",
        default="",
        metavar="COLUMN=VALUE,…",
        help="rows for the split test: those with one of the values; of several columns, with one of each",
    ),
    click.option(
        "--test-last",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="part of the rows, at the end of the sources, that becomes the split test: for rows in order of time",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="of the choice of the test rows"),
    click.option(
        "--split", default="", help="splits (groups) to take of sources that have some, with commas  [default: all]"
    ),
    click.option("--each", is_flag=True, help="a group of an HDF5 file, or a file, is one sample"),
)
VALUES = (
    click.option(
        "--missing-words",
        default=None,
        metavar="WORDS",
        help="texts that mean that a value is missing, with commas  [default: nothing, NA, nan, None, NULL, ?, -, …]",
    ),
    click.option(
        "--on-missing",
        type=click.Choice(["refuse", "drop", "mean"]),
        default="refuse",
        show_default=True,
        help="what happens to missing values: an error; their rows are left out; or, of inputs, the mean of the "
        "training rows",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "float64"]),
        default="auto",
        show_default=True,
        help="type of the stored inputs; auto: as they are; text as float32, or float64 where that would lose digits",
    ),
    click.option(
        "--compression",
        type=click.Choice(["none", "gzip", "lzf"]),
        default="none",
        show_default=True,
        help="none trains fastest",
    ),
)
TEXT = (
    click.option(
        "--header/--no-header",
        default=None,
        help="whether the first line of text names the columns; else they are 0, 1, 2, …  [default: found by looking]",
    ),
    click.option(
        "--delimiter",
        default="auto",
        show_default=True,
        metavar="auto|CHAR|comma|semicolon|tab|blanks",
        help="what stands between two values of text",
    ),
    click.option("--decimal", default=".", show_default=True, metavar=".|,", help="decimal mark in text"),
    click.option("--thousands", default="", metavar="CHAR", help="mark between thousands in text  [default: none]"),
    click.option("--encoding", default="auto", show_default=True, help="of text; auto: UTF-8, or by its first bytes"),
    click.option(
        "--format",
        type=click.Choice(["auto", "text", "libsvm", "arff"]),
        default="auto",
        show_default=True,
        help="of text; auto: found by looking",
    ),
)


def _all(*groups: tuple[Callable[..., Any], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([one for group in groups for one in group]):
            function = option(function)
        return function

    return add


@click.command("import")
@click.argument("source", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="HDF5 file to write")
@_all(COLUMNS, TEST, VALUES, TEXT)
@memory_option
@trust_links_option
@click.option("--overwrite", is_flag=True, help="replace the file if it exists")
@click.pass_obj
def import_command(
    launch: Launch, /, source: tuple[str, ...], out: Path, test: tuple[str, ...], **options: Any
) -> None:
    """Writes an HDF5 data set from SOURCEs: text (CSV and its like), NPY, NPZ, IDX (MNIST's format), Parquet, HDF5, …

    \b
    distbp import measurements.csv --y quality --test-fraction 0.2 --out data.h5
    distbp import train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz \\
        --test t10k-images-idx3-ubyte.gz --test t10k-labels-idx1-ubyte.gz --out mnist.h5
    distbp import simulation.h5 --x pressure,velocity --y drag --test-last 0.1 --out data.h5

    Several sources are one split, end to end; IDX and NPY files come in pairs, inputs and labels. An NPZ file has
    arrays x and y, or x_train, y_train, x_test, y_test. The groups of an HDF5 file (netCDF-4 is one) are splits; one
    with data sets in no group is as a whole (--split /) the split train.

    Names may stand in quotes ("mass, dry"). Of an array, brackets take a part: jets[:, 12:20]. Which columns were
    taken, which were left out and why, and all else that was decided, is said in the lines below the result.
    """
    if not launch.only_first():
        return
    from distbp.progress import RowProgress
    from distbp.tables.choice import words
    from distbp.tables.import_data import ImportOptions, import_data
    from distbp.tables.missing import words_of

    for name in NAMES:
        options[name] = words(options[name], f"--{name}")
    options["splits"] = tuple(map(str, words(options.pop("split"), "--split")))
    if options["missing_words"] is None:
        del options["missing_words"]
    else:
        options["missing_words"] = words_of(options["missing_words"])
    progress = RowProgress()
    try:
        done = import_data(source, test, out, ImportOptions(**options), progress)
    finally:
        progress.close()
    splits = ", ".join(f"{counted(rows, 'row')} in {split}" for split, rows in done.splits.items())
    inputs = f"{counted(done.width, 'input')} ({done.dtype})"
    click.echo("\n".join([f"{out}: {splits}; {inputs}, {done.y}", *done.notes]))
