"""Numbers of 16 bits: float16 and bfloat16, with a power of two for all numbers of a message.

A message is the exponent e, and x 2^-e of each number x, so scaled that the largest is as large as float16 has room
for: then nothing overflows.  float16 keeps 11 bits of the numbers down to 2^-29 of the largest, fewer of those down to
2^-39, and none of smaller ones; bfloat16 keeps 8, and is faster to make, for it is the upper half of a float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import frexp, isfinite, ldexp, nan

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.activations import Array

HEAD = 1  # numbers of a message before the first: the exponent
LARGEST = 15  # the scaled numbers are below 2^15
LEAST_EXPONENT = -120  # 2^120 is a float32; what is that small keeps fewer bits
NOT_FINITE = 2**14  # in place of an exponent: all numbers of the message become NaN
BLOCK = 2**15  # numbers at a time, so that they stay in the cache


@dataclass(frozen=True)
class Rounding:
    """From numbers of any float type to messages of 16 bits each (and `HEAD`), and back."""

    name: str
    halves: Callable[[NDArray[np.float32], NDArray[np.uint16]], None]
    wholes: Callable[[NDArray[np.uint16], NDArray[np.float32]], None]

    def encode(self, numbers: Array, message: NDArray[np.uint16]) -> None:
        """Fills a message, of HEAD + len(numbers) numbers, rounding to nearest (ties to even)."""
        largest = float(max(numbers.max(initial=0.0), -numbers.min(initial=0.0)))
        exponent = NOT_FINITE if not isfinite(largest) else max(frexp(largest)[1] - LARGEST, LEAST_EXPONENT)
        message[:HEAD].view(np.int16)[0] = exponent
        if exponent == NOT_FINITE:
            return
        factor = numbers.dtype.type(ldexp(1.0, -exponent))
        scaled = np.empty(min(BLOCK, len(numbers)), np.float32)
        for first in range(0, len(numbers), BLOCK):
            block = numbers[first : first + BLOCK]
            part = scaled[: len(block)]
            np.multiply(block, factor, out=part, casting="same_kind")
            self.halves(part, message[HEAD + first : HEAD + first + len(block)])

    def decode(self, message: NDArray[np.uint16], out: Array, *, add: bool = False) -> None:
        """The numbers of a message in `out`, or, with `add`, added to what is there."""
        exponent = int(message[:HEAD].view(np.int16)[0])
        factor = out.dtype.type(nan if exponent == NOT_FINITE else ldexp(1.0, exponent))
        numbers = np.empty(min(BLOCK, len(out)), np.float32)
        for first in range(0, len(out), BLOCK):
            block = out[first : first + BLOCK]
            part = numbers[: len(block)]
            self.wholes(message[HEAD + first : HEAD + first + len(block)], part)
            scaled = part.astype(out.dtype, copy=False)
            scaled *= factor
            if add:
                block += scaled
            else:
                block[:] = scaled


def _to_float16(numbers: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    np.copyto(out.view(np.float16), numbers, casting="same_kind")


def _from_float16(halves: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    np.copyto(out, halves.view(np.float16))


def _to_bfloat16(numbers: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    """The upper halves, after 0x7fff, or 0x8000 where the last bit of the upper half is 1, was added to the whole."""
    bits = numbers.view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += bits
    rounded += 0x7FFF
    rounded >>= 16
    np.copyto(out, rounded, casting="same_kind")


def _from_bfloat16(halves: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    bits = out.view(np.uint32)
    np.copyto(bits, halves)
    bits <<= 16


ROUNDINGS = {
    rounding.name: rounding
    for rounding in (
        Rounding("float16", _to_float16, _from_float16),
        Rounding("bfloat16", _to_bfloat16, _from_bfloat16),
    )
}
