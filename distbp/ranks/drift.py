"""The drift guard: do all ranks still hold the same parameters?

Every rank makes the same update from the same gradient, so parameters never need to be sent.  A defective CPU or
memory, or an MPI whose Allreduce hands the ranks different results, breaks that in silence: the ranks drift apart, and
what rank 0 saves is the result of none of them.  So every few steps, and before anything is saved, a checksum of each
layer is compared by one small Allreduce.
"""

from __future__ import annotations

import socket
import zlib
from collections import Counter

import numpy as np

from distbp.errors import DriftError
from distbp.mathematics.network import Parameters
from distbp.ranks.communicator import Communicator


class DriftGuard:
    """Compares `parameters` between the ranks, every `steps` steps (0: never), and when asked to."""

    def __init__(self, comm: Communicator, parameters: Parameters, steps: int) -> None:
        self._comm, self._parameters = comm, parameters
        self._steps = steps if comm.size > 1 else 0

    def after_step(self, step: int, saved: str) -> None:
        """To be called after each update."""
        if self._steps and step % self._steps == 0:
            self.check(step, saved)

    def check(self, step: int, saved: str) -> None:
        """Raises DriftError, agreed, where the ranks differ; `saved` names the last good checkpoint."""
        if not self._steps:
            return
        W, b = self._parameters.W, self._parameters.b
        mine = np.array([zlib.crc32(b[l], zlib.crc32(W[l])) for l in range(2, len(W))], np.float64)
        extremes = np.concatenate([mine, -mine])
        self._comm.allreduce(extremes, "max")
        highest, lowest = extremes[: len(mine)], -extremes[len(mine) :]
        if (highest == lowest).all():
            return
        layer = int((highest != lowest).argmax())
        everyone = self._comm.allgather((int(mine[layer]), socket.gethostname()))
        common, count = Counter(checksum for checksum, _ in everyone).most_common(1)[0]  # of equals, rank 0's
        rank, (_, host) = next((rank, one) for rank, one in enumerate(everyone) if one[0] != common)
        others = "most ranks hold" if 2 * count > len(everyone) else "rank 0 holds"
        drift = DriftError(
            f"the ranks do not hold the same parameters after step {step}: layer {layer + 2} of rank {rank} ({host}) "
            f"is not what {others}\nthe last checkpoint of which they held the same is {saved}; nothing was saved "
            "since. A defective CPU or memory does this, or an MPI whose Allreduce gives the ranks different results: "
            "continue with --resume, on other nodes"
        )
        drift.agreed = True
        raise drift
