"""What a step sums up besides the gradient: one layout for all modes, engines, epochs, evaluation and checkpoints.

`Problem.sums` names the sums: "loss", which is Σ L_i, and what the metrics are made of (`mathematics.metrics`).  They
are float64.  `Requests` are what ranks ask of each other; they travel with the gradient, so that all ranks know them at
the same step and act alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple


class Requests(NamedTuple):
    """What is asked for with a step; 0 by ranks that do not ask for it.  Over the ranks they are added."""

    stop: int = 0  # after this step, with a checkpoint
    save: int = 0  # a checkpoint after this step
    ahead: int = 0  # of rank 0 alone: how many steps the next call of the engine may take

    @property
    def ends_call(self) -> bool:
        """Whether training has to look before the next step."""
        return bool(self.stop or self.save)


NOTHING = Requests()


@dataclass(slots=True)
class Sums:
    """The values of the sums, in the order of `Problem.sums`, over `samples` samples."""

    values: list[float]
    samples: int = 0

    def add(self, values: Sequence[float], samples: int) -> None:
        """Adds what some more samples come to."""
        for i, value in enumerate(values):
            self.values[i] += value
        self.samples += samples

    @property
    def flaw(self) -> float:
        """The loss where it is not finite, inf or nan; else 0."""
        loss = self.values[0]
        return 0.0 if isfinite(loss) else loss


@dataclass(slots=True)
class Stepped:
    """What ranks know of a step: the `part` of this rank, and what is agreed by all ranks.

    The sums of all ranks are the sum of their parts: float32 has neither the digits nor the range of squared errors in
    the units of the targets, so they do not travel with the gradient (see `distbp.engine.epoch_sums`).  Agreed are
    `samples`, the number of samples of all ranks; `flaw`, the loss of all ranks where it is not finite, else 0; and the
    requests of all ranks.  `wrong` is why no update was made, in words, if none was; `by_a_sample`: it is then worth
    looking for the sample.
    """

    part: Sums
    samples: int
    flaw: float
    requests: Requests
    wrong: str = ""
    by_a_sample: bool = False
