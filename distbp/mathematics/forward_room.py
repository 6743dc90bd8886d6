"""Room for the forward pass alone: a[l] and z[l] of m samples, in memory that is used again and again.

The arrays lie as in a `Piece` (see `distbp.mathematics.backprop`), so that the same products have the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import add, matmul
from numpy.typing import DTypeLike

from distbp.mathematics.arena import ALIGNED, CACHE_LINE, Arena, CountingArena
from distbp.mathematics.backprop import outputs
from distbp.mathematics.network import Network, Parameters


class ForwardRoom:
    """a[1], and z[l] and a[l] for l = 2 … F, each (n_l, m), with one sample a column.  The caller fills a[1]."""

    def __init__(self, network: Network, m: int, dtype: DTypeLike, arena: Arena = ALIGNED) -> None:
        n, F = network.sizes, network.F
        self.m = m
        self.a: list[Any] = [None, arena.take((m, n[1]), dtype).T]
        self.z: list[Any] = [None, None]
        for l in range(2, F):
            for arrays in (self.z, self.a):
                arrays.append(arena.take((m, n[l]), dtype).T)
        for arrays in (self.z, self.a):
            arrays.append(outputs(network, m, dtype, arena))

    def part(self, m: int) -> ForwardRoom:
        """The first m samples, in the same memory."""
        part = ForwardRoom.__new__(ForwardRoom)
        part.m = m
        part.a, part.z = ([None if array is None else array[:, :m] for array in arrays] for arrays in (self.a, self.z))
        return part


class ForwardPass:
    """The forward pass through a network whose parameters do not change: `forward` with everything looked up before.

    It has the same bits as `distbp.mathematics.backprop.forward`, and takes less time for few samples.
    """

    def __init__(self, network: Network, parameters: Parameters) -> None:
        layers = range(2, network.F + 1)
        self._layers = [(l, parameters.W[l], parameters.b[l][:, None], network.sigma(l).sigma) for l in layers]

    def __call__(self, room: ForwardRoom) -> None:
        """Fills z[l] and a[l] for l = 2 … F from a[1]."""
        z, a = room.z, room.a
        for l, W_l, b_l, sigma in self._layers:
            z_l = z[l]
            matmul(W_l, a[l - 1], z_l)
            add(z_l, b_l, z_l)  # z^l = W^l a^{l-1} + b^l
            sigma(z_l, a[l])  # a^l = σ(z^l)


class ForwardMemory:
    """Memory for one `ForwardRoom` at a time, of any m.  It grows to the largest m that was asked for."""

    def __init__(self, network: Network, dtype: DTypeLike, arena: Arena = ALIGNED) -> None:
        self._network, self._dtype, self._arena = network, np.dtype(dtype), arena
        self._memory, self._most = ALIGNED.take(0, np.uint8), 0
        self._rooms: dict[int, ForwardRoom] = {}

    def room(self, m: int) -> ForwardRoom:
        """Room for m samples.  What an earlier room held is overwritten."""
        room = self._rooms.get(m)
        return self._new(m) if room is None else room

    def grow(self, m: int) -> None:
        """Takes memory for m samples.  Earlier rooms are gone."""
        counted = CountingArena(CACHE_LINE)
        ForwardRoom(self._network, m, self._dtype, counted)
        self._memory, self._most = self._arena.take(counted.bytes, np.uint8), m
        self._rooms.clear()

    def _new(self, m: int) -> ForwardRoom:
        if m > self._most:
            self.grow(m)
        elif len(self._rooms) > 1:  # only one sample, and the number that was asked for last, come again and again
            self._rooms = {one: room for one, room in self._rooms.items() if one == 1}
        self._rooms[m] = ForwardRoom(self._network, m, self._dtype, ALIGNED.within(self._memory, CACHE_LINE))
        return self._rooms[m]
