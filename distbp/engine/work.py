"""What an engine works on: which ranks, how, on which network and samples."""

from __future__ import annotations

from dataclasses import dataclass, field

from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.network import Network
from distbp.mathematics.optimizers import Optimizer, make_optimizer
from distbp.ranks.communicator import Communicator
from distbp.settings.config import Config


@dataclass(frozen=True)
class Work:
    """The steps of a run, as an engine needs to know them before the first one.

    `training`: the split whose rows the batches name; `sizes`: how many samples batches have, over all ranks; `arena`:
    where the engine takes its memory (see `distbp.mathematics.arena`); `threads`: of this rank; `is_compiled`: which
    engine it is (see `distbp.engine.choice`).
    """

    comm: Communicator
    config: Config
    problem: Problem
    training: Split
    sizes: tuple[int, ...]
    arena: Arena = field(default=ALIGNED, compare=False)
    threads: int = 1
    is_compiled: bool = False

    @property
    def n(self) -> int:
        """Samples of the largest batch."""
        return max(self.sizes)

    @property
    def grain(self) -> int:
        """G in the reproducible mode; a larger one than the largest batch is the same as that."""
        return min(int(self.config.grain), self.n)

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self.problem.network


def optimizer_of(config: Config) -> Optimizer:
    """The optimizer of a configuration."""
    return make_optimizer(config.optimizer, **vars(config))
