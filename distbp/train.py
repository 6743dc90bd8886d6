"""Training: data → network → backpropagation → reduction → optimizer → checkpoint, on every rank alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.backprop import Piece, backward, forward, loss_sum, piece_samples
from distbp.batches import epoch_order, pieces, shard, steps_per_epoch
from distbp.checkpoint import Checkpoint, Progress
from distbp.communicator import Communicator, agree, on_first
from distbp.config import AUTO, Config, resume
from distbp.data import Split, data_files, read_split, split_names
from distbp.errors import DataError, DivergedError, Stopped
from distbp.evaluate import Evaluation
from distbp.feed import Feed
from distbp.network import Parameters, aligned_zeros, initialize
from distbp.optimizers import make_optimizer
from distbp.problem import Problem, pose
from distbp.reduction import Reduction, Tally
from distbp.run_directory import RunDirectory
from distbp.schedules import Schedule


class Reporter(Protocol):
    """Who tells the user how it goes; on rank 0 only."""

    def start(self, run: Run) -> None:
        """Everything is ready, the first step follows."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def step(self, samples: int) -> None:
        """A batch of this many samples is done."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done; its row of metrics.csv."""

    def finish(self, run: Run, seconds: float) -> None:
        """Training is done."""


@dataclass
class Run:
    """A run on one rank: what it is made of, and its state (`state.vector` is w, all W^l and b^l)."""

    comm: Communicator
    config: Config
    problem: Problem
    training: Split
    validation: Split | None
    batch_size: int
    steps_per_epoch: int
    state: Checkpoint
    directory: RunDirectory

    def best(self) -> tuple[float, int]:
        """The lowest validation loss so far, and its epoch; (inf, 0) where there is none."""
        losses = self.state.history["validation_loss"]
        best = min((loss for loss in losses if not math.isnan(loss)), default=math.inf)
        return best, (losses.index(best) + 1 if best < math.inf else 0)


def train(
    comm: Communicator,
    config: Config,
    *,
    resume_with: Mapping[str, Any] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    reporter: Reporter | None = None,
    facts: tuple[str, ...] = (),
) -> Run:
    """Trains as configured; `resume_with` (options given again, maybe none) continues the run in `config.out`.

    Every rank calls this with the same arguments; only rank 0 has a reporter and writes.  Raises DistbpError.
    """
    run = _prepare(comm, config, resume_with, reporter, facts)
    if reporter:
        reporter.start(run)
    started = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the loss is watched instead
        _epochs(run, stop_requested, reporter)
    if reporter:
        reporter.finish(run, time.perf_counter() - started)
    return run


# --- before the first step ------------------------------------------------------------------------------------------
def _prepare(
    comm: Communicator,
    config: Config,
    resume_with: Mapping[str, Any] | None,
    reporter: Reporter | None,
    facts: tuple[str, ...],
) -> Run:
    directory = RunDirectory(config.out)
    stored: Checkpoint | None = None
    if resume_with is not None:
        stored = comm.broadcast(on_first(comm, lambda: _load(directory, reporter)))
        assert stored is not None
        config = agree(comm, lambda: resume(stored.config, resume_with, "command line"))
    else:
        on_first(comm, lambda: directory.create())

    files = data_files(config.data)
    training = read_split(comm, files, config.split, config.x, config.y)
    if stored:
        problem = stored.problem
        agree(comm, lambda: _check_same_data(stored, training))
    else:
        config, problem = pose(comm, config, training)
    config, validation = _read_validation(comm, config, files, problem, reporter)

    batch_size = len(training) if config.batch_size == "all" else int(config.batch_size)
    steps = steps_per_epoch(len(training), batch_size)
    vector = aligned_zeros(problem.network.parameter_count, config.dtype)
    if stored:
        vector[:] = stored.vector
        optimizer = {name: values.copy() for name, values in stored.optimizer.items()}
        history = {name: list(values) for name, values in _columns(problem, stored.history).items()}
        state = Checkpoint(config, problem, vector, optimizer, replace(stored.progress), history)
        on_first(comm, lambda: directory.reopen(state))
    else:
        initialize(Parameters(problem.network, vector), problem.network, config.seed, config.initialization)
        optimizer = _optimizer(config).init(vector)
        state = Checkpoint(config, problem, vector, optimizer, Progress(), _columns(problem, {}))
    run = Run(comm, config, problem, training, validation, batch_size, steps, state, directory)

    def first_files() -> None:
        if not stored:
            directory.save(state, config.keep)
            directory.write_metrics(state.history)
        directory.write_config(config, list(facts))

    on_first(comm, first_files)
    return run


