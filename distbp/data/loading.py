"""In memory or from files? What the node has, what the data need, and the loader that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from distbp.config import AUTO, Config
from distbp.data.block_loader import BlockLoader, block_loader_bytes, plan_bytes
from distbp.data.layout import Layout
from distbp.data.loader import InMemory, Loader, Shares, order_bytes
from distbp.data.row_loader import RowLoader, most_samples
from distbp.data.sample_order import SampleOrder
from distbp.data.split import Split
from distbp.errors import UsageError
from distbp.mathematics.grains import sample_shares
from distbp.ranks.communicator import Communicator
from distbp.ranks.node_memory import free_bytes

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

    def bytes_of_rank(self, layout: Layout, size: int) -> tuple[int, int]:
        """Memory of a rank for windows of samples, and for their order."""
        if self.in_memory:
            return 0, order_bytes(self.order.N)
        if self.batches:
            rows = 2 * self.batches * most_samples(self.order.N, self.n, self.shares)
            return rows * layout.row_bytes(), order_bytes(self.order.N)
        windows = block_loader_bytes(self.order, self.n, self.shares, size, layout.row_bytes())
        return windows, plan_bytes(self.order)


def choose_loader(comm: Communicator, config: Config, data: Split, n: int, memory: float) -> Choice:
    """How a split is brought to the steps, if it is held, or if there are so many bytes of `memory` for it.

    Where two windows do not fit in `memory`, single rows are read, if they can be; otherwise UsageError is raised, the
    same on all ranks.
    """
    layout = data.layout
    window = default_window(layout) if config.shuffle_window == AUTO else int(config.shuffle_window)
    window = min(max(window, n), layout.rows)
    config = replace(config, shuffle_window=window)
    order = SampleOrder(layout.blocks(BLOCK_BYTES), window, config.seed)
    grain = int(config.grain) if config.reproducible else None

    def shares(n: int) -> list[tuple[int, int]]:
        return sample_shares(n, grain, comm.size)

    if data.in_memory:
        return Choice(config, order, shares, n, in_memory=True)
    row_bytes, node_ranks = layout.row_bytes(), max(len(ranks) for ranks in comm.allgather(comm.node_ranks()))
    needed = node_ranks * block_loader_bytes(order, n, shares, comm.size, row_bytes)
    if needed <= memory:
        return Choice(config, order, shares, n, in_memory=False, needed=needed)

    # Two windows of some batches each, of this rank's samples; and the order of all samples.
    batch_bytes, all_bytes = 2 * node_ranks * most_samples(order.N, n, shares) * row_bytes, 16 * node_ranks * order.N
    batches = int((min(memory, 2 * WINDOW_BYTES) - all_bytes) // batch_bytes)
    if batches < 1 or not layout.is_plain:
        refused = UsageError(
            f"--memory: reading windows of {window} samples needs {needed / GIB:.3g} GiB on a node, and there are "
            f"{memory / GIB:.3g} GiB for data; allow more, or choose a smaller --shuffle-window when the run begins"
            + ("" if layout.is_plain else ", or write them uncompressed with distbp import")
        )
        refused.agreed = True
        raise refused
    return Choice(config, order, shares, n, in_memory=False, needed=needed, batches=min(batches, -(-order.N // n)))


def make_loader(
    comm: Communicator, choice: Choice, data: Split, note: Callable[[str], None]
) -> tuple[Config, Loader, Split]:
    """The configuration with its shuffle window, the loader of the training split, and the split as steps find it."""
    config, order, shares, n = choice.config, choice.order, choice.shares, choice.n
    if choice.in_memory:
        return config, InMemory(order, n), data
    if not choice.batches:
        if comm.rank == 0:
            note(
                f"note      the training data stay in their files, and windows of {config.shuffle_window} samples are "
                f"shuffled; {choice.needed / GIB:.3g} GiB of memory on a node (see --memory)"
            )
        blocks = BlockLoader(comm, order, n, data, shares, config.epochs)
        return config, blocks, blocks.training
    if comm.rank == 0:
        note(
            "note      the training data stay in their files, and are read row by row: windows of "
            f"{config.shuffle_window} samples would need {choice.needed / GIB:.3g} GiB of memory on a node. That is "
            "slow from a cold file: allow more --memory, or choose a smaller --shuffle-window when the run begins"
        )
    rows = RowLoader(comm, order, n, data, shares, config.epochs, choice.batches)
    return config, rows, rows.training
