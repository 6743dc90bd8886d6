"""A run made ready: data read, problem posed, state new or resumed, first files written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from distbp.batches import steps_per_epoch
from distbp.checkpoint import Checkpoint, Progress, history_columns
from distbp.communicator import Communicator, agree, from_first, on_first
from distbp.config import AUTO, Config, resume
from distbp.data import Split, data_files, read_split
from distbp.data_file import split_names
from distbp.errors import DataError, UsageError
from distbp.grains import default_grain, grain_count
from distbp.loader import Loader
from distbp.loading import held_bytes, make_loader, node_budget
from distbp.machine import differences, machine
from distbp.network import Parameters, aligned_zeros, initialize
from distbp.optimizers import Optimizer, make_optimizer
from distbp.problem import Problem, pose
from distbp.run_directory import RunDirectory
from distbp.threads import set_threads


@dataclass
class Run:
    """A run on one rank: what it is made of, and its state (`state.vector` is w, all W^l and b^l)."""

    comm: Communicator
    config: Config
    problem: Problem
    training: Split
    loader: Loader
    validation: Split | None
    batch_size: int
    steps_per_epoch: int
    state: Checkpoint
    directory: RunDirectory
    threads: tuple[int, str]

    def best(self) -> tuple[float, int]:
        """The lowest validation loss so far, and its epoch; (inf, 0) where there is none."""
        losses = self.state.history["validation_loss"]
        best = min((loss for loss in losses if not math.isnan(loss)), default=math.inf)
        return best, (losses.index(best) + 1 if best < math.inf else 0)


def prepare(
    comm: Communicator,
    config: Config,
    directory: RunDirectory,
    resume_with: Mapping[str, Any] | None,
    note: Callable[[str], None],
) -> Run:
    """Reads, checks and builds everything that a run needs, and writes its first files.  Raises DistbpError, agreed.

    `directory` is that of config.out, and is locked here; `note` tells the user, and is called on rank 0 only.
    """
    stored: Checkpoint | None = None
    if resume_with is not None:
        stored = from_first(comm, lambda: _load(directory, note))
        config = agree(comm, lambda: resume(stored.config, resume_with, "command line"))
    else:
        on_first(comm, lambda: directory.create(note))

    threads = set_threads(comm, config.threads, reproducible=config.reproducible)
    files = from_first(comm, lambda: data_files(config.data))
    config = replace(config, data=files if config.data else [])
    memory = node_budget(comm, config.memory)
    training = _read(comm, files, config, config.split, stored.problem if stored else None, memory)
    if comm.rank == 0 and training.why_not_shared:
        note(f"note      each rank holds the data for itself: {training.why_not_shared}")
    if stored:
        problem = stored.problem
        problem.check(comm, training)
        agree(comm, lambda: _check_same_data(stored, training))
        agree(comm, lambda: _check_epochs(stored, config))
    else:
        config, problem = pose(comm, config, training)
    config, validation = _read_validation(comm, config, files, problem, memory - held_bytes(training), note)

    batch_size = min(len(training), len(training) if config.batch_size == "all" else int(config.batch_size))
    config = _with_grain(config, batch_size)
    if config.reproducible:
        _note_idle_ranks(comm, config, batch_size, note)
    steps = steps_per_epoch(len(training), batch_size)
    config, loader, training = make_loader(comm, config, training, batch_size, memory - held_bytes(validation), note)
    vector = aligned_zeros(problem.network.parameter_count, config.dtype)
    if stored:
        vector[:] = stored.vector
        optimizer = {name: values.copy() for name, values in stored.optimizer.items()}
        history = {name: list(values) for name, values in _columns(problem, stored.history).items()}
        state = Checkpoint(config, problem, vector, optimizer, replace(stored.progress), history, stored.machines)
        on_first(comm, lambda: directory.reopen(state))
    else:
        initialize(Parameters(problem.network, vector), problem.network, config.seed, config.initialization)
        optimizer = optimizer_of(config).init(vector)
        state = Checkpoint(config, problem, vector, optimizer, Progress(), _columns(problem, {}))
    _record_machine(comm, state, threads[0], note)
    run = Run(comm, config, problem, training, loader, validation, batch_size, steps, state, directory, threads)

    def first_files() -> None:
        if not stored:
            directory.save(state, config.keep)
            directory.write_metrics(state.history)
        facts = [f"{name.replace('_', ' ')}: {fact}" for name, fact in state.machines[-1].items() if name != "step"]
        directory.write_config(config, [f"last started on {comm.describe()}; the bits depend on", *facts])

    on_first(comm, first_files)
    return run


def _load(directory: RunDirectory, note: Callable[[str], None]) -> Checkpoint:
    directory.lock(note)
    stored, path, skipped = directory.newest()
    for reason in skipped:
        note(f"skipped  {reason}")
    note(f"resuming {path}: {stored.progress.epoch} epochs, {stored.progress.step} steps done")
    return stored


def _read(
    comm: Communicator, files: list[str], config: Config, split: str, problem: Problem | None, memory: float
) -> Split:
    labels = problem.labels if problem else None
    return read_split(
        comm, files, split, config.x, config.y, labels=labels, trust_links=config.trust_links, memory=memory
    )


def _check_same_data(stored: Checkpoint, training: Split) -> None:
    progress = stored.progress
    if progress.samples != progress.epoch * len(training) + progress.epoch_samples:
        raise DataError(
            f"{training.where('x')} has {len(training)} samples now, which is not "
            "what this run was trained on; start another run with another --out"
        )


def _check_epochs(stored: Checkpoint, config: Config) -> None:
    if config.epochs < stored.progress.epoch:
        raise UsageError(
            f"--epochs {config.epochs}: the run has done {stored.progress.epoch} already; they count in all"
        )


def _record_machine(comm: Communicator, state: Checkpoint, threads: int, note: Callable[[str], None]) -> None:
    """Notes on what the bits depend on; where a reproducible run cannot keep its promise, the user is told."""
    machines = comm.allgather(machine(threads))
    here, before = machines[0], {**state.machines[-1]} if state.machines else None
    since = before.pop("step") if before else None
    if before != here:
        state.machines = [*state.machines, {"step": state.progress.step, **here}]
    if comm.rank > 0 or not state.config.reproducible:
        return
    if before and before != here:
        note(f"warning   from here on the bits may differ from those of the run so far (since step {since}):")
        for difference in differences(before, here):
            note(f"          {difference}")
    other = next((rank for rank, there in enumerate(machines) if there != here), None)
    if other is not None:
        note(f"warning   the ranks are not alike, so the bits may depend on their number; rank 0, and rank {other}:")
        for difference in differences(here, machines[other]):
            note(f"          {difference}")


def _with_grain(config: Config, n: int) -> Config:
    """The configuration with the grain that "auto" means for batches of n samples."""
    if not config.reproducible:
        return config
    return replace(config, grain=default_grain(n) if config.grain == AUTO else config.grain)


def _note_idle_ranks(comm: Communicator, config: Config, n: int, note: Callable[[str], None]) -> None:
    grains = grain_count(n, int(config.grain))
    if comm.rank == 0 and comm.size > grains:
        note(
            f"note      {grains} of {comm.size} ranks have work: batches of n = {n} have {grains} "
            f"grain{'s' * (grains > 1)} of {config.grain} samples. A new run with a smaller --grain or a larger "
            "--batch-size uses more ranks; its result is another one, and again the same on any number of ranks"
        )


def _read_validation(
    comm: Communicator, config: Config, files: list[str], problem: Problem, memory: float, note: Callable[[str], None]
) -> tuple[Config, Split | None]:
    if config.validation_split == AUTO:
        found = from_first(comm, lambda: all("test" in split_names(file) for file in files))
        config = replace(config, validation_split="test" if found and config.split != "test" else "")
        if not found and comm.rank == 0:
            note('no split "test": no validation, and no best.h5 (see --validation-split)')
    if not config.validation_split:
        return config, None
    validation = _read(comm, files, config, config.validation_split, problem, memory)
    problem.check(comm, validation)
    return config, validation


def _columns(problem: Problem, stored: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: stored.get(name, []) for name in history_columns(problem.metric)}


def optimizer_of(config: Config) -> Optimizer:
    """The optimizer of a configuration."""
    return make_optimizer(
        config.optimizer,
        momentum=config.momentum,
        nesterov=config.nesterov,
        beta1=config.beta1,
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
    )
