"""The end of the job: a run stops by itself, early enough for its checkpoint, without any signal.

Rank 0 alone looks at the clock; that it wants to stop goes to all with the sums of the next step, as a signal would.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from distbp.ranks.job import Job, asked_end, end_of

SPARE_SHARE, SPARE_SECONDS = 0.05, 60.0  # of the time that there was: to end all ranks, and for who requeues the job
CHECKPOINTS = 3  # an epoch may end before the clock is looked at again: best.h5, a checkpoint, and that of the stop
FADING = 0.9  # of the longest step, at each later one
AGAIN_SECONDS = 2.0  # for an answer of SLURM's controller, while all ranks wait


class Deadline:
    """Says why the run is to stop, if it is: before the job's end, or because `asked` has a reason.

    `started`, `end`: seconds since 1970; `whose` end it is.  `save_seconds`: what a checkpoint takes.  `later` is
    called when that end is near, and may tell of a later one, for who has given the job more time.
    """

    def __init__(
        self,
        started: float,
        end: float,
        whose: str,
        save_seconds: Callable[[], float],
        asked: Callable[[], str],
        later: Callable[[], tuple[float, str] | None] = lambda: None,
    ) -> None:
        self._end, self._whose, self._save_seconds, self._asked, self._later = end, whose, save_seconds, asked, later
        self._spare = min(SPARE_SECONDS, SPARE_SHARE * max(0.0, end - started))
        self._step = self._interval = 0.0
        self._at, self._why, self._may_be_later = time.time(), "", True

    def __call__(self) -> str:
        """To be called before each step, and again and again in long work; what it has said once, it says again."""
        now = time.time()
        last, self._interval, self._at = self._interval, now - self._at, now
        # One that stands alone is not a step: the process was suspended, or wrote a checkpoint.
        self._step = max(min(last, self._interval), FADING * self._step)
        if reason := self._asked():
            return reason
        needed = CHECKPOINTS * self._save_seconds() + 2 * self._step + self._spare  # the next step may be slower
        left = self._end - now
        if self._may_be_later and left <= needed + AGAIN_SECONDS:  # so early that there is time to wait for the answer
            end = self._later()
            self._may_be_later = end is not None and end[0] > self._end + 1
            if end and self._may_be_later:
                self._end, self._whose = end
                left = self._end - now
        if left <= needed and not self._why:
            self._why = f"{max(0.0, left):.{1 if left < 10 else 0}f} s before the end of {self._whose}"
        return self._why


def first_end(job: Job, time_limit: float, *, again: bool = False) -> tuple[float, str] | None:
    """When the run has to be over, and who says so: SLURM or --time-limit, `time_limit` minutes; None: nobody does.

    May ask SLURM's controller: for rank 0.  `again`: asks it whatever was told before.
    """
    ends = []
    if time_limit:
        ends.append((job.started + 60 * time_limit, f"--time-limit {time_limit:g}"))
    if job.id:
        end = asked_end(job, seconds=AGAIN_SECONDS) if again else None
        end = end_of(job) if end is None else end
        if end is not None:
            ends.append((end, f"the time of {job.name}"))
    return min(ends, default=None)
