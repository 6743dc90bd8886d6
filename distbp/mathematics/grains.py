"""Grains: the samples of a batch that are worked on together, whoever works on them.

A batch of n samples is cut into ⌈n/G⌉ grains of G samples, the last one may be shorter; G is part of the configuration
and does not depend on the number of ranks.  A rank owns whole grains.  The bits that a matrix product or exp() gives to
a sample may depend on how many samples stand beside it, and on where it stands in memory; so everything is done for a
grain at a time, in memory that begins at a cache line.  Then a grain has the same bits on every rank.

Small products leave part of a CPU's speed unused.  Where this BLAS gives the columns of a product the same bits
whatever columns stand beside them, whole grains of a rank go through the products W a and Wᵀ d together.  Whether
it does is tried out for each shape before it is used: how a product is added up follows from its shape, not from the
numbers in it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import DTypeLike

from distbp.mathematics.activations import Array
from distbp.mathematics.arena import ALIGNED, CACHE_LINE, Arena
from distbp.mathematics.backprop import Piece
from distbp.mathematics.batches import shard
from distbp.mathematics.grain_tree import shares
from distbp.mathematics.network import Network

SMALLEST, LARGEST, GRAINS = 16, 256, 4


def default_grain(n: int) -> int:
    """G for batches of n samples: a quarter of n, between 16 and 256.  It depends on n alone."""
    quarter = -(-n // GRAINS)
    return int(min(LARGEST, max(SMALLEST, -(-quarter // SMALLEST) * SMALLEST)))


def grain_count(n: int, grain: int) -> int:
    """How many grains a batch of n samples has."""
    return -(-n // grain)


def sample_shares(n: int, grain: int | None, size: int) -> list[tuple[int, int]]:
    """The samples [start, end) of a batch of n that each of `size` ranks works on; `grain` in the reproducible mode."""
    if grain is None:
        return [shard(n, rank, size) for rank in range(size)]
    grains = shares(grain_count(n, grain), size)
    return [(min(n, first * grain), min(n, last * grain)) for first, last in grains]


def stride(grain: int, dtype: DTypeLike) -> int:
    """Samples from the start of a grain in memory to that of the next: every row of numbers starts at a cache line."""
    line = CACHE_LINE // np.dtype(dtype).itemsize
    return -(-grain // line) * line


class Grains:
    """Grains side by side in one piece, `lengths` of them: all the same but, maybe, the last.

    For `forward` and `errors` it takes the place of a piece.
    """

    def __init__(self, network: Network, room: Piece, grain: int, lengths: list[int]) -> None:
        step = stride(grain, room.y.dtype)
        self.grains = [room.part(i * step, i * step + m) for i, m in enumerate(lengths)]
        whole = lengths.count(grain)
        self._forward = [self.grains] * (network.F + 1)
        self._backward = [self.grains] * (network.F + 1)
        if whole > 1 and step == grain:
            together = [room.part(0, whole * grain), *self.grains[whole:]]
            n, F, over_classes = network.sizes, network.F, network.output_activation.is_over_classes
            for l in range(2, F + 1):
                shape, by_class = (n[l], n[l - 1]), over_classes and l == F
                if same_bits(shape, grain, whole, room.y.dtype, transposed=False, by_class=by_class):
                    self._forward[l] = together
                if l > 2 and same_bits(shape, grain, whole, room.y.dtype, transposed=True, by_class=by_class):
                    self._backward[l - 1] = together

    def forward_parts(self, l: int) -> list[Piece]:
        """What a product W^l a^{l-1} is called for."""
        return self._forward[l]

    def backward_parts(self, l: int) -> list[Piece]:
        """What a product (W^{l+1})ᵀ d^{l+1} is called for."""
        return self._backward[l]


@cache
def same_bits(
    shape: tuple[int, int], grain: int, count: int, dtype: DTypeLike, *, transposed: bool, by_class: bool = False
) -> bool:
    """Whether W (transposed: Wᵀ), of this shape, times `count` grains at once has the bits of W times each grain.

    `by_class`: z or d, of W's rows, lie in memory as outputs for classes do.  Tried with random numbers; another order
    of additions would show in about every second of them.
    """
    rng = np.random.default_rng(0)
    W, below, above = _trial(ALIGNED, shape, count * grain, dtype)
    for array in (W, *below, *above):
        rng.standard_normal(out=array, dtype=array.dtype.type)
    below = [array.T for array in below]
    above = [array.reshape(shape[0], -1) if by_class else array.T for array in above]
    W, a, together, alone = (W.T, above[0], *below) if transposed else (W, below[0], *above)
    np.matmul(W, a, out=together)
    for i in range(count):
        part = slice(i * grain, (i + 1) * grain)
        np.matmul(W, a[:, part], out=alone[:, part])
    return np.array_equal(alone, together)


def foresee_trials(network: Network, room: Piece, grain: int, arena: Arena) -> None:
    """Tells an arena what `Grains` in this room will try out, at most."""
    n, dtype = network.sizes, room.y.dtype
    if room.m > stride(grain, dtype) == grain:
        for l in range(2, network.F + 1):
            _trial(arena.briefly("trying out products"), (n[l], n[l - 1]), room.m, dtype)


def _trial(
    arena: Arena, shape: tuple[int, int], samples: int, dtype: DTypeLike
) -> tuple[Array, list[Array], list[Array]]:
    """Room for W, and for two arrays of samples on either side of it, each sample a row."""
    below, above = ([arena.take((samples, n), dtype) for _ in range(2)] for n in (shape[1], shape[0]))
    return arena.take(shape, dtype), below, above
