"""What a step sums up besides the gradient: one layout for all modes, engines, epochs, evaluation and checkpoints.

`Problem.sums` names the sums: "loss", which is Σ L_i, and what the metrics are made of (`mathematics.metrics`).  They
are float64.  `Requests` are what ranks ask of each other; they travel with the gradient, so that all ranks know them at
the same step and act alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


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


@dataclass(slots=True)
class Steps:
    """The steps of one call of an engine, one after another: all of them are sound, except perhaps the last.

    `parts`, float64 (steps, sums), is this rank's part of each step; `samples`, int64 (steps,), are those of all ranks.
    All else is known of the last step alone, because a call ends with a step that anybody has to look at.  `ahead` is
    what rank 0 asked for with any of them.  (A step of a small network takes less time than a few objects of Python.)
    """

    parts: NDArray[np.float64]
    samples: NDArray[np.int64]
    last: Stepped
    ahead: int

    @classmethod
    def of(cls, steps: list[Stepped]) -> Steps:
        """Of steps that are known one by one."""
        parts = np.array([one.part.values for one in steps], np.float64)
        samples = np.array([one.samples for one in steps], np.int64)
        return cls(parts, samples, steps[-1], max(one.requests.ahead for one in steps))

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Stepped]:
        for part, samples in zip(self.parts[:-1].tolist(), self.samples[:-1].tolist(), strict=True):
            yield Stepped(Sums(part), samples, 0.0, NOTHING)
        yield self.last

    @property
    def sound(self) -> int:
        """How many of them made their update."""
        return len(self) - bool(self.last.wrong)
