"""Which part of a stored array holds the samples, and which numbers of each: what the brackets of a name mean.

    array        axes (time, lat, lon)
    index        one entry for each axis: a number, or a slice with bounds
    samples      the axes that hold the samples, in the order of the array; the first one moves slowest

A row of the result is what is left of one sample, flattened in the order of the array.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.names import SAMPLES, Index
from distbp.data.stored import Stored
from distbp.errors import DataError


@dataclass(frozen=True)
class Selection:
    """Of an array: `index` with an entry for each axis (slices have all three numbers), and the axes of the samples.

    Without such axes all of it is one sample.
    """

    index: tuple[int | slice, ...]
    samples: tuple[int, ...]

    def _length(self, axis: int) -> int:
        entry = self.index[axis]
        return 1 if isinstance(entry, int) else len(range(entry.start, entry.stop, entry.step))

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return prod(self._length(axis) for axis in self.samples)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        axes = [axis for axis, entry in enumerate(self.index) if isinstance(entry, slice)]
        return tuple(self._length(axis) for axis in axes if axis not in self.samples)

    def is_whole(self, shape: tuple[int, ...]) -> bool:
        """Whether it is the array as it is, with its samples along the first axis."""
        return self.samples == (0,) and self.index == tuple(slice(0, length, 1) for length in shape)

    @property
    def inner(self) -> int:
        """Samples that one step along the first axis of samples holds."""
        return prod(self._length(axis) for axis in self.samples[1:])

    def read(self, stored: Stored, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Samples start … stop - 1, shape (stop - start, width), and which of their values are missing."""
        if not self.samples:
            values, missing = stored.read(self.index)
            return values.reshape(1, -1), None if missing is None else missing.reshape(1, -1)
        first, last = start // self.inner, -(-stop // self.inner)
        index = list(self.index)
        whole = self.index[self.samples[0]]
        assert isinstance(whole, slice)
        begin = whole.start + first * whole.step
        index[self.samples[0]] = slice(begin, begin + (last - first - 1) * whole.step + 1, whole.step)
        values, missing = stored.read(tuple(index))
        skipped = start - first * self.inner
        taken = slice(skipped, skipped + stop - start)
        count = (last - first) * self.inner
        return self._rows(values, count)[taken], None if missing is None else self._rows(missing, count)[taken]

    def _rows(self, values: NDArray[Any], count: int) -> NDArray[Any]:
        """The axes of the samples first, then flattened."""
        left = [axis for axis, entry in enumerate(self.index) if isinstance(entry, slice)]
        places = [left.index(axis) for axis in self.samples]
        return np.moveaxis(values, places, range(len(places))).reshape(count, -1)


def select(
    where: str,
    given: tuple[Index, ...] | None,
    shape: tuple[int, ...],
    dimensions: tuple[str, ...],
    *,
    each: bool = False,
) -> Selection:
    """What an index means for an array of this shape; `where` names the array in messages.

    Without an axis that is called `samples`, the samples are along the first axis that is left; `each`: all of the
    array is one sample.  Raises DataError.
    """
    entries = _by_axis(where, given or (), shape, dimensions)
    samples = [axis for axis, entry in enumerate(entries) if entry.samples]
    index = tuple(_bounded(where, entry, axis, shape[axis]) for axis, entry in enumerate(entries))
    if not samples and not each:
        left = [axis for axis, entry in enumerate(index) if isinstance(entry, slice)]
        if not left:
            raise DataError(f"{where}: no axis is left for the samples; it has the shape {shape}")
        samples = left[:1]
    if samples and each:
        raise DataError(f"{where}: with --each all of it is one sample; leave the word {SAMPLES} out")
    return Selection(index, tuple(samples))


def _by_axis(where: str, given: tuple[Index, ...], shape: tuple[int, ...], dimensions: tuple[str, ...]) -> list[Index]:
    """An entry for each axis: those without a name in order, all of the axis where none is given."""
    found: dict[int, Index] = {}
    for place, entry in enumerate(given):
        axis = place
        if entry.axis:
            if entry.axis not in dimensions:
                named = ", ".join(name or "(no name)" for name in dimensions)
                raise DataError(f"{where}: it has no axis {entry.axis!r}; its axes are {named}")
            axis = dimensions.index(entry.axis)
        if axis >= len(shape):
            raise DataError(f"{where}: {len(given)} entries in the brackets for {len(shape)} axes, of shape {shape}")
        if axis in found:
            raise DataError(f"{where}: axis {axis} is given twice in the brackets")
        found[axis] = entry
    return [found.get(axis, Index(slice(None))) for axis in range(len(shape))]


def _bounded(where: str, entry: Index, axis: int, length: int) -> int | slice:
    if isinstance(entry.what, int):
        if not -length <= entry.what < length:
            raise DataError(f"{where}: {entry.what} in the brackets, and axis {axis} has {length} entries")
        return entry.what % length
    bounds = slice(*entry.what.indices(length))
    if not range(bounds.start, bounds.stop, bounds.step):
        raise DataError(f"{where}: nothing is left of axis {axis}, which has {length} entries")
    return bounds
