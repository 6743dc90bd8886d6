"""In memory or from files? What the node has, what the data need, and the loader that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from distbp.communicator import Communicator
from distbp.config import AUTO, Config
from distbp.data import Split
from distbp.errors import UsageError
from distbp.grains import sample_shares
from distbp.loader import InMemory, Loader, Streamed, streaming_bytes
from distbp.node_memory import free_bytes
from distbp.sample_order import SampleOrder

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


def make_loader(
    comm: Communicator, config: Config, data: Split, n: int, memory: float, note: Callable[[str], None]
) -> tuple[Config, Loader, Split]:
    """The configuration with its shuffle window, the loader of the training split, and the split as steps find it.

    Raises UsageError, the same on all ranks, where two windows do not fit in `memory`.
    """
    layout = data.layout
    window = config.shuffle_window
    if window == AUTO:
        whole = layout.rows * layout.row_bytes() <= WHOLE_BYTES
        window = layout.rows if whole else WINDOW_BYTES // layout.row_bytes()
    window = min(max(int(window), n), layout.rows)
    config = replace(config, shuffle_window=window)
    order = SampleOrder(layout.blocks(BLOCK_BYTES), window, config.seed)
    if data.in_memory:
        return config, InMemory(order, n), data

    grain = int(config.grain) if config.reproducible else None

    def shares(n: int) -> list[tuple[int, int]]:
        return sample_shares(n, grain, comm.size)

    own = streaming_bytes(order, n, shares, comm.size, layout.row_bytes())
    needed = own * len(comm.node_ranks())
    if needed > memory:
        refused = UsageError(
            f"--memory: reading windows of {window} samples needs {needed / GIB:.3g} GiB on a node, and there are "
            f"{memory / GIB:.3g} GiB for data; allow more, or choose a smaller --shuffle-window when the run begins"
        )
        refused.agreed = True
        raise refused
    if comm.rank == 0:
        note(
            f"note      the training data stay in their files, and windows of {window} samples are shuffled; "
            f"{needed / GIB:.3g} GiB of memory on a node (see --memory)"
        )
    loader = Streamed(comm, order, n, data, shares, config.epochs)
    return config, loader, loader.training
