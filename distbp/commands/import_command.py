"""`distbp import`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from distbp.commands.options import Grouped, memory_option, trust_links_option
from distbp.counted import counted
from distbp.ranks.launch import Launch

NAMES = ("x", "y", "drop", "categorical")
COLUMNS = (
    click.option(
        "--x", default="", help="Columns that are inputs, with commas between them.  [default: x, or all others]"
    ),
    click.option(
        "--y", default="", help="Columns with the labels or targets.  [default: one called y, label, target, …]"
    ),
    click.option("--drop", default="", help="Columns to leave out."),
    click.option(
        "--categorical",
        default="",
        help="Inputs that become a column for each value.  [default: text with few different values]",
    ),
    click.option(
        "--y-from",
        multiple=True,
        metavar="SOURCE",
        help="Source of the labels or targets, row for row, if SOURCE has none. One for each SOURCE, in their order.",
    ),
    click.option("--unlabelled", is_flag=True, help="There are no labels or targets: make a table for distbp predict."),
    click.option(
        "--like",
        default="",
        metavar="CHECKPOINT|RUN",
        help="Take inputs, categories and names as this network knows them.",
    ),
    click.option(
        "--task",
        type=click.Choice(["auto", "classes", "targets"]),
        default="auto",
        show_default=True,
        help="What y is. auto: text and whole numbers are labels of classes, other numbers are targets. If y may be "
        "either, distbp asks.",
    ),
)
TEST = (
    click.option(
        "--test", multiple=True, metavar="SOURCE", help="Source of the split test. It may be given several times."
    ),
    click.option(
        "--test-fraction",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Part of the rows that becomes the split test, drawn from each class alike. If rows belong together, such "
        "as steps of a run or images of a patient, use --test-group, --test-where or --test-last.",
    ),
    click.option(
        "--test-group",
        default="",
        metavar="COLUMN",
        help="With --test-fraction: rows with the same value in this column stay together.",
    ),
    click.option(
        "--test-where",
        default="",
        metavar="COLUMN=VALUE,…",
        help="Rows for the split test: those with one of these values. Of several columns, one of each.",
    ),
    click.option(
        "--test-last",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Part of the rows, at the end of the sources, that becomes the split test. For rows in order of time.",
    ),
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the choice of the test rows."
    ),
    click.option(
        "--split",
        default="",
        help="Splits to take from sources that have some, with commas between them.  [default: all]",
    ),
    click.option("--each", is_flag=True, help="Each file, or with a star in the names each group, is one sample."),
)
VALUES = (
    click.option(
        "--missing-words",
        default=None,
        metavar="WORDS",
        help="Texts that mean that a value is missing, with commas between.  [default: nothing, NA, nan, ?, -, …]",
    ),
    click.option(
        "--on-missing",
        type=click.Choice(["refuse", "drop", "mean"]),
        default="refuse",
        show_default=True,
        help="What to do with missing values: stop with an error, leave out their rows, or put in the mean of the "
        "training rows (inputs only).",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "float64"]),
        default="auto",
        show_default=True,
        help="Type of the stored inputs. auto: as they are; text as float32, or as float64 if digits would be lost.",
    ),
    click.option(
        "--compression",
        type=click.Choice(["none", "gzip", "lzf"]),
        default="none",
        show_default=True,
        help="Compression of the data set. none trains fastest.",
    ),
)
TEXT = (
    click.option(
        "--header/--no-header",
        default=None,
        help="The first line of text has the names of the columns, or not.  [default: found by looking]",
    ),
    click.option(
        "--delimiter",
        default="auto",
        show_default=True,
        metavar="auto|CHAR|comma|semicolon|tab|blanks",
        help="What stands between two values of text. auto: found by looking.",
    ),
    click.option("--decimal", default=".", show_default=True, metavar=".|,", help="Decimal mark in text."),
    click.option("--thousands", default="", metavar="CHAR", help="Mark between thousands in text.  [default: none]"),
    click.option(
        "--encoding",
        default="auto",
        show_default=True,
        help="Encoding of text. auto: UTF-8, or as its first bytes say.",
    ),
    click.option(
        "--format",
        type=click.Choice(["auto", "text", "libsvm", "arff"]),
        default="auto",
        show_default=True,
        help="Format of text. auto: found by looking.",
    ),
)


def _all(*groups: tuple[Callable[..., Any], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([one for group in groups for one in group]):
            function = option(function)
        return function

    return add


MOST_USED = ("out", "y", "x", "drop", "test_fraction", "test", "on_missing", "task", "overwrite")
HEADINGS = {
    "Columns": ("categorical", "y_from", "unlabelled", "like"),
    "Rows": ("test_group", "test_where", "test_last", "seed", "split", "each"),
    "Values": ("missing_words", "dtype", "compression"),
    "Text files": ("header", "delimiter", "decimal", "thousands", "encoding", "format"),
}


@click.command("import", cls=Grouped, first=MOST_USED, headings=HEADINGS)
@click.argument("source", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="HDF5 file to write.")
@_all(COLUMNS, TEST, VALUES, TEXT)
@memory_option
@trust_links_option
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.pass_obj
def import_command(
    launch: Launch, /, source: tuple[str, ...], out: Path, test: tuple[str, ...], **options: Any
) -> None:
    """Makes an HDF5 data set from CSV and other files.

    \b
    distbp import measurements.csv --y quality --test-fraction 0.2 --out data.h5
    distbp import simulation.h5 --x pressure,velocity --y drag --out data.h5
    distbp import train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz \\
        --test t10k-images-idx3-ubyte.gz --test t10k-labels-idx1-ubyte.gz \\
        --out mnist.h5

    A SOURCE is a file of text, NPY, NPZ, IDX, HDF5, netCDF, MATLAB, FITS, Parquet, Arrow, ROOT or Zarr. Several
    sources are one split, end to end. IDX and NPY files come in pairs, first the inputs and then the labels. The groups
    of an HDF5 file are splits; a file without groups is the split train.

    Names with a comma stand in quotes: "mass, dry". Brackets take a part of an array: jets[:, 12:20]. The lines below
    the result say which columns were taken, which were left out and why, and what else was decided.

    The page `distbp help data` says more.
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
