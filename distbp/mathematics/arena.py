"""Where arrays get their memory, so that the memory of a run can be counted by the code that takes it.

Constructors take their large arrays from an arena.  `Aligned` makes them.  A `CountingArena` makes arrays of the same
shapes that take no memory, and adds up what they would take: a memory plan is what the constructors have taken from it.
All numbers of such an array are one number, so constructors leave large arrays as they are, or `clear` them.

A step takes nothing from an arena: what it needs is there.
"""

from __future__ import annotations

from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_LINE = 64
PAGE = 4096  # bytes
COUNTABLE = 2**58  # numbers of an array, about: NumPy makes none of 2^63 bytes or more


class Arena(Protocol):
    """Gives arrays."""

    def take(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array that begins at a cache line.  It is 0, unless it lies in memory that was there before."""

    def of(self, term: str, *, shared: bool = False) -> Arena:
        """The same arena; what is taken there belongs to this part of the plan.

        `shared`: the ranks of a node have it together; of an empty term: it is another rank's, which counts it itself.
        """

    def briefly(self, term: str) -> Arena:
        """Where arrays are told of that will be taken later, for a moment, together; nothing is taken now."""

    def within(self, memory: NDArray[np.uint8], unit: int = PAGE) -> Arena:
        """An arena that takes arrays from this memory, one after another, each from a multiple of `unit` bytes on."""

    def clear(self, array: NDArray[Any]) -> None:
        """Fills an array with 0: its pages are then near the core that this is called on."""


class Aligned:
    """Makes arrays.  They begin at cache lines, so that speed does not depend on where memory happened to be."""

    def take(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        dtype = np.dtype(dtype)
        size = _count(shape) * dtype.itemsize
        raw = np.zeros(size + CACHE_LINE, np.uint8)
        start = -raw.ctypes.data % CACHE_LINE
        return raw[start : start + size].view(dtype).reshape(shape)

    def of(self, term: str, *, shared: bool = False) -> Arena:
        return self

    def briefly(self, term: str) -> Arena:
        return CountingArena()

    def within(self, memory: NDArray[np.uint8], unit: int = PAGE) -> Arena:
        return _Within(memory, unit)

    def clear(self, array: NDArray[Any]) -> None:
        array.fill(0)


class _Within(Aligned):
    """Arrays one after another in a piece of memory; it is as it was."""

    def __init__(self, memory: NDArray[np.uint8], unit: int) -> None:
        self._memory, self._unit = memory, unit
        self._at = -memory.ctypes.data % CACHE_LINE

    def take(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        size = _count(shape) * np.dtype(dtype).itemsize
        array = self._memory[self._at : self._at + size]
        assert len(array) == size, "the memory is too small"
        self._at += _in_units(size, self._unit)
        return array.view(dtype).reshape(shape)


class CountingArena:
    """Makes arrays that take no memory, and counts what they would take: `terms`, in bytes, in the order of taking.

    `shared`: the terms that the ranks of a node have together; `moments`: what is taken for a moment, of each term the
    most.  Arrays count in whole `unit`s.
    """

    def __init__(self, unit: int = 1) -> None:
        self._unit, self._term = unit, ""
        self._all, self.terms, self.shared = [0], dict[str, int](), set[str]()
        self._moments: list[tuple[str, CountingArena]] = []

    @property
    def bytes(self) -> int:
        """Of all arrays that have been taken."""
        return self._all[0]

    @property
    def in_all(self) -> int:
        """Of all terms."""
        return sum(self.terms.values())

    @property
    def moments(self) -> dict[str, int]:
        """The most that is taken for a moment, of each term."""
        most: dict[str, int] = {}
        for term, arena in self._moments:
            most[term] = max(most.get(term, 0), arena.bytes)
        return most

    def take(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        dtype = np.dtype(dtype)
        size = _in_units(_count(shape) * dtype.itemsize, self._unit)
        self._all[0] += size
        if self._term:
            self.terms[self._term] = self.terms.get(self._term, 0) + size
        strides = (0,) * (1 if isinstance(shape, int) else len(shape))
        return np.ndarray(shape, dtype, np.zeros(1, dtype), strides=strides)

    def of(self, term: str, *, shared: bool = False) -> CountingArena:
        part = CountingArena(self._unit)
        part._all, part.terms, part.shared, part._moments = self._all, self.terms, self.shared, self._moments
        part._term = term
        if shared:
            self.shared.add(term)
        return part

    def briefly(self, term: str) -> CountingArena:
        moment = CountingArena(self._unit)
        self._moments.append((term, moment))
        return moment

    def within(self, memory: NDArray[np.uint8], unit: int = PAGE) -> CountingArena:
        return self

    def clear(self, array: NDArray[Any]) -> None:
        """There is nothing to fill."""


ALIGNED: Arena = Aligned()


def _in_units(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _count(shape: int | tuple[int, ...]) -> int:
    return shape if isinstance(shape, int) else prod(shape)