def _load(directory: RunDirectory, reporter: Reporter | None) -> Checkpoint:
    stored, path, skipped = directory.newest()
    if reporter:
        for reason in skipped:
            reporter.note(f"skipped  {reason}")
        reporter.note(f"resuming {path}: {stored.progress.epoch} epochs, {stored.progress.step} steps done")
    return stored


def _check_same_data(stored: Checkpoint, training: Split) -> None:
    stored.problem.check(training)
    progress = stored.progress
    if progress.samples != progress.epoch * len(training) + progress.epoch_samples:
        raise DataError(
            f"{training.sources[0][0]}: split {training.name} has {len(training)} samples now, which is not "
            "what this run was trained on; start another run with another --out"
        )


def _read_validation(
    comm: Communicator, config: Config, files: list[str], problem: Problem, reporter: Reporter | None
) -> tuple[Config, Split | None]:
    if config.validation_split == AUTO:
        found = agree(comm, lambda: all("test" in split_names(file) for file in files))
        config = replace(config, validation_split="test" if found and config.split != "test" else "")
        if not found and reporter:
            reporter.note('no split "test": no validation, and no best.h5 (see --validation-split)')
    if not config.validation_split:
        return config, None
    validation = read_split(comm, files, config.validation_split, config.x, config.y)
    agree(comm, lambda: problem.check(validation))
    return config, validation


def _columns(problem: Problem, stored: dict[str, list[float]]) -> dict[str, list[float]]:
    names = [
        "epoch",
        "step",
        "train_loss",
        "validation_loss",
        f"train_{problem.metric}",
        f"validation_{problem.metric}",
    ]
    names += ["learning_rate", "samples_per_second", "seconds"]
    return {name: stored.get(name, []) for name in names}


def _optimizer(config: Config) -> Any:
    return make_optimizer(
        config.optimizer,
        momentum=config.momentum,
        nesterov=config.nesterov,
        beta1=config.beta1,
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
    )


def make_schedule(config: Config, steps: int) -> Schedule:
    """The learning rate of a run with so many steps per epoch."""
    return Schedule(
        config.schedule,
        config.learning_rate,
        warmup=round(config.warmup_epochs * steps),
        total=config.epochs * steps,
        every=max(1, round(config.step_epochs * steps)),
        factor=config.step_factor,
        minimum=config.minimum_learning_rate,
    )


