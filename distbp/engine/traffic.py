"""What the ranks of several nodes exchange in a step, for those who want to predict how long that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distbp.engine.batch_gradient import has_overlap
from distbp.engine.exchange import CHUNK, exchange_of
from distbp.engine.reproducible import CHUNK as GRAIN_CHUNK
from distbp.engine.step_memory import bucket_limits, least_of_bucket, slices_of
from distbp.mathematics.activations import Array
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator
from distbp.ranks.mpi import ALLREDUCE_BYTES
from distbp.settings.config import Config


@dataclass(frozen=True)
class Traffic:
    """Of a rank of a node: how its slice of the gradient, of at most `size` bytes, goes to its peers on other nodes.

    `messages`: how many; `allreduces`: into how many parts an Allreduce of the slice is cut.  `in_parts`: the peers
    exchange parts of it (see `distbp.engine.exchange`), and do not make one Allreduce.  `top`: the lowest layer of the
    first bucket, which can go when the backward pass has come so far; `last`: the share of the gradient that goes after
    the backward pass.
    """

    size: int
    messages: int
    allreduces: int
    in_parts: bool
    top: int
    last: float
    wire: str

    def sender(self, peers: Communicator, numbers: Array) -> Callable[[], None]:
        """What sums some numbers over the peers as a step does."""
        return exchange_of(peers, numbers, self.wire, in_parts=self.in_parts)


def traffic_of(comm: Communicator, config: Config, network: Network, ranks: int) -> Traffic:
    """The traffic of a step on several nodes of so many ranks each."""
    item, count = np.dtype(config.dtype).itemsize, network.parameter_count
    limits = bucket_limits(network, least_of_bucket(network, config.dtype, 2, overlap=has_overlap(config, comm)))
    in_parts = config.wire != "full" or len(limits) > 1
    size = max(one.stop - one.start for one in slices_of(0, count, ranks)) * item
    allreduces = -(-size // ALLREDUCE_BYTES)
    lengths = [-(-(stop - start) // ranks) for _, start, stop in limits]
    if config.reproducible:
        messages = -(-size // (GRAIN_CHUNK * item)) + 1
    elif in_parts:
        messages = sum(-(-length // CHUNK) for length in lengths)
    else:
        messages = allreduces
    (top, *_), (_, start, stop) = limits[0], limits[-1]
    return Traffic(size, messages, allreduces, in_parts, top, (stop - start) / count, config.wire)
