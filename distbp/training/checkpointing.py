"""The listener that saves: checkpoints, best.h5 and metrics.csv."""

from __future__ import annotations

from collections.abc import Callable

from distbp.engine.sums import NOTHING, Requests
from distbp.errors import DistbpError, Stopped
from distbp.ranks.attention import Attention
from distbp.ranks.communicator import on_first
from distbp.training.listener import Listener
from distbp.training.run import Run
from distbp.training.saving import Saving


class Checkpointing(Listener):
    """Saves when it is due (see `distbp.training.saving`), before a stop, and at the end.  Raises RunError, agreed."""

    def __init__(self, attention: Attention, before: Callable[[], None] = lambda: None) -> None:
        """`before` is called on rank 0 before a checkpoint is written: what has to be on the disk by then."""
        self._attention, self._before = attention, before

    def begin(self, run: Run) -> None:
        self._run, self._saving = run, Saving(run.directory, run.state)
        self._saved_step = run.state.progress.step

    def ask(self, step: int) -> Requests:
        run = self._run
        if run.comm.rank > 0 or not self._saving.wants_to_save(ends_epoch=step % run.steps_per_epoch == 0):
            return NOTHING
        return Requests(save=1)

    def interrupted(self) -> None:
        self._save()

    def epoch_ended(self, row: dict[str, float], last: Requests) -> bool:
        run = self._run
        is_best = row["validation_loss"] < run.to_beat
        on_first(run.comm, lambda: self._saving.epoch_ended(is_best=is_best))
        run.phases.lap("checkpoint")
        if is_best:
            run.to_beat = row["validation_loss"]
        if self._saving.is_due() or last.save:
            self._save()
        return False

    def ended(self, seconds: float) -> None:
        if self._saved_step < self._run.state.progress.step:
            self._save()
        self._run.kept = self._saving.best

    def failed(self, error: BaseException) -> None:
        agreed = isinstance(error, DistbpError) and error.agreed and not isinstance(error, Stopped)
        if agreed and self._run.comm.rank == 0:
            self._saving.end()

    def _save(self) -> None:
        run = self._run
        self._attention.beat("writing a checkpoint")
        on_first(run.comm, self._write)
        run.phases.lap("checkpoint")
        self._saved_step = run.state.progress.step
        run.saved = run.directory.saved_as(self._saved_step)

    def _write(self) -> None:
        self._before()
        self._saving.save()