# --- the steps ------------------------------------------------------------------------------------------------------
class ShardGradient:
    """Backpropagation over a rank's shard of a batch, in pieces of bounded size.

    Leaves Σ_i ∂L_i/∂w over the shard in `gradient`, and returns the sums of the loss and of the metric.
    """

    def __init__(self, run: Run, gradient: Parameters) -> None:
        self._problem, self._gradient = run.problem, gradient
        self._parameters = run.state.parameters
        network, dtype = run.problem.network, run.config.dtype
        largest = max(1, -(-run.batch_size // run.comm.size))
        self._room = Piece(network, min(largest, piece_samples(network, dtype)), dtype)
        self._pieces = {self._room.m: self._room}
        self._feed = Feed(run.problem, run.training, self._room.m, dtype)
        self._more = (
            Parameters(network, aligned_zeros(network.parameter_count, dtype)) if largest > self._room.m else None
        )

    def __call__(self, rows: NDArray[np.int64]) -> Tally:
        """`rows` are the samples of the shard; none leave a gradient of 0."""
        network, tally, target = self._problem.network, Tally(samples=len(rows)), self._gradient
        if len(rows) == 0:
            self._gradient.vector.fill(0.0)
        for first, last in pieces(0, len(rows), self._room.m):
            piece = self._piece(last - first)
            self._feed.fill(piece, rows[first:last])
            forward(network, self._parameters, piece)
            tally.loss += loss_sum(network, piece)
            tally.metric += self._problem.metric_sum(piece)
            backward(network, self._parameters, piece, target)
            if target is self._more:
                self._gradient.vector += self._more.vector
            elif self._more:
                target = self._more
        return tally

    def _piece(self, m: int) -> Piece:
        if m not in self._pieces:
            self._pieces[m] = self._room.first(self._problem.network, m)
        return self._pieces[m]


def _epochs(run: Run, stop_requested: Callable[[], bool], reporter: Reporter | None) -> None:
    config, comm, state = run.config, run.comm, run.state
    progress, w, N = state.progress, state.vector, len(run.training)
    reduction = Reduction(comm, run.problem.network, config.dtype)
    shard_gradient = ShardGradient(run, reduction.gradient)
    optimizer, learning_rate = _optimizer(config), make_schedule(config, run.steps_per_epoch)
    evaluation = Evaluation(comm, run.problem, run.validation, config.dtype) if run.validation else None
    saved_at, saved_step = time.monotonic(), progress.step

    while progress.epoch < config.epochs:
        started = time.perf_counter() - progress.epoch_seconds
        order = epoch_order(N, config.seed, progress.epoch)
        done = Tally(progress.epoch_loss, progress.epoch_samples, progress.epoch_metric)
        for first in range(progress.step % run.steps_per_epoch * run.batch_size, N, run.batch_size):
            batch = order[first : first + run.batch_size]
            start, end = shard(len(batch), comm.rank, comm.size)
            tally = shard_gradient(batch[start:end])  # Σ_i ∂L_i/∂w over this rank's shard
            tally.stop = stop_requested()
            tally.save = comm.rank == 0 and 0 < config.checkpoint_minutes * 60 < time.monotonic() - saved_at
            total = reduction.reduce(tally)  # ∂L_B/∂w over the whole batch
            _check_finite(run, total, len(batch), saved_step)
            optimizer.update(
                w, reduction.gradient.vector, state.optimizer, learning_rate(progress.step), progress.step + 1
            )
            progress.step += 1
            progress.samples += total.samples
            done.add(total)
            if reporter:
                reporter.step(total.samples)
            if (total.stop or total.save) and first + run.batch_size < N:
                progress.epoch_loss, progress.epoch_samples, progress.epoch_metric = (
                    done.loss,
                    done.samples,
                    done.metric,
                )
                progress.epoch_seconds = time.perf_counter() - started
                _save(run)
                saved_at, saved_step = time.monotonic(), progress.step
                if total.stop:
                    raise _stopped(run)

        seconds = time.perf_counter() - started
        state.progress = progress = Progress(progress.epoch + 1, progress.step, progress.samples)
        row = _end_epoch(run, done, evaluation, learning_rate(progress.step - 1), seconds)
        last = progress.epoch == config.epochs
        if progress.epoch % config.checkpoint_every == 0 or last or total.stop or total.save:
            _save(run)
            saved_at, saved_step = time.monotonic(), progress.step
        if reporter:
            reporter.epoch(row)
        if total.stop and not last:
            raise _stopped(run)


def _end_epoch(
    run: Run, done: Tally, evaluation: Evaluation | None, learning_rate: float, seconds: float
) -> dict[str, float]:
    """Validates, adds a row to the history, and keeps the best parameters."""
    state, metric = run.state, run.problem.metric
    best_before, _ = run.best()
    scores = evaluation(state.parameters) if evaluation else None
    row = {
        "epoch": state.progress.epoch,
        "step": state.progress.step,
        "train_loss": done.loss / done.samples,
        "validation_loss": scores.loss if scores else math.nan,
        f"train_{metric}": run.problem.metric_value(done.metric, done.samples),
        f"validation_{metric}": scores.metric if scores else math.nan,
        "learning_rate": learning_rate,
        "samples_per_second": done.samples / seconds,
        "seconds": seconds,
    }
    for column, value in row.items():
        state.history[column].append(value)

    def write() -> None:
        run.directory.append_metrics(row)
        if row["validation_loss"] < best_before:
            run.directory.save(state, run.config.keep, best=True)

    on_first(run.comm, write)
    return row


def _save(run: Run) -> None:
    on_first(run.comm, lambda: run.directory.save(run.state, run.config.keep))


def _stopped(run: Run) -> Stopped:
    progress = run.state.progress
    stopped = Stopped(
        f"stopped on request at epoch {progress.epoch + 1}, step {progress.step}; "
        f"a checkpoint is in {run.directory.path}/, continue with --resume"
    )
    stopped.agreed = True
    return stopped


def _check_finite(run: Run, total: Tally, n: int, saved_step: int) -> None:
    assert total.samples == n, "samples were lost or repeated"
    if math.isfinite(total.loss):
        return
    progress = run.state.progress
    diverged = DivergedError(
        f"the loss is {total.loss} at epoch {progress.epoch + 1}, step {progress.step + 1}; this update was not made\n"
        f"the last checkpoint is that of step {saved_step}; try a smaller --learning-rate, --warmup-epochs or "
        "--scale standardize"
    )
    diverged.agreed = True
    raise diverged
