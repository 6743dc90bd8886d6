"""The loop of training: w ← w - η ∂L_B/∂w, batch after batch; whoever wants to know listens."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from distbp.data.loader import Batch
from distbp.engine.diagnosis import first_not_finite
from distbp.engine.epoch_sums import EpochSums
from distbp.engine.evaluate import Scores
from distbp.engine.sums import Requests, Stepped
from distbp.errors import Stopped
from distbp.mathematics.grains import sample_shares
from distbp.ranks.attention import Attention
from distbp.ranks.stop import ON_REQUEST
from distbp.training.listener import Listener
from distbp.training.rates import schedule_of
from distbp.training.run import Run
from distbp.training.state import Progress

MOST_AHEAD = 1024
CALL_SECONDS = 0.02  # that a call of the engine takes, at most: then bars move and requests are seen


class Loop:
    """The epochs of a run."""

    def __init__(self, run: Run, attention: Attention, listeners: Listener) -> None:
        self._run, self._attention, self._listeners = run, attention, listeners
        self._rate = schedule_of(run.config, run.steps_per_epoch)
        self._evaluation = run.engine.evaluation(run.validation) if run.validation else None
        self._ahead = 1  # steps of the next call
        self._proposed = 0  # by rank 0, for the calls that follow; it goes to all ranks with a step
        self._where = ""  # for the watchdog
        self._why_no_best = ""  # the row whose loss is not finite

    def all_epochs(self) -> None:
        """To the end, until a listener says that an epoch was the last, or until a stop is asked for (Stopped)."""
        run, listeners, started = self._run, self._listeners, time.perf_counter()
        listeners.begin(run)
        run.phases.start()
        try:
            while run.state.progress.epoch < run.config.epochs and not self._epoch():
                pass
            if run.validation and run.best()[1] == 0 and run.state.progress.epoch:
                why = f" ({self._why_no_best})" if self._why_no_best else ""
                self._note(f"warning   no {run.directory.best}: the validation loss is not finite{why}")
            listeners.ended(time.perf_counter() - started)
        except Exception as error:
            listeners.failed(error)
            raise

    def _epoch(self) -> bool:
        """An epoch, or the rest of it; whether it was the last one."""
        run, progress, listeners = self._run, self._run.state.progress, self._listeners
        started = time.perf_counter() - progress.epoch_seconds
        self._where = f"in epoch {progress.epoch + 1}"
        sums = EpochSums(run.comm, progress.epoch_sums or [0.0] * len(run.problem.sums), progress.epoch_samples)
        last, asked = (progress.epoch + 1) * run.steps_per_epoch, Requests()
        for batches in self._calls():
            asked = self._steps(batches, sums)
            if asked.stop or (asked.save and progress.step < last):
                self._interrupt(sums, started)
                if asked.stop:
                    raise self._stopped()
        seconds = time.perf_counter() - started
        listeners.trained()
        try:
            scores = self._validate()
            run.phases.lap("validation")
        except Stopped:
            self._interrupt(sums, started)
            raise self._stopped() from None
        progress = run.state.progress = Progress(progress.epoch + 1, progress.step, progress.samples, progress.skipped)
        row = self._row(sums, scores, seconds)
        run.state.history.append(row)
        return listeners.epoch_ended(row, asked)

    def _calls(self) -> Iterator[list[Batch]]:
        """The batches of the rest of an epoch, as many at once as nobody needs to look between.

        Those that the engine has left are given again.
        """
        run, progress, waiting = self._run, self._run.state.progress, deque[Batch]()
        first = progress.step - progress.epoch * run.steps_per_epoch
        batches, given = run.loader.batches(progress.epoch, first), progress.step
        while True:
            most = max(1, min(self._ahead, run.loader.ahead, self._listeners.sleeps(progress.step)))
            waiting.extend(islice(batches, max(0, most - len(waiting))))
            if not waiting:
                return
            yield [*islice(waiting, most)]
            while given < progress.step:
                waiting.popleft()
                given += 1

    def _steps(self, batches: Sequence[Batch], sums: EpochSums) -> Requests:
        """Some steps, whose sums are added to those of the epoch; what the ranks ask for."""
        run, progress, listeners = self._run, self._run.state.progress, self._listeners
        begun, done = time.perf_counter(), progress.step
        rates = [self._rate(done + i) for i in range(len(batches))]
        listeners.before(done + 1)
        steps = run.engine.step(batches, rates, done, self._ask)
        progress.step += len(steps)
        progress.samples += int(steps.samples.sum())
        sums.add(steps)
        if steps.last.wrong:
            self._skip(batches[len(steps) - 1], steps.last)
        listeners.stepped(steps)
        seconds = (time.perf_counter() - begun) / len(steps)
        if run.comm.rank == 0:
            self._proposed = int(min(MOST_AHEAD, max(1.0, CALL_SECONDS / seconds)))
        self._ahead = max(1, steps.ahead)
        return steps.last.requests

    def _ask(self, step: int) -> Requests:
        """What this rank asks for with a step."""
        attention = self._attention
        attention.beat(f"{self._where}, step {step}")
        asked = self._listeners.ask(step)
        stop = bool(attention.why_stop())
        if stop or self._proposed:
            return Requests(asked.stop + stop, asked.save, self._proposed)
        return asked

    def _skip(self, batch: Batch, stepped: Stepped) -> None:
        """A batch whose update was not made, for what is wrong with it."""
        run, progress = self._run, self._run.state.progress
        where = f"at epoch {progress.epoch + 1}, step {progress.step}"
        wrong = f"{stepped.wrong} {where}{_whose(run, batch)}" if stepped.by_a_sample else f"{stepped.wrong}, {where}"
        if run.config.on_nan == "stop":
            raise run.diverged(wrong)
        progress.skipped += 1
        if progress.skipped > run.config.skip_limit:
            raise run.diverged(f"{wrong}, and --skip-limit {run.config.skip_limit} is reached")
        self._note(f"warning   {wrong}; its update is skipped ({progress.skipped} so far)")

    def _note(self, text: str) -> None:
        if self._run.comm.rank == 0:
            self._listeners.note(text)

    def _validate(self) -> Scores | None:
        """Raises Stopped, agreed, where a stop is asked for meanwhile."""
        if self._evaluation is None:
            return None
        parameters, pulse = self._run.state.parameters, self._attention.pulse("the end of the epoch")
        scores = self._evaluation(parameters, pulse)
        if not math.isfinite(scores.loss):
            why = self._evaluation.why_not_finite(parameters, pulse)
            if why != self._why_no_best:
                self._note(f"warning   the validation loss is {scores.loss}, which makes no best.h5: {why}")
            self._why_no_best = why
        return scores

    def _row(self, sums: EpochSums, scores: Scores | None, seconds: float) -> dict[str, float]:
        """The row of metrics.csv of the epoch that is done."""
        run, progress, total = self._run, self._run.state.progress, sums.total()
        trained = run.problem.scores(total.values, total.samples)  # NaN where all batches were skipped
        found = {"loss": scores.loss, **scores.metrics} if scores else dict.fromkeys(trained, math.nan)
        parts = {"train": trained, "validation": found}
        both = {f"{of}_{name}": one[name] for name in trained for of, one in parts.items()}
        return {
            "epoch": progress.epoch,
            "step": progress.step,
            **both,
            "learning_rate": self._rate(progress.step - 1),
            "samples_per_second": total.samples / seconds,
            "seconds": seconds,
            **run.phases.take(run.comm),
        }

    def _interrupt(self, sums: EpochSums, started: float) -> None:
        """Inside an epoch: the listeners may save."""
        progress, total = self._run.state.progress, sums.total()
        progress.epoch_sums, progress.epoch_samples = tuple(total.values), total.samples
        progress.epoch_seconds = time.perf_counter() - started
        self._listeners.interrupted()

    def _stopped(self) -> Stopped:
        """After a checkpoint.  Rank 0 speaks; where it has no reason itself, another rank was asked."""
        run, progress, why = self._run, self._run.state.progress, self._attention.why_stop() or ON_REQUEST
        stopped = Stopped(
            f"stopped {why} at epoch {progress.epoch + 1}, step {progress.step}; "
            f"a checkpoint is in {run.directory.path}/, continue with --resume"
        )
        stopped.agreed = True
        return stopped


def _whose(run: Run, batch: Batch) -> str:
    """': z of layer 3 is the first that is not finite, for d.h5: train/x, row 17', where that can be said."""
    config = run.config
    share = sample_shares(len(batch.rows), config.samples_of_a_grain, run.comm.size)[run.comm.rank]
    parameters = run.state.parameters
    sample, what = first_not_finite(run.comm, config, run.problem, parameters, run.training, batch.rows, share)
    if sample is None:
        return f": {what} is not finite already" if what else ": each sample is finite, their sum overflows"
    row = int(run.loader.numbers(batch)[sample])
    return f": {what} is not finite for {run.training.place(row, 'x')}"
