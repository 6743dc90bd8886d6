"""In memory or from files? What the node has, what the data need, and the loader that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from distbp.data.block_loader import BlockLoader, plan_bytes
from distbp.data.layout import Layout
from distbp.data.loader import InMemory, Loader, Shares, Streamed, order_bytes
from distbp.data.lots import lots
from distbp.data.row_loader import RowLoader
from distbp.data.sample_order import SampleOrder
from distbp.data.split import Split
from distbp.errors import UsageError
from distbp.mathematics.arena import ALIGNED, Arena, CountingArena
from distbp.mathematics.grains import sample_shares
from distbp.mathematics.numerics import NUMERICS
from distbp.ranks.communicator import Communicator
from distbp.ranks.node_memory import free_bytes
from distbp.settings.config import Config
from distbp.settings.option import AUTO

BLOCK_BYTES = 2**20  # read at a time, and shuffled as one
WHOLE_BYTES = 2**30  # data up to this size are shuffled as a whole
WINDOW_BYTES = 256 * 2**20
GIB = 2.0**30


def node_budget(comm: Communicator, gib: float) -> float:
    """Bytes for data on each node: as given, or half of what is free on the node that has least."""
    if gib:
        return gib * GIB
    free = np.array([free_bytes() / 2.0])
    comm.allreduce(free, "min")
    return float(free[0])


def held_bytes(data: Split | None) -> int:
    """What a split takes of a node's memory."""
    if data is None:
        return 0
    classes = 4 if data.is_labelled else 0  # these are in memory in any case
    return data.layout.rows * (data.layout.row_bytes() if data.in_memory else classes)


def default_window(layout: Layout) -> int:
    """How many samples are shuffled together: all, or windows of a size that belongs to the data alone."""
    is_small = layout.rows * layout.row_bytes() <= WHOLE_BYTES
    return layout.rows if is_small else max(1, WINDOW_BYTES // layout.row_bytes())


@dataclass(frozen=True)
class Choice:
    """How the training split is brought to the steps, in batches of n: nothing of it is there yet.

    `needed`: bytes on a node for windows of blocks.  `batches`: of a window that is read row by row, else 0.
    """

    config: Config
    order: SampleOrder
    shares: Shares
    n: int
    in_memory: bool
    needed: int = 0
    batches: int = 0

    @property
    def order_bytes(self) -> int:
        """Memory of a rank for the order of the samples."""
        return order_bytes(self.order.N) if self.in_memory or self.batches else plan_bytes(self.order)

    def loader(self, comm: Communicator, data: Split, arena: Arena = ALIGNED) -> InMemory | BlockLoader | RowLoader:
        """The loader of the training split."""
        if self.in_memory:
            return InMemory(self.order, self.n)
        streamed = Streamed(comm, self.order, self.n, data, self.shares, self.config.epochs, arena)
        return RowLoader(streamed, self.batches) if self.batches else BlockLoader(streamed)

    def windows_bytes(self, comm: Communicator, data: Split) -> int:
        """Memory of a rank for windows of samples."""
        counted = CountingArena()
        self.loader(comm, data, counted).close()
        return counted.bytes


def choose_loader(
    comm: Communicator, config: Config, data: Split, n: int, memory: float, numerics: int = NUMERICS
) -> Choice:
    """How a split is brought to the steps, if it is held, or if there are so many bytes of `memory` for it.

    `numerics`: the version with which the run was begun.  Where two windows do not fit in `memory`, single rows are
    read, if they can be; otherwise UsageError is raised, the same on all ranks.
    """
    layout = data.layout
    window = default_window(layout) if config.shuffle_window == AUTO else int(config.shuffle_window)
    window = min(max(window, n), layout.rows)
    config = replace(config, shuffle_window=window)
    order = SampleOrder(layout.blocks(BLOCK_BYTES), window, lots(config.seed, numerics))
    grain = config.samples_of_a_grain

    def shares(n: int) -> list[tuple[int, int]]:
        return sample_shares(n, grain, comm.size)

    if data.in_memory:
        return Choice(config, order, shares, n, in_memory=True)
    node_ranks = max(len(ranks) for ranks in comm.allgather(comm.node_ranks()))
    in_blocks = Choice(config, order, shares, n, in_memory=False)
    needed = node_ranks * in_blocks.windows_bytes(comm, data)
    if needed <= memory:
        return replace(in_blocks, needed=needed)

    # Two windows of some batches each, of this rank's samples; and the order of all samples.
    batch_bytes = node_ranks * replace(in_blocks, batches=1).windows_bytes(comm, data)
    all_bytes = 16 * node_ranks * order.N
    batches = int((min(memory, 2 * WINDOW_BYTES) - all_bytes) // batch_bytes)
    if batches < 1 or not layout.is_plain:
        refused = UsageError(
            f"--memory: reading windows of {window} samples needs {needed / GIB:.3g} GiB on a node, and there are "
            f"{memory / GIB:.3g} GiB for data; allow more, or choose a smaller --shuffle-window when the run begins"
            + ("" if layout.is_plain else ", or write them uncompressed with distbp import")
        )
        refused.agreed = True
        raise refused
    return replace(in_blocks, needed=needed, batches=min(batches, -(-order.N // n)))


def make_loader(
    comm: Communicator, choice: Choice, data: Split, note: Callable[[str], None]
) -> tuple[Config, Loader, Split]:
    """The configuration with its shuffle window, the loader of the training split, and the split as steps find it."""
    config, loader = choice.config, choice.loader(comm, data)
    if isinstance(loader, InMemory):
        return config, loader, data
    if comm.rank == 0:
        if not choice.batches:
            note(
                f"note      the training data stay in their files, and windows of {config.shuffle_window} samples are "
                f"shuffled; {choice.needed / GIB:.3g} GiB of memory on a node (see --memory)"
            )
        else:
            note(
                "note      the training data stay in their files, and are read row by row: windows of "
                f"{config.shuffle_window} samples would need {choice.needed / GIB:.3g} GiB of memory on a node. That "
                "is slow from a cold file: allow more --memory, or choose a smaller --shuffle-window when the run "
                "begins"
            )
    return config, loader, loader.training
