"""Training: data → network → backpropagation → reduction → optimizer → checkpoint, on every rank alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from distbp.batch_gradient import BatchGradient, batch_gradient
from distbp.checkpoint import Progress
from distbp.communicator import Communicator, on_first
from distbp.config import Config
from distbp.drift import DriftGuard
from distbp.errors import DivergedError, Stopped
from distbp.evaluate import Evaluation
from distbp.reduction import Tally
from distbp.run import Run, optimizer_of, prepare
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


def train(
    comm: Communicator,
    config: Config,
    *,
    resume_with: Mapping[str, Any] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    reporter: Reporter | None = None,
) -> Run:
    """Trains as configured; `resume_with` (options given again, maybe none) continues the run in `config.out`.

    Every rank calls this with the same arguments; only rank 0 has a reporter and writes.  Raises DistbpError.
    """
    with RunDirectory(config.out) as directory:  # rank 0 holds its lock
        return _train(comm, config, directory, resume_with, stop_requested, reporter)


def _train(
    comm: Communicator,
    config: Config,
    directory: RunDirectory,
    resume_with: Mapping[str, Any] | None,
    stop_requested: Callable[[], bool],
    reporter: Reporter | None,
) -> Run:
    run = prepare(comm, config, directory, resume_with, reporter.note if reporter else lambda text: None)
    if reporter:
        reporter.start(run)
    started = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the loss is watched instead
        try:
            _epochs(run, stop_requested, reporter)
        finally:
            run.loader.close()
    if reporter:
        reporter.finish(run, time.perf_counter() - started)
    return run


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


def _epochs(run: Run, stop_requested: Callable[[], bool], reporter: Reporter | None) -> None:
    config, comm, state = run.config, run.comm, run.state
    progress, w = state.progress, state.vector
    gradient = batch_gradient(run)
    guard = DriftGuard(comm, state.parameters, config.drift_steps)
    optimizer, learning_rate = optimizer_of(config), make_schedule(config, run.steps_per_epoch)
    evaluation = Evaluation(comm, run.problem, run.validation, config.dtype) if run.validation else None
    saved, saved_at = str(run.directory.checkpoint(progress.step)), time.monotonic()

    while progress.epoch < config.epochs:
        started = time.perf_counter() - progress.epoch_seconds
        done = Tally(progress.epoch_loss, progress.epoch_samples, progress.epoch_metric)
        for batch in run.loader.batches(progress.epoch, progress.step % run.steps_per_epoch):
            save = comm.rank == 0 and 0 < config.checkpoint_minutes * 60 < time.monotonic() - saved_at
            total = gradient(batch, stop=stop_requested(), save=save)  # ∂L_B/∂w over the whole batch, on every rank
            _check_finite(run, total, gradient, len(batch), saved)
            optimizer.update(w, gradient.vector, state.optimizer, learning_rate(progress.step), progress.step + 1)
            progress.step += 1
            progress.samples += total.samples
            done.add(total)
            guard.after_step(progress.step, saved)
            if reporter:
                reporter.step(total.samples)
            if (total.stop or total.save) and progress.step % run.steps_per_epoch:
                progress.epoch_loss, progress.epoch_samples, progress.epoch_metric = (
                    done.loss,
                    done.samples,
                    done.metric,
                )
                progress.epoch_seconds = time.perf_counter() - started
                _check_parameters(run, guard, saved)
                saved, saved_at = _save(run), time.monotonic()
                if total.stop:
                    raise _stopped(run)

        seconds = time.perf_counter() - started
        _check_parameters(run, guard, saved)
        state.progress = progress = Progress(progress.epoch + 1, progress.step, progress.samples)
        row = _end_epoch(run, done, evaluation, learning_rate(progress.step - 1), seconds)
        last = progress.epoch == config.epochs
        if progress.epoch % config.checkpoint_every == 0 or last or total.stop or total.save:
            saved, saved_at = _save(run), time.monotonic()
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


def _save(run: Run) -> str:
    on_first(run.comm, lambda: run.directory.save(run.state, run.config.keep))
    return str(run.directory.checkpoint(run.state.progress.step))


def _stopped(run: Run) -> Stopped:
    progress = run.state.progress
    stopped = Stopped(
        f"stopped on request at epoch {progress.epoch + 1}, step {progress.step}; "
        f"a checkpoint is in {run.directory.path}/, continue with --resume"
    )
    stopped.agreed = True
    return stopped


def _check_finite(run: Run, total: Tally, gradient: BatchGradient, n: int, saved: str) -> None:
    assert total.samples == n, "samples were lost or repeated"
    if not math.isfinite(total.loss):
        raise _diverged(run, f"the loss is {total.loss}", 1, saved)
    if not gradient.finite:
        raise _diverged(run, "the gradient is not finite", 1, saved)


def _check_parameters(run: Run, guard: DriftGuard, saved: str) -> None:
    """Before anything is validated or saved: a diverged network must not take the place of a good one."""
    guard.check(run.state.progress.step, saved)
    if not math.isfinite(run.state.vector @ run.state.vector):
        raise _diverged(run, "the parameters are not finite", 0, saved)


def _diverged(run: Run, what: str, ahead: int, saved: str) -> DivergedError:
    """Every rank holds the same sums, gradient and parameters, so all come to the same verdict."""
    progress = run.state.progress
    diverged = DivergedError(
        f"{what} at epoch {progress.epoch + 1}, step {progress.step + ahead}; nothing of it was saved\n"
        f"the last checkpoint is {saved}; try a smaller --learning-rate, --warmup-epochs or "
        "--scale standardize"
    )
    diverged.agreed = True
    return diverged
