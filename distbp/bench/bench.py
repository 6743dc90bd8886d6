"""`distbp bench`: from a configuration and the ranks at hand to what a step would take on any number of nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from distbp import __version__
from distbp.bench.chart import check_chart
from distbp.bench.findings import Findings, Wanted
from distbp.bench.measure import Measured, measure
from distbp.bench.memory_plan import bench_plan
from distbp.bench.model import doubled
from distbp.bench.workload import Task, random_problem, random_rows, random_split, shape_without_data
from distbp.data.layout import CLASSES, TARGETS
from distbp.data.problem import network_for
from distbp.data.split import Split, data_files, read_labels
from distbp.data.survey import survey
from distbp.engine.choice import choose_engine
from distbp.errors import DistbpError, UsageError
from distbp.mathematics.batches import batch_samples
from distbp.mathematics.grains import default_grain
from distbp.mathematics.losses import LOSSES, default_loss
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator, agree, from_first, on_first
from distbp.ranks.memory_plan import Measured as RankMemory
from distbp.ranks.same_everywhere import check_options, compare_files
from distbp.ranks.stop import Pulse
from distbp.ranks.threads import set_threads
from distbp.settings.config import Config, as_dict, flag
from distbp.settings.option import AUTO

REST_SECONDS = 0.002  # those who wait leave their cores to others
ROWS = 2**20  # batches of the data set that stands in where there are no data


def bench(
    comm: Communicator,
    config: Config,
    wanted: Wanted,
    note: Callable[[str], None],
    pulse: Pulse = lambda phase: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Measures on all ranks, on half of them, …, on one of each node.  Raises DistbpError, agreed.

    `note`: tells the user, on rank 0; `progress` is called there again and again, with what is being measured.
    """
    options = {flag(name): value for name, value in as_dict(config).items() if name != "out"}
    check_options(comm, {**options, **wanted.options()})
    if wanted.out:
        on_first(comm, lambda: check_chart(Path(wanted.out), config.data, overwrite=wanted.overwrite))
    here, rank_memory = comm.node_ranks(), RankMemory(comm)
    everywhere = comm.allgather(here)
    nodes, most = len({min(ranks) for ranks in everywhere}), min(map(len, everywhere))
    if comm.rank == 0 and most < max(map(len, everywhere)):
        note(f"note      {most} ranks of each node are used, for not all nodes have more")
    threads = set_threads(comm, config.threads, reproducible=config.reproducible)  # of all ranks; what is said of them
    for line in threads.notes if comm.rank == 0 else ():
        note(line)
    config, shape, network = _shape(comm, config, wanted, note)
    n = batch_samples(config.batch_size, len(shape))
    if config.reproducible and config.grain == AUTO:
        config = replace(config, grain=default_grain(n))
    if comm.rank == 0:
        note(f"distbp {__version__}: {comm.describe()} on {nodes} node{'s' * (nodes > 1)}")
        note(f"threads   {threads.describe()} for each rank")
        _introduce(config, wanted, network, n, note)
    used = halves(most)
    rows = random_rows(shape, n)
    problem = random_problem(network, config, shape)
    engine = choose_engine(comm, config, problem, shape)
    if comm.rank == 0:
        note(f"engine    {engine.describe()}")
    task = Task(config, problem, shape, np.empty(0, np.int64), n, engine.is_compiled, threads.count)
    bench_plan(rank_memory, comm, task, rows, used, nodes).check()
    order = np.random.default_rng(config.seed).permutation(rows)
    task = replace(task, data=random_split(comm, shape, rows, config.seed), order=order)

    found, idle = [], comm.patiently(lambda: time.sleep(REST_SECONDS))
    for r in used:
        works, seconds = here.index(comm.rank) < r, wanted.seconds / len(used)
        one = _on_some(comm, idle, task, works, doubled(wanted.nodes), seconds, pulse, progress)
        found.append(comm.broadcast(one))
    return Findings(config, network, n, task.grain, nodes, [one for one in found if one])


def _introduce(config: Config, wanted: Wanted, network: Network, n: int, note: Callable[[str], None]) -> None:
    grains = f"; reproducible, in grains of {config.grain}" if config.reproducible else ""
    if not wanted.inputs:
        files = config.data[0] if config.data else "the digits data set that comes with distbp"
        note(f"data      {files}{f' and {len(config.data) - 1} more' if len(config.data) > 1 else ''}")
    note(f"network   {network.describe()}; {network.parameter_count} parameters, {config.dtype}")
    note(f"training  {config.optimizer}, batches of n = {n}{grains}; on random numbers")


def halves(ranks: int) -> list[int]:
    """12, 6, 3, 1"""
    found = [ranks]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def _shape(
    comm: Communicator, config: Config, wanted: Wanted, note: Callable[[str], None]
) -> tuple[Config, Split, Network]:
    """The columns and classes of the data, the configuration with what its "auto" meant, and the network."""
    if wanted.inputs:
        agree(comm, lambda: _check_without_data(config, wanted))
        is_binary = LOSSES[_loss(config)].is_binary and wanted.outputs == 1
        labelled = is_binary or not LOSSES[_loss(config)].takes_targets
        outputs = 2 if is_binary else wanted.outputs
        shape = shape_without_data(wanted.inputs, outputs, ROWS * int(config.batch_size), labelled=labelled)
    else:
        files = from_first(comm, lambda: data_files(config.data))
        compare_files(comm, files, note)
        found = survey(comm, config, files)
        config, shape = found.config, read_labels(comm, found.training)
    config, network = agree(comm, lambda: network_for(config, shape))
    return config, shape, network


def _check_without_data(config: Config, wanted: Wanted) -> None:
    if config.data:
        raise UsageError("--inputs and --outputs are for a network without DATA; its data have their own")
    if config.batch_size == "all":
        raise UsageError("--batch-size all needs DATA; without them give the samples of a batch")
    if wanted.outputs < 2 and not LOSSES[_loss(config)].takes_targets:
        raise UsageError(
            "--outputs 1: a classifier needs two classes or more; for one real target add "
            f"--loss {default_loss(TARGETS)}"
        )


def _loss(config: Config) -> str:
    """The name of the loss of a network without data: unless told otherwise it is a classifier."""
    return default_loss(CLASSES) if config.loss == AUTO else config.loss


def _on_some(
    comm: Communicator,
    idle: Communicator,
    task: Task,
    works: bool,
    predicted: list[int],
    seconds: float,
    pulse: Pulse,
    progress: Callable[[str], None],
) -> Measured | None:
    """What the ranks that work have found; the others wait in `idle`.  Raises DistbpError, agreed by all."""
    workers, found, failure = comm.split(int(works)), None, None
    if works:
        try:
            threads = set_threads(workers, task.config.threads, reproducible=task.config.reproducible).count
            words = f"measuring {len(workers.node_ranks())} x {threads} (ranks x threads)"
            found = measure(
                workers, replace(task, threads=threads), predicted, seconds, pulse, partial(progress, words)
            )
        except DistbpError as error:
            failure = error
    idle.allreduce(np.zeros(1))

    def raise_failure() -> None:
        if failure:
            raise failure
        pulse("measuring")

    agree(comm, raise_failure)
    return found
