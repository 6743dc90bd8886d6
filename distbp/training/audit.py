"""The listener that writes audit.csv (see `distbp.training.chain`), by which others can check a reproducible run."""

from __future__ import annotations

from collections.abc import Callable

from distbp.engine.sums import Steps
from distbp.ranks.communicator import on_first
from distbp.settings.config import Config
from distbp.training import chain
from distbp.training.audit_digests import Seen, horizon_of, of_configuration, of_optimizer
from distbp.training.audit_steps import AuditSteps
from distbp.training.chain import Line
from distbp.training.comparison import digest
from distbp.training.listener import MOST_STEPS, Listener
from distbp.training.run import Run


def manner_of(config: Config, engine: str) -> tuple[str, str]:
    """The horizon and the engine of a line, from a record of the engine such as "compiled (avx2)"."""
    return horizon_of(config), engine.split(" ")[0]


class LineMaker:
    """Makes the lines of a run from its state, on rank 0; the first one follows the line `last`."""

    def __init__(self, run: Run, last: Line | None) -> None:
        self._run, self.last = run, last
        self._manner = manner_of(run.config, run.choice.name)
        self._configuration = of_configuration(run.config, run.problem.network, self._manner[1])
        self.seen = Seen(run.loader, run.batch_size, len(run.training), run.state.fingerprints["training"])
        self.seen.begin(last.step if last else 0)

    def line(self, before: tuple[Config, str] | None = None) -> Line:
        """The line of the state as it is now.

        `before`: the configuration and the engine that have led to it, if they are not those of the run.
        """
        state, step = self._run.state, self._run.state.progress.step
        manner, configuration = self._manner, self._configuration
        if before:
            manner = manner_of(*before)
            configuration = of_configuration(before[0], self._run.problem.network, manner[1])
        data = self.seen.up_to(step)
        digests = (digest(state.parameters), of_optimizer(state.optimizer), data, configuration)
        self.last = Line(step, *manner, *digests, chain.link(self.last))
        self.seen.begin(step)
        return self.last


class Audit(Listener):
    """Adds lines after steps that follow from the configuration, and after the last step of all.

    Lines reach the disk before a checkpoint of their step or of a later one does: `write` is called before each.  So a
    run that is killed has every line up to its newest checkpoint; those behind it are cut when it is resumed.
    """

    def __init__(self, note: Callable[[str], None] = lambda text: None) -> None:
        """`note` tells the user, on rank 0, what is no error."""
        self._note = note

    def begin(self, run: Run) -> None:
        self._run, self._waiting = run, list[Line]()
        config = run.config
        kept = config.reproducible and run.directory.writes and not run.directory.is_dry
        every = int(config.audit_epochs) if kept else 1
        self._steps = AuditSteps(run.steps_per_epoch, every, config.audit_steps)
        self._is_on = bool(run.comm.broadcast(on_first(run.comm, self._begin) if kept else False))

    def sleeps(self, step: int) -> int:
        return self._steps.next(step) - step if self._is_on else MOST_STEPS

    def stepped(self, steps: Steps) -> None:
        if self._is_on and self._run.comm.rank == 0 and self._steps.has(self._run.state.progress.step):
            self._waiting.append(self._maker.line())
            self._run.phases.lap("checkpoint")

    def trained(self) -> None:
        if self._is_on and self._run.comm.rank == 0:
            self._maker.seen.up_to(self._run.state.progress.step)  # while the order of the epoch is at hand
            self._run.phases.lap("checkpoint")

    def ended(self, seconds: float) -> None:
        def end() -> None:
            last = self._maker.last
            if last is None or last.step < self._run.state.progress.step:
                self._waiting.append(self._maker.line())
            self.write()

        if self._is_on:
            on_first(self._run.comm, end)

    def write(self) -> None:
        """On rank 0: what was added reaches the disk.  Raises RunError."""
        if self._is_on and self._waiting:
            self._run.directory.append_audit(self._waiting)
            self._waiting = []

    def _begin(self) -> bool:
        """On rank 0: the file is begun, or cut behind the checkpoint from which the run goes on; False: there is none.

        A line of the last step of all is cut as well: a run that had never stopped there would not have it.  If the
        manner of the run changes here, a line shows the state in which that is so.
        """
        run, steps, step = self._run, self._steps, self._run.state.progress.step
        lines = [] if step == 0 else [line for line in run.directory.read_audit()[0] if line.step <= step]
        manner = manner_of(run.config, run.choice.name)
        changes = run.before is not None and manner_of(*run.before) != manner
        if lines and not changes and not steps.has(lines[-1].step) and lines[-1].manner == manner:
            lines.pop()
        if step and (not lines or chain.break_of(lines) or lines[-1].step < steps.last(step)):
            self._note(
                "note      audit.csv does not have this run from its beginning, so distbp verify cannot check it"
            )
            return False
        self._maker = LineMaker(run, lines[-1] if lines else None)
        if not lines or (changes and lines[-1].step < step):
            lines.append(self._maker.line(run.before))
        run.directory.write_audit(lines)
        return True
