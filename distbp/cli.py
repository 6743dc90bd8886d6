"""The command line.  Only what `--help` needs is imported here; MPI, NumPy and HDF5 start inside the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from distbp import __version__
from distbp.config import FIELDS, Config, check_each, flag, kind, merge, parse, read_toml
from distbp.errors import DistbpError
from distbp.ranks.launch import Launch, printable

CONFIG_FILE = "distbp.toml"


class Grouped(click.Command):
    """A command whose help lists its options under the headings of the configuration."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """One section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record:
                field = FIELDS.get(parameter.name or "")
                sections.setdefault(field.metadata["group"] if field else "Other", []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each field of `Config`, but DATA."""
    for name in reversed(FIELDS):
        if name != "data":
            function = _option(name)(function)
    return function


def _option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    limits, default = FIELDS[name].metadata, getattr(Config(), name)
    if isinstance(default, list):
        default = ",".join(map(str, default))
    words: dict[str, Any] = {"default": None, "help": limits["help"], "show_default": str(default) or '""'}
    match kind(name):
        case "bool":
            return click.option(f"{flag(name)}/--no-{flag(name)[2:]}", name, **words)
        case "int":
            words["type"] = click.INT
        case "float":
            words["type"] = click.FLOAT
        case "str" if limits["choices"]:
            words["type"] = click.Choice(limits["choices"])
        case "list[int]" | "int | str":
            words["metavar"] = "N,N,..." if kind(name) == "list[int]" else f"N|{limits['word']}"
    return click.option(flag(name), name, **words)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="distbp %(version)s")
def cli() -> None:
    """Trains feed-forward neural networks on MPI ranks, with the exact gradient of the whole batch.

    Each rank runs backpropagation over its shard of a batch; the gradients are summed with Allreduce and divided by
    n, the number of samples of the whole batch; rank 0 writes checkpoints in HDF5.

    \b
    mpirun -n 4 distbp train data.h5      train on 4 ranks
    distbp train                          train on the digits that come with distbp, in one process
    """


@cli.command(cls=Grouped)
@click.argument("data", nargs=-1)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="TOML file with options; the command line wins"
)
@click.option("--resume", is_flag=True, help="continue the run in --out from its newest good checkpoint")
@click.option(
    "--dry-run",
    is_flag=True,
    help="do all that comes before the first step, show what the run would be and how much memory it takes, and stop; "
    "no file is written",
)
@click.option("--simulate-ranks", type=click.IntRange(1, 1024), help="threads that stand in for ranks, without MPI")
@config_options
@click.pass_obj
def train(
    launch: Launch,
    /,
    data: tuple[str, ...],
    config_file: Path | None,
    resume: bool,
    dry_run: bool,
    simulate_ranks: int | None,
    **options: Any,
) -> None:
    """Trains a network on DATA, HDF5 files with a group per split.

    Without DATA: as distbp.toml in this directory says; without that, on the digits data set that comes with distbp.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped on request after a checkpoint (run again with --resume).
    """
    given, origin, notes = _given(data, config_file, options)
    if resume:  # the rest of the configuration is the run's
        check_each(given, origin)
        asked = ("out", "stop_signals", "grace", "stall_minutes")
        config = merge({name: given[name] for name in asked if name in given}, origin)
    else:
        config = merge(given, origin)
    if simulate_ranks and launch.launched:
        raise click.UsageError("--simulate-ranks is for one process; mpirun has started real ranks")
    from distbp.ranks.stop import StopRequest

    stop = StopRequest(config.stop_signals.split(",") if config.stop_signals else ())
    comm = launch.connect()
    stop.listen()

    from distbp.ranks.communicator import Communicator, run_threads
    from distbp.ranks.watchdog import Watchdog
    from distbp.training.report import ConsoleReporter
    from distbp.training.train import train as train_network

    watchdog = Watchdog(launch.rank, stop, config.stall_minutes * 60, config.grace)

    def on_rank(rank_comm: Communicator) -> None:
        reporter = ConsoleReporter() if rank_comm.rank == 0 else None
        try:
            if reporter:
                for note in notes:
                    reporter.note(note)
            run = train_network(
                rank_comm,
                config,
                resume_with=given if resume else None,
                stop_requested=stop,
                beat=watchdog.beat,
                reporter=reporter,
                dry_run=dry_run,
            )
            if reporter and dry_run:
                reporter.dry_run(run)
        finally:
            if reporter:
                reporter.close()

    try:
        if simulate_ranks:
            run_threads(simulate_ranks, on_rank)
        else:
            on_rank(comm)
    finally:
        watchdog.close()


def _given(
    data: tuple[str, ...], config_file: Path | None, options: dict[str, Any]
) -> tuple[dict[str, Any], str, list[str]]:
    """The options that were given, in the file or on the command line, where from, and what to tell the user."""
    origin, notes = "command line", []
    given: dict[str, Any] = {}
    if config_file is None and not data and Path(CONFIG_FILE).exists():
        config_file = Path(CONFIG_FILE)
        notes.append(f"reading {CONFIG_FILE} of this directory, because no DATA was given")
    if config_file:
        given.update(read_toml(config_file))
        check_each(given, str(config_file))
    for name, value in options.items():
        if value is not None:
            given[name] = parse(name, value) if isinstance(value, str) else value
    if data:
        given["data"] = list(data)
    if given.get("data"):
        files = given["data"] if isinstance(given["data"], list) else [given["data"]]
        given["data"] = [os.path.abspath(file) for file in files]
    return given, origin, notes


def _checked(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """An option that `train` has too, within the same limits."""
    assert parameter.name
    return float(check_each({parameter.name: value}, "command line")[parameter.name])


memory_option = click.option(
    "--memory",
    type=click.FLOAT,
    default=Config.memory,
    show_default=True,
    callback=_checked,
    help=FIELDS["memory"].metadata["help"],
)
trust_links_option = click.option("--trust-links", is_flag=True, help=FIELDS["trust_links"].metadata["help"])


@cli.command()
@click.argument("checkpoint")
@click.argument("data", nargs=-1)
@click.option("--split", default="test", show_default=True, help="group of the files to evaluate on")
@memory_option
@trust_links_option
@click.pass_obj
def evaluate(
    launch: Launch, checkpoint: str, data: tuple[str, ...], split: str, memory: float, trust_links: bool
) -> None:
    """Prints the loss and the metric of CHECKPOINT on a split of DATA.

    CHECKPOINT is a file, or a run directory (then its best.h5). Without DATA: the data the network was trained on.
    The figures are exact for any number of ranks: each sample counts once.
    """
    comm = launch.connect()
    from distbp.gradient.evaluate import Evaluation
    from distbp.prediction.trained import load

    used = load(comm, checkpoint, data, split, targets=True, trust_links=trust_links, memory=memory)
    state = used.state
    scores = Evaluation(comm, state.problem, used.data, state.config.dtype)(state.parameters)
    if comm.rank == 0:
        click.echo(
            f"{split}: {scores.samples} samples, {state.problem.network.loss.name} loss {scores.loss:.8g}, "
            f"{state.problem.metric} {scores.metric:.8g}"
        )


@cli.command()
@click.argument("checkpoint")
@click.argument("data", nargs=-1)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="file to write: CSV where its name ends in .csv, else HDF5",
)
@click.option("--split", default="test", show_default=True, help="group of the files to predict")
@click.option("--overwrite", is_flag=True, help="replace the file if it exists")
@memory_option
@trust_links_option
@click.pass_obj
def predict(
    launch: Launch,
    checkpoint: str,
    data: tuple[str, ...],
    out: Path,
    split: str,
    overwrite: bool,
    memory: float,
    trust_links: bool,
) -> None:
    """Writes the predictions of CHECKPOINT for a split of DATA.

    HDF5 has `class` (N,) and `probability` (N, K) for a classifier, `y` (N, outputs) in the units of the targets
    otherwise. CSV has the same in columns: class and probability_LABEL for each label, or the targets. CHECKPOINT is
    a file, or a run directory. Without DATA: the data the network was trained on.
    """
    comm = launch.connect()
    from distbp.prediction.predict import predict as predict_split
    from distbp.prediction.trained import load

    used = load(comm, checkpoint, data, split, targets=False, trust_links=trust_links, memory=memory)
    N = len(used.data)
    with click.progressbar(
        length=N, label="predicting", hidden=comm.rank > 0 or not sys.stderr.isatty(), file=sys.stderr
    ) as bar:
        predict_split(comm, used.state, used.data, out, overwrite=overwrite, inputs=used.files, advance=bar.update)
    if comm.rank == 0:
        click.echo(f"{out}: predictions for {N} samples of {split}")


@cli.command()
@click.argument("file", nargs=-1, required=True)
@click.option("--digest", is_flag=True, help="print a hash of the parameters (SHA-256) of each checkpoint")
@click.option("--diff", is_flag=True, help="say where two checkpoints differ, and by how many ulps; exit code 1 if so")
@click.option("--x", default="x", show_default=True, help="of a data set: names of the inputs, with commas between")
@click.option("--y", default="y", show_default=True, help="of a data set: names of the labels or targets")
@click.option(
    "--statistics/--no-statistics",
    default=True,
    show_default=True,
    help="of a data set: read all of it, for ranges, means, classes, gaps",
)
@trust_links_option
@click.pass_obj
def inspect(launch: Launch, /, file: tuple[str, ...], digest: bool, diff: bool, **look: Any) -> None:
    """Says what is in each FILE: a data set, a checkpoint, or a run directory (then its best.h5).

    Of a data set: layout, statistics, what distbp train makes of it, and advice where its layout is slow to read.
    """
    if digest and diff:
        raise click.UsageError("--digest and --diff: expected one of them")
    if diff and len(file) != 2:
        raise click.UsageError(f"--diff: expected two checkpoints, got {len(file)}")
    if not launch.only_first():
        return
    from distbp.inspection.data_inspection import View
    from distbp.inspection.file_inspection import describe, describe_difference, describe_digest
    from distbp.progress import RowProgress

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
        for name in file:
            for line in describe_digest(name) if digest else describe(name, View(**look, progress=progress)):
                click.echo(printable(line))
    finally:
        progress.close()


@cli.command("import")
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


@cli.command()
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="of parameters, samples and directions"
)
@click.option("--verbose", is_flag=True, help="print every network, not only the worst ones")
@click.pass_obj
def gradcheck(launch: Launch, seed: int, verbose: bool) -> None:
    """Compares backpropagation with finite differences, for every σ, L and depth. Exit code 1 if one is off."""
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


@cli.command()
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
