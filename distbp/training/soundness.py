"""Before anything is validated or saved: are the parameters finite, and the same on all nodes?"""

from __future__ import annotations

import math

import numpy as np

from distbp.engine.sums import Steps
from distbp.ranks.drift import DriftGuard
from distbp.training.listener import MOST_STEPS, Listener
from distbp.training.run import Run


class Soundness(Listener):
    """Ends the run with a DivergedError or a DriftError: a network that is none must not take the place of a good one.

    The nodes are compared every --drift-steps steps as well.
    """

    def begin(self, run: Run) -> None:
        self._run = run
        self._every = run.config.drift_steps if len(run.engine.nodes) > 1 else 0
        self._guard = DriftGuard(run.comm, run.engine.parameters, self._every)

    def sleeps(self, step: int) -> int:
        return self._every - step % self._every if self._every else MOST_STEPS

    def stepped(self, steps: Steps) -> None:
        self._guard.after_step(self._run.state.progress.step, self._run.saved)

    def interrupted(self) -> None:
        self._check()

    def trained(self) -> None:
        self._check()

    def _check(self) -> None:
        run, w, progress = self._run, self._run.engine.w, self._run.state.progress
        self._guard.check(progress.step, run.saved)
        with np.errstate(over="ignore", invalid="ignore"):
            is_finite = math.isfinite(w @ w) or np.isfinite(w).all()
        if not is_finite:
            where = f"at epoch {progress.epoch + 1}, step {progress.step}"
            raise run.diverged(f"the parameters are not finite {where}")
