"""Steps of a run, computed once more: a run is made ready once, and then any part of it can be repeated.

All that enters the numbers is computed anew from the configuration and the data.  Of a checkpoint only w and the
vectors of the optimizer are taken, for the first step of a part.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from distbp.engine.sums import Requests, Steps
from distbp.errors import DistbpError, DivergedError, Stopped
from distbp.ranks.attention import Attention
from distbp.ranks.communicator import Communicator, from_first
from distbp.settings.config import Config
from distbp.training.audit import LineMaker
from distbp.training.chain import Line
from distbp.training.history import History
from distbp.training.listener import MOST_STEPS, Listener, Listeners
from distbp.training.loop import Loop
from distbp.training.no_directory import NoDirectory
from distbp.training.prepare import Voice, prepare
from distbp.training.run import Run
from distbp.training.soundness import Soundness
from distbp.training.state import Progress


@dataclass(frozen=True)
class State:
    """What a part begins with, after `step` steps."""

    step: int
    vector: NDArray[Any]
    optimizer: dict[str, NDArray[Any]]


class Repeat:
    """A run that is ready to be repeated.  Its methods are collectives."""

    def __init__(self, comm: Communicator, config: Config, attention: Attention) -> None:
        self._comm, self._attention = comm.scope(), attention
        voice = Voice(self._comm, lambda text: None, attention.pulse())
        self.run = prepare(voice, config, NoDirectory())
        self._first = self.state() if comm.rank == 0 else None
        self._is_fresh = True  # no step was taken
        self._columns = list(self.run.state.history)

    def close(self) -> None:
        """Gives back what was taken."""
        self.run.loader.close()
        self.run.engine.close()
        self._comm.close()

    def state(self) -> State:
        """A copy of the state as it is."""
        state = self.run.state
        vectors = {name: vector.copy() for name, vector in state.optimizer.items()}
        return State(state.progress.step, state.vector.copy(), vectors)

    def first(self) -> State | None:
        """On rank 0: the state before the first step."""
        return self._first

    def maker(self, last: Line | None) -> LineMaker:
        """Makes the lines that follow this one."""
        return LineMaker(self.run, last)

    def part(
        self, start: State | None, steps: Sequence[int], look: Callable[[int], str], *, is_validated: bool = False
    ) -> str:
        """Repeats from a state that rank 0 has to the last of `steps`, and returns what was found false, or "".

        Without a state on rank 0 it begins with the first step.  `look` is called on rank 0 after each of `steps`.  It
        returns what is false there; that ends the part.
        `is_validated`: epochs are validated and come to the history, the last one included.
        """
        if not steps:
            return ""
        is_first = self._comm.broadcast(start is None)
        if not (is_first and self._is_fresh):
            self._restore(self._first if is_first else start)
        self._is_fresh = False
        watch = _Watch(steps, look, is_validated=is_validated)
        run = self.run if is_validated else replace(self.run, validation=None)
        try:
            Loop(run, self._attention, Listeners([Soundness(), watch])).all_epochs()
        except _Enough:
            pass
        except DivergedError as error:
            return self._comm.broadcast(str(error).splitlines()[0].removesuffix("; nothing of it was saved"))
        except Stopped:
            stopped = Stopped("stopped on request; nothing was found false so far; run the same command again")
            stopped.agreed = True
            raise stopped from None
        return watch.found or (f"step {watch.left[0]}: the run has no such step" if watch.left else "")

    def _restore(self, start: State | None) -> None:
        """All ranks have the state of rank 0."""
        run, state = self.run, self._comm.broadcast(start)
        assert state is not None

        def write() -> None:
            run.state.vector[:] = state.vector
            for name, vector in run.state.optimizer.items():
                vector[:] = state.optimizer[name]

        run.engine.fill(write)
        epoch, done = divmod(state.step, run.steps_per_epoch)
        N = len(run.training)
        samples = epoch * N + min(done * run.batch_size, N)
        run.state.progress = Progress(epoch, state.step, samples, epoch_samples=samples - epoch * N)
        run.state.history = History.of({name: () for name in self._columns})


class _Watch(Listener):
    """Looks after some steps, and ends the part after the last of them."""

    def __init__(self, steps: Sequence[int], look: Callable[[int], str], *, is_validated: bool) -> None:
        self._steps, self._look, self._is_validated = list(steps), look, is_validated
        self.left, self.found = self._steps, ""

    def begin(self, run: Run) -> None:
        self._run = run

    def sleeps(self, step: int) -> int:
        i = bisect_right(self._steps, step)
        return self._steps[i] - step if i < len(self._steps) else MOST_STEPS

    def stepped(self, steps: Steps) -> None:
        run, step = self._run, self._run.state.progress.step
        if not self.left or step != self.left[0]:
            return
        self.left = self.left[1:]
        self.found = from_first(run.comm, partial(self._look, step))
        ends_epoch = self._is_validated and step % run.steps_per_epoch == 0
        if self.found or not (self.left or ends_epoch):
            raise _Enough

    def epoch_ended(self, row: dict[str, float], last: Requests) -> bool:
        return not self.left


class _Enough(DistbpError):
    """All ranks have what they wanted."""

    agreed = True
