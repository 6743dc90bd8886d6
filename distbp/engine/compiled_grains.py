"""The tree of grains, as the compiled step knows it: see `reproducible`, and `node_gradient` in `native/step.h`.

There an element of z^l or d^l has the same bits however samples are grouped, so only sums over samples are cut into
grains: no shape of a product needs to be tried out, and grains of any size go through the network together.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.engine.compiled_net import CompiledNet
from distbp.engine.laps import Lap
from distbp.engine.native.library import Library
from distbp.engine.native.plan import SUMS, BatchPlan, RunPlan, TreePlan
from distbp.engine.step_memory import StepMemory
from distbp.engine.work import Work
from distbp.mathematics.backprop import piece_samples
from distbp.mathematics.grain_tree import Node, children, grains_of, largest_nodes, root, shares
from distbp.mathematics.grains import grain_count
from distbp.mathematics.network import Parameters

DEEPEST = 20  # levels that are worked on together at most, as in engine.c


class GrainTree:
    """`plan` says how batches are cut, and has room for the sums on the way to those of this rank's nodes.

    `grain`: G; `m`: how many samples are worked on together at most.
    """

    def __init__(self, work: Work, memory: StepMemory) -> None:
        comm, network, dtype = work.comm, work.network, work.config.dtype
        self.grain = work.grain
        self._memory, self._rank, self._size = memory, comm.rank, comm.size
        self._kept, self._kinds = list[Any](), dict[int, BatchPlan]()
        counts = {grain_count(n, self.grain) for n in work.sizes}
        most = max(last - first for count in counts for first, last in shares(count, comm.size))
        fit = max(1, piece_samples(network, dtype) // self.grain)
        together = 2 ** min(DEEPEST, fit.bit_length() - 1, (most - 1).bit_length())
        self.m = min(most, together) * self.grain
        sums = work.arena.of("sums of gradients")
        # The i-th sum that comes to a stack finds as many there as i has ones in binary.
        above = max(i.bit_count() for i in range(-(-most // together)))
        self._above = [sums.take(network.parameter_count, dtype) for _ in range(above)]
        self._places = (ctypes.c_void_p * max(1, above))(*(one.ctypes.data for one in self._above))
        self.plan = TreePlan(
            grain=self.grain,
            together=together,
            most=max(counts),
            above=ctypes.addressof(self._places),
            shared=memory.of_grains.ctypes.data,
        )

    def begin(self, sizes: Sequence[int]) -> NDArray[np.float64]:
        """For steps with batches of these sizes: room for the sums of all grains, shape (steps, grains, sums)."""
        if new := {*sizes} - {*self._kinds}:
            self._kinds |= {n: self._batch(n) for n in new}
            self._batches = (BatchPlan * len(self._kinds))(*self._kinds.values())
            self.plan.kinds, self.plan.batch = len(self._kinds), ctypes.addressof(self._batches)
        kept = np.empty((len(sizes), self.plan.most, SUMS))
        self.plan.kept = kept.ctypes.data
        return kept

    def _batch(self, n: int) -> BatchPlan:
        """What the nodes of the tree are, whose they are, and how they are added up."""
        count, memory = grain_count(n, self.grain), self._memory
        owned = [largest_nodes(*share, count) for share in shares(count, self._size)]
        slots = len(memory.sums[0])
        places = {
            node: part * slots + i for part, rank in enumerate(memory.ranks) for i, node in enumerate(owned[rank])
        }
        mine = [(grains.start, grains.stop) for grains in (grains_of(node, count) for node in owned[self._rank])]
        leaves = _leaves(root(count), count, places)
        assert len(mine) <= slots, "the memory is for other batches"
        nodes, leaf = self._array(mine), self._array(leaves)
        return BatchPlan(n=n, grains=count, nodes=len(mine), node=nodes, leaves=len(leaves), leaf=leaf)

    def _array(self, pairs: Sequence[tuple[int, int]]) -> int:
        array = np.array(pairs, np.int64).reshape(-1, 2)
        self._kept.append(array)
        return int(array.ctypes.data)


def _leaves(node: Node, count: int, places: dict[Node, int]) -> list[tuple[int, int]]:
    """Of the nodes below that have a place, from left to right: the place, and how many additions come behind it."""
    if node in places:
        return [(places[node], 0)]
    below = [_leaves(child, count, places) for child in children(node, count)]
    *found, (place, additions) = [leaf for leaves in below for leaf in leaves]
    return [*found, (place, additions + len(below) - 1)]


class CompiledGrainSums:
    """See `reproducible.NodeSums`: where there are several nodes, C computes what a rank computes by itself."""

    def __init__(self, lib: Library, work: Work, memory: StepMemory, parameters: Parameters, lap: Lap) -> None:
        self._lib, self._lap, self._training = lib, lap, work.training
        self._tree, self._sums, self._run = GrainTree(work, memory), memory.sums[memory.part], RunPlan()
        self.net = CompiledNet(work, lib, parameters.vector, self._sums[0], self._tree.m)

    def __call__(self, i: int, node: Node, count: int, batch: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        """See `NodeSums`."""
        grains, G = grains_of(node, count), self._tree.grain
        sums[grains.start : grains.stop] = 0.0
        self.net.point_to(self._training.x, self._training.y)
        rows = batch[grains.start * G : grains.stop * G]
        self.net.node(rows, self._tree.plan, self._sums[i], sums[grains.start :], self._run)
        self._run.tell_laps(self._lap)

    def close(self) -> None:
        """Ends the threads."""
        self.net.close()
