"""The end of the job: a run stops by itself, early enough for its checkpoint, without any signal.

Rank 0 alone looks at the clock; that it wants to stop goes to all with the sums of the next step, as a signal would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from distbp.ranks.job import Job, asked_end, end_of

SPARE_SHARE, SPARE_SECONDS = 0.05, 60.0  # of the time that there was: to end all ranks, and for who requeues the job
CHECKPOINTS = 3  # an epoch may end before the clock is looked at again: best.h5, a checkpoint, and that of the stop
FADING = 0.9  # of the longest step, at each later one
AGAIN_SECONDS = 2.0  # for an answer of SLURM's controller, while all ranks wait


@dataclass(frozen=True)
class End:
    """When a run has to be over, on a clock; `whose` end it is; `span`: seconds that there were, when the run began.

    What a run may take is measured by a clock that nobody sets; the end of a job is a time of the day, and may be put
    off: `again` asks for it once more.
    """

    at: float
    whose: str
    span: float
    clock: Callable[[], float]
    again: Callable[[], float | None] = lambda: None

    @property
    def left(self) -> float:
        """Seconds."""
        return self.at - self.clock()

    @property
    def spare(self) -> float:
        """Seconds that are not to be used."""
        return min(SPARE_SECONDS, SPARE_SHARE * max(0.0, self.span))


class Deadline:
    """Says why the run is to stop, if it is: before one of the ends, or because `asked` has a reason.

    `save_seconds`: what a checkpoint takes.  An end that is near is asked for again: the job may have got more time.
    """

    def __init__(self, ends: Sequence[End], save_seconds: Callable[[], float], asked: Callable[[], str]) -> None:
        self._ends, self._save_seconds, self._asked = list(ends), save_seconds, asked
        self._step = self._interval = 0.0
        self._at, self._why, self._may_be_later = time.monotonic(), "", True

    def __call__(self) -> str:
        """To be called before each step, and again and again in long work; what it has said once, it says again."""
        now = time.monotonic()
        last, self._interval, self._at = self._interval, now - self._at, now
        # One that stands alone is not a step: the process was suspended, or wrote a checkpoint.
        self._step = max(min(last, self._interval), FADING * self._step)
        if reason := self._asked():
            return reason
        end, left = self._nearest()
        if self._may_be_later and left <= AGAIN_SECONDS:  # so early that there is time to wait for the answer
            self._ask_again(end)
            end, left = self._nearest()
        if left <= 0 and not self._why:
            seconds = max(0.0, end.left)
            self._why = f"{seconds:.{1 if seconds < 10 else 0}f} s before the end of {end.whose}"
        return self._why

    def _nearest(self) -> tuple[End, float]:
        """The end that comes first, and the seconds until the run has to stop for it."""
        needed = CHECKPOINTS * self._save_seconds() + 2 * self._step  # the next step may be slower
        left, first = min((end.left - needed - end.spare, i) for i, end in enumerate(self._ends))
        return self._ends[first], left

    def _ask_again(self, near: End) -> None:
        """As long as it is put off."""
        at = near.again()
        self._may_be_later = at is not None and at > near.at + 1
        if at is not None and self._may_be_later:
            self._ends[self._ends.index(near)] = replace(near, at=at)


def ends_of(job: Job, time_limit: float) -> list[End]:
    """When the run has to be over: by --time-limit, `time_limit` minutes, and by the job; empty where nobody says.

    May ask SLURM's controller: for rank 0.
    """
    ends = []
    if time_limit:
        seconds = 60 * time_limit
        ends.append(End(job.begun + seconds, f"--time-limit {time_limit:g}", seconds, time.monotonic))
    end = end_of(job) if job.id else None
    if end is not None:
        again = partial(asked_end, job, seconds=AGAIN_SECONDS)
        ends.append(End(end, f"the time of {job.name}", end - job.started, time.time, again))
    return ends


def time_of_the_first(ends: Sequence[End]) -> float:
    """In seconds since 1970; inf where there is no limit."""
    first = min(ends, key=lambda end: end.left)
    return first.at if first.clock is time.time or first.at == math.inf else round(time.time() + first.left)
