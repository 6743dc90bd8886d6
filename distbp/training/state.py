"""The state of a run in memory: all that is needed to go on bit for bit, which checkpoints keep."""

from __future__ import annotations

from dataclasses import dataclass, field

from distbp.data.fingerprint import Fingerprint
from distbp.data.problem import Problem
from distbp.mathematics.activations import Array
from distbp.mathematics.network import Parameters
from distbp.mathematics.optimizers import make_optimizer
from distbp.ranks.machine_record import Machine
from distbp.settings.config import Config
from distbp.training.history import History


@dataclass
class Progress:
    """How far a run is: whole epochs, steps and samples done, batches skipped.

    Of an epoch under way, `epoch_samples` and `epoch_seconds` are what it has had so far, and `epoch_sums` the sums of
    all ranks in the order of `Problem.sums`; () before its first step.
    """

    epoch: int = 0
    step: int = 0
    samples: int = 0
    skipped: int = 0
    epoch_samples: int = 0
    epoch_seconds: float = 0.0
    epoch_sums: tuple[float, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        """All but the sums, by name."""
        return {name: value for name, value in vars(self).items() if name != "epoch_sums"}


@dataclass
class Checkpoint:
    """The state of a run.  `vector` holds W^2, b^2, … W^F, b^F.

    `optimizer` is empty in best.h5, which holds parameters to use and not to train on.

    `machines`: where the run was computed, each with the step since when.  `fingerprints`: of the data, "training" and
    maybe "validation"; empty where they are not known.

    `flaw`: why no run can go on from it, though its network is good; the vectors of the optimizer are left out then.
    """

    config: Config
    problem: Problem
    vector: Array
    optimizer: dict[str, Array] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    history: History = field(default_factory=lambda: History.of({}))
    machines: list[Machine] = field(default_factory=list)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    flaw: str = ""

    @property
    def numerics(self) -> int:
        """The version of the numerics with which the run was begun, which made the order of its samples."""
        return int(self.machines[0].get("numerics", 0)) if self.machines else 0

    @property
    def can_continue(self) -> bool:
        """Whether it holds all that training needs."""
        return self.optimizer.keys() == set(optimizer_names(self.config))

    @property
    def parameters(self) -> Parameters:
        """W[l] and b[l]."""
        return Parameters(self.problem.network, self.vector)


def optimizer_names(config: Config) -> tuple[str, ...]:
    """The vectors of the optimizer of a configuration, by name."""
    return make_optimizer(config.optimizer, **vars(config)).vectors
