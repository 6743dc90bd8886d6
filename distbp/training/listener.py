"""Who wants to know of training: what happens between the steps is done by listeners, in one order.

`train` puts them in a table: see `distbp.training.train.table_of`.  All ranks have the same listeners and call them at
the same moments, so a listener may use collectives; those of rank 0 alone, which talk to the user, may not.  What a
listener raises must be agreed by all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

from distbp.engine.sums import NOTHING, Requests, Steps
from distbp.training.run import Run

MOST_STEPS = 2**20  # that a listener sleeps


class Listener:
    """A listener that does nothing; others say what they do."""

    def note(self, text: str) -> None:
        """Something worth a line; on rank 0 only, and also before `begin`."""

    def begin(self, run: Run) -> None:
        """Everything is ready; the first step follows."""

    def sleeps(self, step: int) -> int:
        """After `step` steps: how many more may be taken in one call of the engine, as far as this listener goes.

        It must be the same on all ranks.
        """
        return MOST_STEPS

    def ask(self, step: int) -> Requests:
        """What this rank asks for with a step; the ranks may differ."""
        return NOTHING

    def before(self, step: int) -> None:
        """A call of the engine begins with this step."""

    def stepped(self, steps: Steps) -> None:
        """The engine has taken these steps; the progress of the run knows of them."""

    def interrupted(self) -> None:
        """A rank has asked for a stop, or for a checkpoint inside an epoch."""

    def trained(self) -> None:
        """The steps of an epoch are done; it is going to be validated."""

    def epoch_ended(self, row: dict[str, float], last: Requests) -> bool:
        """An epoch is in the history, as this row of metrics.csv; `last`: what was asked for with its last step.

        True: no further epoch is to follow; all ranks say the same.
        """
        return False

    def ended(self, seconds: float) -> None:
        """All epochs are done."""

    def failed(self, error: BaseException) -> None:
        """Training ends with this error."""


class Listeners(Listener):
    """Several, which are told in their order; between steps only those that have something to do there."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._all = list(listeners)
        self._asking, self._before, self._stepped = (
            [one for one in self._all if getattr(type(one), name) is not getattr(Listener, name)]
            for name in ("ask", "before", "stepped")
        )

    def note(self, text: str) -> None:
        for one in self._all:
            one.note(text)

    def begin(self, run: Run) -> None:
        for one in self._all:
            one.begin(run)

    def sleeps(self, step: int) -> int:
        return min((one.sleeps(step) for one in self._all), default=MOST_STEPS)

    def ask(self, step: int) -> Requests:
        if len(self._asking) == 1:
            return self._asking[0].ask(step)
        return Requests(*map(sum, zip(*(one.ask(step) for one in [Listener(), *self._asking]), strict=True)))

    def before(self, step: int) -> None:
        for one in self._before:
            one.before(step)

    def stepped(self, steps: Steps) -> None:
        for one in self._stepped:
            one.stepped(steps)

    def interrupted(self) -> None:
        for one in self._all:
            one.interrupted()

    def trained(self) -> None:
        for one in self._all:
            one.trained()

    def epoch_ended(self, row: dict[str, float], last: Requests) -> bool:
        return any([one.epoch_ended(row, last) for one in self._all])

    def ended(self, seconds: float) -> None:
        for one in self._all:
            one.ended(seconds)

    def failed(self, error: BaseException) -> None:
        for one in self._all:
            one.failed(error)
