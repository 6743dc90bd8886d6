"""A network that was trained, and a split to use it on: what `distbp evaluate` and `distbp predict` begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distbp.data.loading import node_budget
from distbp.data.split import Split, data_files, read_split
from distbp.ranks.communicator import Communicator, from_first
from distbp.ranks.threads import set_threads
from distbp.training.checkpoint import Checkpoint, read
from distbp.training.run_directory import find_checkpoint


@dataclass(frozen=True)
class Trained:
    """The state of a run, a split, and the files they come from: the checkpoint and those of the data."""

    state: Checkpoint
    data: Split
    files: list[str]


def load(
    comm: Communicator,
    checkpoint: str,
    data: Sequence[str],
    split: str,
    *,
    targets: bool,
    trust_links: bool = False,
    memory: float = 0.0,
) -> Trained:
    """A checkpoint, or that of a run directory, and a split of `data`, or without these of the run's own data.

    `targets`: with its labels or targets; `memory`: GiB of each node for the data, 0: half of what is free.  Raises
    CheckpointError or DataError, agreed by all ranks.
    """
    path = from_first(comm, lambda: find_checkpoint(checkpoint))
    state = from_first(comm, lambda: read(path))
    config = state.config
    set_threads(comm, 0, reproducible=config.reproducible)
    files = from_first(comm, lambda: data_files(data or config.data))
    samples = read_split(
        comm,
        files,
        split,
        config.x,
        config.y if targets else None,
        labels=state.problem.labels,
        trust_links=trust_links,
        memory=node_budget(comm, memory),
    )
    state.problem.check(comm, samples)
    return Trained(state, samples, [str(path), *files])
