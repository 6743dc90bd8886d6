"""When checkpoints are written, and with them best.h5 and the rows of metrics.csv: often enough, and not too often.

Rank 0 alone saves; that it wants to save goes to all ranks with the sums of a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from distbp.errors import DistbpError
from distbp.settings.option import AUTO
from distbp.training.history import History
from distbp.training.run_directory import RunDirectory
from distbp.training.state import Checkpoint

SHARE = 0.02  # of the time, with --checkpoint-every auto
ROW_SECONDS = 1.0  # after which rows are written to metrics.csv; they are synced with the next checkpoint


class Saving:
    """Writes the files of a run while it goes on.  All methods but `is_due` are for rank 0; they raise RunError."""

    def __init__(self, directory: RunDirectory, state: Checkpoint) -> None:
        self._directory, self._state = directory, state
        self._rows = state.history.count  # of metrics.csv, that are written
        self.best: Checkpoint | None = None  # the best parameters of this start; None where none beat those before it
        self._is_written = True  # that they are in best.h5
        self._kept = state.vector[:0]
        self._seconds, self._failed = directory.save_seconds(), False
        self._saved_at = self._written_at = time.monotonic()

    def wants_to_save(self, *, ends_epoch: bool) -> bool:
        """Whether a checkpoint is due by the clock after the next step; `ends_epoch`: that is the last of its epoch.

        Between two checkpoints lies so much time that they take a SHARE of it.
        """
        config, since = self._state.config, time.monotonic() - self._saved_at
        if 0 < config.checkpoint_minutes * 60 < since:
            return True
        return ends_epoch and config.checkpoint_every == AUTO and since >= self._seconds * (1 / SHARE - 1)

    def is_due(self) -> bool:
        """Whether one is due after the epochs that are done, by their number; on any rank."""
        config, epoch = self._state.config, self._state.progress.epoch
        every = config.epochs if config.checkpoint_every == AUTO else int(config.checkpoint_every)
        return epoch == config.epochs or epoch % every == 0

    def epoch_ended(self, *, is_best: bool) -> None:
        """After the row of an epoch has come to the history; `is_best`: the parameters are to become best.h5."""
        if is_best:
            self._keep()
        if time.monotonic() - self._written_at >= ROW_SECONDS:
            self._write_rows(synced=False)

    def save(self) -> None:
        """A checkpoint of the state; metrics.csv and best.h5 are brought up to it first."""
        begun = time.monotonic()
        self._write_kept(synced=True)
        self._try(lambda: self._directory.save(self._state, self._state.config.keep))
        self._saved_at = time.monotonic()
        self._seconds = self._saved_at - begun

    def end(self) -> None:
        """Saves what is kept, where the run ends with an error; if that cannot be written, the error is the reason."""
        if not self._failed:
            with suppress(DistbpError):
                self._write_kept(synced=False)

    def _keep(self) -> None:
        state = self._state
        if not self._kept.size:
            self._kept = state.vector.copy()
        self._kept[:] = state.vector
        progress, history = replace(state.progress), state.history.snapshot()
        self._is_written = False
        self.best = replace(state, vector=self._kept, optimizer={}, progress=progress, history=history)

    def _write_kept(self, *, synced: bool) -> None:
        self._write_rows(synced=synced)
        best = self.best
        if best is not None and not self._is_written:
            self._try(lambda: self._directory.save(best, best.config.keep, best=True))
            self._is_written = True

    def _write_rows(self, *, synced: bool) -> None:
        history = self._state.history
        if self._rows < history.count or synced:
            self._try(lambda: self._directory.append_metrics(History(history.rows[self._rows :]), synced=synced))
        self._rows, self._written_at = history.count, time.monotonic()

    def _try(self, action: Callable[[], object]) -> None:
        """Notes where something could not be written, so that nothing more is tried at the end."""
        try:
            action()
        except DistbpError:
            self._failed = True
            raise
