"""After which steps a run writes a line of audit.csv: a function of its configuration and of sizes alone.

No clock and no number of ranks is asked, so a run has the same lines however often it is stopped and resumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from distbp.mathematics.network import Network, parameter_bytes
from distbp.mathematics.optimizers import make_optimizer
from distbp.settings.config import Config

SHARE = 0.01  # of the time of the steps, that the lines may take
HASHED_BYTE = 100  # what SHA-256 takes for a byte, in floating-point operations of one rank
LINE = 5e6  # what else a line takes, likewise
STEP = 1e6  # what a step takes besides its matrix products, likewise


@dataclass(frozen=True)
class AuditSteps:
    """Lines at the end of every `epochs`-th epoch, and after every `steps` steps if that is not 0."""

    steps_per_epoch: int
    epochs: int
    steps: int

    def has(self, step: int) -> bool:
        """Whether there is a line after so many steps."""
        return step % self._long == 0 or (self.steps > 0 and step % self.steps == 0)

    def next(self, step: int) -> int:
        """The step of the next line."""
        return min((step // every + 1) * every for every in (self._long, self.steps) if every)

    def last(self, step: int) -> int:
        """The step of the last line that a run with so many steps has to have."""
        return max(step // every * every for every in (self._long, self.steps) if every)

    @property
    def _long(self) -> int:
        return self.epochs * self.steps_per_epoch


def default_epochs(config: Config, network: Network, samples: int, steps: int, grains: int) -> int:
    """How many epochs are between two lines so that they take about a SHARE of the time.

    An epoch has so many samples and steps; a batch has so many grains, which is how many ranks can work at most.  The
    gradient of a sample takes six operations for each parameter.
    """
    vectors = 1 + len(make_optimizer(config.optimizer, **vars(config)).vectors)
    line = LINE + HASHED_BYTE * parameter_bytes(network, config.dtype) * vectors
    epoch = steps * STEP + 6 * network.parameter_count * samples / grains
    return max(1, -int(-line // (SHARE * epoch)))
