"""Training: data → network → backpropagation → reduction → optimizer → checkpoint, on every rank alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.config import Config, trace_steps
from distbp.errors import DistbpError, DivergedError, Stopped
from distbp.gradient.batch_gradient import BatchGradient, batch_gradient
from distbp.gradient.diagnosis import first_not_finite
from distbp.gradient.evaluate import Evaluation, Scores
from distbp.gradient.reduction import Tally
from distbp.gradient.step_sums import StepSums
from distbp.mathematics.clipping import Length, shorten
from distbp.mathematics.grains import sample_shares
from distbp.mathematics.schedules import Schedule
from distbp.ranks.communicator import Communicator, on_first
from distbp.ranks.drift import DriftGuard
from distbp.ranks.job import NO_JOB, Job
from distbp.ranks.stop import ON_REQUEST, Pulse, stopping_pulse
from distbp.training.checkpoint import Checkpoint, Progress
from distbp.training.deadline import Deadline, ends_of, time_of_the_first
from distbp.training.finite_update import FiniteUpdate
from distbp.training.own_slices import slices_of_rank, without_decay
from distbp.training.phases import Trace
from distbp.training.run import Run, optimizer_of, prepare
from distbp.training.run_directory import RunDirectory
from distbp.training.saving import Saving
from distbp.training.source import DataFiles, Source


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
    or_begin: bool = False,
    stop_requested: Callable[[], str] = lambda: "",
    beat: Pulse = lambda phase: None,
    reporter: Reporter | None = None,
    job: Job = NO_JOB,
    source: Source | None = None,
    directory: RunDirectory | None = None,
    on_epoch: Callable[[dict[str, float]], bool] | None = None,
    dry_run: bool = False,
) -> Run:
    """Trains as configured; `resume_with` (options given again, maybe none) continues the run in `config.out`.

    `or_begin`: where there is no run to continue, one is begun.  `stop_requested` says why this rank is to stop, or
    nothing; and the run stops before the end of `job`, or after config.time_limit minutes.

    `source`: what is learnt from, in the place of the files that config.data names; `directory`, where to save, in the
    place of config.out.  `on_epoch` is called on all ranks with the row of an epoch, and says whether that was the last
    one; all ranks say the same.

    `dry_run`: all that comes before the first step, but no file is written.

    Every rank calls this with the same arguments; only rank 0 has a reporter and writes.  `beat` is told, again and
    again, what this rank is doing.  Raises DistbpError.
    """
    with ExitStack() as stack:
        note = reporter.note if reporter else lambda text: None
        directory = directory or RunDirectory(config.out, dry=dry_run, note=note)
        stack.enter_context(directory)  # rank 0 holds its lock
        staging = None
        if config.stage_to:
            from distbp.data.staging import Staging

            staging = stack.enter_context(Staging(comm, config.stage_to))
        if comm.rank == 0 and (ends := ends_of(job, config.time_limit)):
            stop_requested = Deadline(ends, directory.save_seconds, stop_requested)
            job = replace(job, end=time_of_the_first(ends))
        elif job.id and reporter:
            reporter.note(f"note      the end of {job.name} is not known; --time-limit MINUTES sets one")
        pulse = stopping_pulse(beat, stop_requested, "the first step")
        run = prepare(
            comm,
            config,
            directory,
            resume_with,
            note,
            pulse,
            or_begin=or_begin,
            job=job,
            source=source or DataFiles(staging, dry_run),
            dry_run=dry_run,
        )
        stack.callback(run.loader.close)
        if reporter:
            reporter.start(run)
        if not dry_run:
            _train(run, stop_requested, beat, pulse, reporter, on_epoch)
        return run


def _train(
    run: Run,
    stop_requested: Callable[[], str],
    beat: Pulse,
    pulse: Pulse,
    reporter: Reporter | None,
    on_epoch: Callable[[dict[str, float]], bool] | None,
) -> None:
    started = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the loss is watched instead
        training = _Training(run, stop_requested, beat, pulse, reporter)
        try:
            training.all_epochs(on_epoch or (lambda row: False))
            run.kept = training.best()
        finally:
            training.close()
    if reporter:
        if run.validation and run.best()[1] == 0 and run.state.progress.epoch:
            why = f" ({training.why_no_best})" if training.why_no_best else ""
            reporter.note(f"warning   no {run.directory.best}: the validation loss is not finite{why}")
        reporter.finish(run, time.perf_counter() - started)


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


class _Done:
    """What is done of an epoch: samples of batches that were used, and their sums."""

    def __init__(self, run: Run) -> None:
        progress = run.state.progress
        self.samples, self.sums = progress.epoch_samples, StepSums(run.comm, progress.epoch_loss, progress.epoch_metric)

    def add(self, step: Tally) -> None:
        """One more batch."""
        self.samples += step.samples
        self.sums.add(step.loss, step.metric)


class _Training:
    """The steps of a run, and what happens between them."""

    def __init__(
        self, run: Run, stop_requested: Callable[[], str], beat: Pulse, pulse: Pulse, reporter: Reporter | None
    ) -> None:
        config, state = run.config, run.state
        self._run, self._reporter = run, reporter
        self._stop_requested, self._beat, self._pulse = stop_requested, beat, pulse
        self._gradient: BatchGradient = batch_gradient(run)
        self._optimizer, self._learning_rate = optimizer_of(config), make_schedule(config, run.steps_per_epoch)
        self._mine = slices_of_rank(run.memory, self._gradient.g, without_decay(config, run.problem.network))
        self._update = FiniteUpdate(run.comm, run.memory, run.problem.network, self._optimizer, self._mine)
        self._guard = DriftGuard(run.comm, state.parameters, config.drift_steps if len(run.memory.nodes) > 1 else 0)
        self._evaluation = Evaluation(run.comm, run.problem, run.validation, config.dtype) if run.validation else None
        self.why_no_best = ""  # the row whose loss is not finite
        self._saved, self._saving = run.directory.saved_as(state.progress.step), Saving(run.directory, state)
        traced = trace_steps(config) if config.trace else (0, 0)
        self._trace = Trace(
            run.comm, run.phases, config.trace, traced, reporter.note if reporter else lambda text: None
        )

    def best(self) -> Checkpoint | None:
        """On rank 0: the best parameters of this start."""
        return self._saving.best

    def all_epochs(self, is_last: Callable[[dict[str, float]], bool]) -> None:
        """To the end, until an epoch `is_last`, or until a stop is asked for (Stopped)."""
        run = self._run
        run.phases.start()
        try:
            while run.state.progress.epoch < run.config.epochs:
                if is_last(self._epoch()):
                    self._save()
                    break
        except Stopped:
            self._trace.close()
            raise
        except DistbpError as error:
            if error.agreed and run.comm.rank == 0:
                self._saving.end()
            raise
        self._trace.close()

    def close(self) -> None:
        """Ends what works in the background."""
        self._gradient.close()

    def _epoch(self) -> dict[str, float]:
        """An epoch, or the rest of it; its row of metrics.csv."""
        run, progress = self._run, self._run.state.progress
        started = time.perf_counter() - progress.epoch_seconds
        done = _Done(run)
        first, last = progress.step - progress.epoch * run.steps_per_epoch, (progress.epoch + 1) * run.steps_per_epoch
        total = Tally()
        for batch in run.loader.batches(progress.epoch, first):
            save = run.comm.rank == 0 and self._saving.wants_to_save(ends_epoch=progress.step + 1 == last)
            total = self._step(batch, done, save=save)
            if total.stop or (total.save and progress.step < last):
                self._save_under_way(done, started)
                if total.stop:
                    raise self._stopped()
        seconds = time.perf_counter() - started
        self._check_parameters()
        try:
            scores = self._validate()
            run.phases.lap("validation")
        except Stopped:
            self._save_under_way(done, started)
            raise self._stopped() from None
        progress = run.state.progress = Progress(progress.epoch + 1, progress.step, progress.samples, progress.skipped)
        row = _end_epoch(run, self._saving, done, scores, self._learning_rate(progress.step - 1), seconds)
        if self._saving.is_due() or total.save:
            self._save()
        if self._reporter:
            self._reporter.epoch(row)
        return row

    def _step(self, batch: NDArray[np.int64], done: _Done, *, save: bool) -> Tally:
        """One batch; its sums are added to `done`."""
        run, progress = self._run, self._run.state.progress
        self._trace.before(progress.step + 1)
        self._beat(f"in epoch {progress.epoch + 1}, step {progress.step + 1}")
        # ∂L_B/∂w over the whole batch, on every rank
        total = self._gradient(batch, stop=bool(self._stop_requested()), save=save)
        assert total.samples == len(batch), "samples were lost or repeated"
        rate = self._learning_rate(progress.step)
        wrong = self._what_is_not_finite(total, batch, rate)
        if wrong:
            self._skip(wrong)
        else:
            for own in self._mine:
                self._optimizer.update(own.w, own.g, own.vectors, rate, progress.step + 1, own.biases)
            done.add(total)
        run.memory.fence()
        run.phases.lap("update")
        progress.step += 1
        progress.samples += total.samples
        self._guard.after_step(progress.step, self._saved)
        if self._reporter:
            self._reporter.step(total.samples)
        self._trace.after(progress.step)
        return total

    def _what_is_not_finite(self, total: Tally, batch: NDArray[np.int64], rate: float) -> str:
        """Of the loss, the gradient or what the update would leave, and where; "" if all is.  Shortens the gradient.

        Every rank holds the same sums, gradient and parameters, so all come to the same verdict.
        """
        run, progress, length = self._run, self._run.state.progress, self._run.memory.length
        where = f"at epoch {progress.epoch + 1}, step {progress.step + 1}"
        if total.flaw:
            return f"the loss is {total.flaw} {where}{_whose(run, batch)}"
        if not math.isfinite(length.scaled):
            return f"the gradient is not finite {where}{_whose(run, batch)}"
        wrong = self._update.what_is_not(self._clip(length), rate, progress.step + 1)
        return f"{wrong}, {where}" if wrong else ""

    def _skip(self, wrong: str) -> None:
        """What is wrong with a batch, whose update is not made."""
        run, progress = self._run, self._run.state.progress
        if run.config.on_nan == "stop":
            raise _diverged(wrong, self._saved)
        progress.skipped += 1
        if progress.skipped > run.config.skip_limit:
            raise _diverged(f"{wrong}, and --skip-limit {run.config.skip_limit} is reached", self._saved)
        if self._reporter:
            self._reporter.note(f"warning   {wrong}; its update is skipped ({progress.skipped} so far)")

    def _clip(self, length: Length) -> float:
        """The length of the gradient, shortened where it is above the limit; inf is beyond the largest number."""
        limit = self._run.config.clip_norm
        if not limit:
            return length.value
        agreed = np.array(length)
        self._run.comm.allreduce(agreed, "max")  # CPUs of different types may differ in its last bit
        of_all = Length(*agreed.tolist())
        for g in self._gradient.g:
            shorten(g, of_all, limit)
        return min(of_all.value, limit)

    def _validate(self) -> Scores | None:
        """Raises Stopped, agreed, where a stop is asked for meanwhile."""
        if self._evaluation is None:
            return None
        parameters = self._run.state.parameters
        scores = self._evaluation(parameters, self._pulse)
        if not math.isfinite(scores.loss):
            why = self._evaluation.why_not_finite(parameters, self._pulse)
            if self._reporter and why != self.why_no_best:
                self._reporter.note(f"warning   the validation loss is {scores.loss}, which makes no best.h5: {why}")
            self.why_no_best = why
        return scores

    def _check_parameters(self) -> None:
        """Before anything is validated or saved: a diverged network must not take the place of a good one."""
        state = self._run.state
        self._guard.check(state.progress.step, self._saved)
        if not math.isfinite(state.vector @ state.vector) and not np.isfinite(state.vector).all():
            where = f"at epoch {state.progress.epoch + 1}, step {state.progress.step}"
            raise _diverged(f"the parameters are not finite {where}", self._saved)

    def _save_under_way(self, done: _Done, started: float) -> None:
        """A checkpoint inside an epoch."""
        progress, (loss, metric) = self._run.state.progress, done.sums.total()
        progress.epoch_loss, progress.epoch_samples, progress.epoch_metric = loss, done.samples, metric
        progress.epoch_seconds = time.perf_counter() - started
        self._check_parameters()
        self._save()

    def _stopped(self) -> Stopped:
        """After a checkpoint.  Rank 0 speaks; where it has no reason itself, another rank was asked."""
        progress, why = self._run.state.progress, self._stop_requested() or ON_REQUEST
        stopped = Stopped(
            f"stopped {why} at epoch {progress.epoch + 1}, step {progress.step}; "
            f"a checkpoint is in {self._run.directory.path}/, continue with --resume"
        )
        stopped.agreed = True
        return stopped

    def _save(self) -> None:
        run = self._run
        self._beat("writing a checkpoint")
        on_first(run.comm, self._saving.save)
        run.phases.lap("checkpoint")
        self._saved = run.directory.saved_as(run.state.progress.step)


def _end_epoch(
    run: Run, saving: Saving, done: _Done, scores: Scores | None, learning_rate: float, seconds: float
) -> dict[str, float]:
    """Adds a row to the history, and keeps the best parameters."""
    state, metric = run.state, run.problem.metric
    loss_sum, metric_sum = done.sums.total()
    row = {
        "epoch": state.progress.epoch,
        "step": state.progress.step,
        "train_loss": loss_sum / done.samples if done.samples else math.nan,  # all batches may have been skipped
        "validation_loss": scores.loss if scores else math.nan,
        f"train_{metric}": run.problem.metric_value(metric_sum, done.samples) if done.samples else math.nan,
        f"validation_{metric}": scores.metric if scores else math.nan,
        "learning_rate": learning_rate,
        "samples_per_second": done.samples / seconds,
        "seconds": seconds,
        **run.phases.take(run.comm),
    }
    state.history.append(row)
    is_best = row["validation_loss"] < run.to_beat
    on_first(run.comm, lambda: saving.epoch_ended(is_best=is_best))
    run.phases.lap("checkpoint")
    if is_best:
        run.to_beat = row["validation_loss"]
    return row


def _whose(run: Run, batch: NDArray[np.int64]) -> str:
    """': z of layer 3 is the first that is not finite, for d.h5: train/x, row 17', where that can be said."""
    config, progress = run.config, run.state.progress
    grain = int(config.grain) if config.reproducible else None
    share = sample_shares(len(batch), grain, run.comm.size)[run.comm.rank]
    sample, what = first_not_finite(run.comm, config, run.problem, run.state.parameters, run.training, batch, share)
    if sample is None:
        return f": {what} is not finite already" if what else ": each sample is finite, their sum overflows"
    place = (progress.step - progress.epoch * run.steps_per_epoch) * run.batch_size + sample
    return f": {what} is not finite for {run.training.place(run.loader.row(progress.epoch, place), 'x')}"


def _diverged(what: str, saved: str) -> DivergedError:
    diverged = DivergedError(
        f"{what}; nothing of it was saved\n"
        f"the last checkpoint is {saved}; try a smaller --learning-rate, --clip-norm, --warmup-epochs or "
        "--scale standardize"
    )
    diverged.agreed = True
    return diverged
