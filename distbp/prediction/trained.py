"""A network that was trained, and a split to use it on: what `distbp evaluate` and `distbp predict` begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from distbp.data.given_arrays import Samples, layout_of
from distbp.data.layout import CLASSES, TARGETS, Layout
from distbp.data.loading import node_budget
from distbp.data.locate import Asked, check_kinds, find_splits
from distbp.data.names import quoted
from distbp.data.split import Split, data_files, foresee_split, read_layout
from distbp.errors import DataError
from distbp.files.patience import patiently
from distbp.prediction.memory_plan import plan_use
from distbp.ranks.communicator import Communicator, agree, from_first, on_first_patiently
from distbp.ranks.memory_plan import Measured, MemoryPlan, Term
from distbp.ranks.same_everywhere import check_options, compare_files
from distbp.ranks.stop import Pulse
from distbp.ranks.threads import set_threads
from distbp.training.checkpoint import Outline, outline, outline_of, read
from distbp.training.comparison import digest
from distbp.training.history import History
from distbp.training.run_directory import find_checkpoint
from distbp.training.state import Checkpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Columns:
    """The names of the inputs and of the labels or targets in the files; "" for those that the network was given."""

    x: str = ""
    y: str = ""


@dataclass(frozen=True)
class Trained:
    """A network, a split, the files they come from (the checkpoint and those of the data), and the memory for it all.

    `threads` are those of this rank.

    Of the state of the run, what only training needs is left out: the optimizer's vectors and the history.
    """

    state: Checkpoint
    data: Split
    files: list[str]
    plan: MemoryPlan
    threads: int


@dataclass(frozen=True)
class Use:
    """What a network is to be used on: a split of `data`, or without these of the run's own data.

    The data may be in memory already; they are then the same on all ranks, and the split is all that there is.
    `targets`: with its labels or targets; `columns`: their names, where they are others than in training; `work`: what
    memory is taken later to work on them (`memory_plan`); `memory`: GiB of each node for the data, 0: half of what is
    free.
    """

    data: Sequence[str] | Samples
    split: str
    targets: bool
    columns: Columns = Columns()
    work: Callable[[Communicator, Outline, Split], list[Term]] = lambda comm, outline, data: []
    trust_links: bool = False
    memory: float = 0.0

    @property
    def options(self) -> dict[str, object]:
        """Those that all ranks must have been given alike."""
        return {
            "DATA": [] if isinstance(self.data, Samples) else list(self.data),
            "--split": self.split,
            "--memory": self.memory,
            "--x": self.columns.x,
            "--y": self.columns.y,
            "--trust-links": self.trust_links,
            "with targets": self.targets,
        }


def load(
    comm: Communicator,
    checkpoint: str | Checkpoint,
    use: Use,
    pulse: Pulse = lambda phase: None,
    note: Callable[[str], None] = lambda text: None,
) -> Trained:
    """A checkpoint, or that of a run directory, and what it is to be used on.

    The checkpoint may be in memory already; it is then the same on all ranks.  `pulse` is called again and again;
    `note` tells the user, on rank 0.  Raises UsageError where ranks were given different ones of these, TooLargeError
    before anything large is read, CheckpointError or DataError, or what `pulse` raises, agreed by all ranks.
    """
    given = checkpoint if isinstance(checkpoint, str) else digest(checkpoint.parameters)
    check_options(comm, {"CHECKPOINT": given, **use.options})
    measured = Measured(comm)
    agree(comm, lambda: pulse("reading the checkpoint"))
    reading = partial(pulse, "reading the checkpoint")
    if isinstance(checkpoint, Checkpoint):
        path, found = None, outline_of(checkpoint)
    else:
        path = from_first(comm, lambda: find_checkpoint(checkpoint))
        found = _from_first(comm, partial(outline, path), reading)
    threads = set_threads(comm, 0, reproducible=found.config.reproducible)
    for line in threads.all_notes if comm.rank == 0 else ():
        note(line)
    files, layout = _find(comm, found, use, note)
    budget = node_budget(comm, use.memory)
    foreseen = foresee_split(comm, layout, memory=budget)
    plan = plan_use(comm, measured, found, foreseen, use.work(comm, found, foreseen))
    plan.check()
    state = checkpoint if isinstance(checkpoint, Checkpoint) else _from_first(comm, partial(_for_use, path), reading)
    if state.flaw and comm.rank == 0:
        note(f"note      {path}: {state.flaw}; its network, which is used here, is not concerned")
    ordered = agree(comm, lambda: state.problem.in_order(layout))
    samples = read_layout(comm, ordered, labels=state.problem.labels, memory=budget, pulse=pulse)
    state.problem.check(comm, samples, pulse)
    return Trained(state, samples, [*([str(path)] if path else []), *files], plan, threads.count)


def _task(found: Outline) -> str:
    """What y is for a network."""
    return CLASSES if found.is_labelled else TARGETS


def _find(comm: Communicator, found: Outline, use: Use, note: Callable[[str], None]) -> tuple[list[str], Layout]:
    """The files, and how the samples of the split lie in them, or in arrays of the caller, which are no files."""
    given, config, columns = use.data, found.config, use.columns
    if isinstance(given, Samples):
        return [], agree(comm, lambda: check_kinds(replace(layout_of(given, use.split), task=_task(found))))
    asked = [
        Asked(x, y if use.targets else None, use.trust_links, config.each, _task(found))
        for x in _candidates(columns.x, config.x, found.columns.x, "x")
        for y in _candidates(columns.y, config.y, () if found.is_labelled else found.columns.y, "y")
    ]
    paths = given or config.data
    files = from_first(comm, lambda: data_files(paths))
    compare_files(comm, files, note)
    return files, from_first(comm, lambda: _first_there(files, use.split, asked))


def _from_first(comm: Communicator, read_it: Callable[[], T], reading: Callable[[], None]) -> T:
    """What rank 0 reads, on all ranks."""
    return comm.broadcast(on_first_patiently(comm, partial(patiently, read_it), reading))  # type: ignore[return-value]


def _for_use(path: Path | None) -> Checkpoint:
    assert path
    return replace(read(path), optimizer={}, history=History.of({}))


def _candidates(given: str, trained_with: str, names: tuple[str, ...], usual: str) -> list[str]:
    """The names to look for: those that were given; else as in training, as import writes them, or column by column."""
    if given:
        return [given]
    return list(dict.fromkeys([trained_with, usual, *([",".join(map(quoted, names))] if names else [])]))


def _first_there(files: Sequence[str], split: str, asked: Sequence[Asked]) -> Layout:
    """The layout of the first names that are there.  Raises DataError, with the words for the first of all."""
    first: DataError | None = None
    for one in asked:
        try:
            return check_kinds(find_splits(files, [split], one)[split])
        except DataError as error:
            first = first or error
    assert first is not None
    raise first
