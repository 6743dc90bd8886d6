"""A run on one rank: what it is made of, and its state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distbp.data.loader import Loader
from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.engine.choice import Choice
from distbp.engine.engine import Engine
from distbp.errors import DivergedError
from distbp.ranks.communicator import Communicator
from distbp.ranks.job import Job
from distbp.ranks.memory_plan import MemoryPlan
from distbp.ranks.threads import Threads
from distbp.settings.config import Config
from distbp.training.phases import Phases
from distbp.training.run_directory import RunDirectory
from distbp.training.state import Checkpoint


@dataclass
class Run:
    """A run on one rank.  `state` is what a checkpoint keeps; its vectors are those of the engine."""

    comm: Communicator
    config: Config
    problem: Problem
    training: Split
    loader: Loader
    validation: Split | None
    batch_size: int
    steps_per_epoch: int
    state: Checkpoint
    directory: RunDirectory
    threads: Threads
    plan: MemoryPlan
    engine: Engine
    choice: Choice
    phases: Phases
    job: Job
    to_beat: float  # the validation loss below which an epoch's parameters become best.h5
    before: tuple[Config, str] | None = None  # configuration and engine of the checkpoint that it goes on from
    kept: Checkpoint | None = None  # on rank 0, at the end: the best parameters of this start, if there are any

    def __post_init__(self) -> None:
        self.saved = self.directory.saved_as(self.state.progress.step)  # the last good checkpoint, for messages

    def best(self) -> tuple[float, int]:
        """The validation loss of what is in best.h5, and its epoch; (inf, 0) where there is none."""
        losses = self.state.history["validation_loss"]
        return self.to_beat, (int(np.argmax(losses == self.to_beat)) + 1 if self.to_beat < math.inf else 0)

    def diverged(self, what: str) -> DivergedError:
        """The error, agreed, that ends a run whose numbers are not finite."""
        error = DivergedError(
            f"{what}; nothing of it was saved\n"
            f"the last checkpoint is {self.saved}; try a smaller --learning-rate, --clip-norm, --warmup-epochs or "
            "--scale standardize"
        )
        error.agreed = True
        return error
