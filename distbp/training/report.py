"""What rank 0 says while it trains: a summary, a progress bar on a terminal, one line per epoch, a last line."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

from distbp import __version__
from distbp.counted import counted
from distbp.engine.sums import Requests, Steps
from distbp.mathematics.grains import grain_count
from distbp.ranks.launch import printable
from distbp.training.comparison import digest
from distbp.training.listener import Listener
from distbp.training.phases import shares_of
from distbp.training.run import Run

if TYPE_CHECKING:
    from distbp.progress import Bar

LINE_SECONDS = 60.0
TOGETHER_SECONDS = 0.1  # lines of epochs that are shorter are printed together


class Console(Listener):
    """Lines on stdout; the bar on stderr, where that is a terminal."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._epochs, self._is_validated = 0, False
        self._total = self._done = self._started_at = 0
        self._spoken = self._started = time.monotonic()
        self._printed, self._waiting = 0.0, ""  # when something was printed, and lines that are not yet

    def note(self, text: str) -> None:
        """One line, at once."""
        self._waiting += printable(text) + "\n"
        self._print()

    def _print(self, after: float = 0.0) -> None:
        """Prints the lines that wait, where something was printed so many seconds ago."""
        now = time.monotonic()
        if not self._waiting or now - self._printed < after:
            return
        if self._bar is not None:
            self._bar.clear()
        sys.stdout.write(self._waiting)
        sys.stdout.flush()
        self._spoken, self._printed, self._waiting = now, now, ""

    def begin(self, run: Run) -> None:
        """The summary, and the bar."""
        self._run = run
        config, problem, data = run.config, run.problem, run.training
        self._epochs, self._is_validated = config.epochs, run.validation is not None
        outputs = problem.network.sizes[-1]
        kind = counted(problem.classes, "class", "classes") if problem.classes else counted(outputs, "target")
        validation = f", {len(run.validation)} to validate ({run.validation.name})" if run.validation else ""
        files = _listed(config.data) or "the digits data set that comes with distbp"
        self.note(f"distbp {__version__}: {run.comm.describe()} x {run.threads.describe()}")
        if run.job.id or run.job.end is not None:
            self.note(f"job       {run.job.describe() or 'this process'}{_until(run.job.end)}")
        self.note(f"data      {files}")
        axis = f" (axis {data.layout.axis})" if data.layout.axis else ""
        self.note(
            f"          {counted(len(data), 'sample')}{axis} to train on ({data.name}){validation}, "
            f"{counted(data.layout.width('x'), 'input')} ({data.layout.dtype('x')}), {kind}; scale: {config.scale}"
        )
        self.note(
            f"network   {problem.network.describe()}; {problem.network.parameter_count} parameters, {config.dtype}"
        )
        self.note(
            f"training  {config.optimizer}, learning rate {config.learning_rate:g} ({config.schedule}), "
            f"batches of n = {run.batch_size}, {counted(config.epochs, 'epoch')} of "
            f"{counted(run.steps_per_epoch, 'step')}"
        )
        self.note(f"engine    {run.choice.describe()}")
        if config.reproducible:
            grain = int(config.grain)
            grains = counted(grain_count(run.batch_size, grain), "grain")
            self.note(f"bits      the same on any number of ranks: {grains} of {counted(grain, 'sample')} a batch")
        nodes, parts = len(run.engine.nodes), run.engine.parts
        if nodes > 1:
            how = f"in {parts} parts from layer F down" if parts > 1 else "in one part"
            wire = f", as {config.wire}" if config.wire != "full" else ""
            self.note(f"exchange  of {nodes} nodes, {how}{wire}")
        self.note(f"results   {run.directory.path}/" if run.directory.writes else "results   are not written")
        self._total, self._done = config.epochs * len(data), run.state.progress.samples
        self._started_at = self._done
        self._spoken = self._started = time.monotonic()
        if sys.stderr.isatty():
            from distbp.progress import Bar

            self._bar = Bar(total=self._total, initial=self._done, unit=" samples", unit_scale=True, leave=False)

    def dry_run(self, run: Run) -> None:
        """After the summary: the memory, and that this was all."""
        self.close()
        for line in run.plan.lines():
            self.note(line)
        self.note("dry run   nothing was trained or written")

    def stepped(self, steps: Steps) -> None:
        """Moves the bar; without one, a line every minute in which no epoch ended."""
        samples = int(steps.samples.sum())
        self._print(TOGETHER_SECONDS)
        self._done += samples
        if self._bar is not None:
            self._bar.update(samples)
        elif (now := time.monotonic()) - self._spoken > LINE_SECONDS:
            rate = (self._done - self._started_at) / (now - self._started)
            left = (self._total - self._done) / rate
            self.note(
                f"{self._done / self._total:.1%} of all samples, {rate:,.0f} samples/s, {left / 60:.0f} minutes left"
            )

    def epoch_ended(self, row: dict[str, float], last: Requests) -> bool:
        """One line for an epoch."""
        scores = "  ".join(
            f"{name.replace('_', ' ')} {value:.6g}"
            for name, value in row.items()
            if name.startswith(("train_", "validation_")) and "seconds" not in name and self._is_shown(name, value)
        )
        speed = f"{row['samples_per_second']:,.0f} samples/s"
        self._waiting += printable(f"epoch {int(row['epoch'])}/{self._epochs}  {scores}  {speed}") + "\n"
        self._print(TOGETHER_SECONDS)
        return False

    def _is_shown(self, name: str, value: float) -> bool:
        """Also a validation that gave no number."""
        return not math.isnan(value) or (self._is_validated and name.startswith("validation_"))

    def ended(self, seconds: float) -> None:
        """The last lines."""
        self.close()
        run = self._run
        progress, (best, epoch) = run.state.progress, run.best()
        self.note(f"done      {counted(progress.epoch, 'epoch')}, {counted(progress.step, 'step')}; {seconds:.1f} s")
        if shares := shares_of(run.state.history):
            self.note(f"time      {shares}")
        if epoch:
            values = run.state.history
            shown = "".join(
                f", {name} {values[f'validation_{name}'][epoch - 1]:.6g}" for name in run.problem.metric_names
            )
            where = f"; {run.directory.best}" if run.directory.writes else ""
            self.note(f"best      epoch {epoch}: validation loss {best:.6g}{shown}{where}")
        if run.config.reproducible:
            self.note(f"digest    {digest(run.state.parameters)}")
        if newest := run.directory.checkpoints():
            self.note(f"last      {newest[-1]}")

    def close(self) -> None:
        """Prints the last lines, and removes the bar."""
        self._print()
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _listed(files: list[str]) -> str:
    shown = files if len(files) <= 4 else [*files[:2], f"… {len(files) - 3} more …", files[-1]]
    return ", ".join(shown)


def _until(end: float | None) -> str:
    if end is None:
        return ""
    if end == math.inf:
        return "; no time limit"
    return f"; until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(end))}"
