"""The distinct values of a column, which of them each row has, and how often each occurs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.tables.source_files import is_number

Value = int | float | str

LEADING_ZERO = re.compile(r"[+-]?0[0-9].*")
DIGITS = re.compile(r"[+-]?[0-9]+")
EXACT = 2**53  # whole numbers up to here are exact in float64


def meant(text: str) -> int | str:
    """What a text stands for as a label: the whole number that it is (0.0, 1e+05), or itself (007, cat)."""
    text = text.strip()
    if LEADING_ZERO.fullmatch(text) or not is_number(text):
        return text
    if DIGITS.fullmatch(text):
        return int(text)
    number = float(text)
    return int(number) if number == int(number) and abs(number) <= EXACT else text


class Distinct:
    """Distinct values, numbered as they come; given up (`is_over`) where there are more than `limit`."""

    def __init__(self, limit: int, *, written: bool) -> None:
        """`written`: strings are text in which numbers are written, and mean these."""
        self._limit, self._written = limit, written
        self._known: dict[Any, int] = {}  # of texts as they stand there, too: several may mean one value
        self.numbers: dict[Value, int] = {}
        self.counts: list[int] = []
        self.first: list[int] = []  # the row where a value was first met
        self.is_over = False

    def add(self, array: NDArray[Any], missing: NDArray[np.bool_], row: int) -> NDArray[np.int32] | None:
        """The number of the value of each row, -1 where it is missing; None where it was given up.

        array, missing: shape (rows,); `row`: the number of the first.
        """
        if self.is_over:
            return None
        if array.dtype.kind == "O":
            return self._add_texts(array, missing, row)
        codes = np.full(len(array), -1, np.int32)
        found, first, which = np.unique(array[~missing], return_index=True, return_inverse=True)
        at = np.flatnonzero(~missing)
        if len(found) > self._limit:
            self.is_over = True
            return None
        numbers = np.array(
            [self._number(v, row + int(at[i])) for v, i in zip(found.tolist(), first, strict=True)], np.int32
        )
        codes[~missing] = numbers[which] if len(found) else 0
        return self._counted(codes)

    def _add_texts(self, array: NDArray[Any], missing: NDArray[np.bool_], row: int) -> NDArray[np.int32] | None:
        known, texts = self._known, array.tolist()
        some = (
            texts
            if not missing.any()
            else [text for text, gone in zip(texts, missing.tolist(), strict=True) if not gone]
        )
        for text in dict.fromkeys(some):
            if text not in known:
                if len(known) >= self._limit:
                    self.is_over = True
                    return None
                known[text] = self._number(meant(text) if self._written else text.strip(), row + texts.index(text))
        codes = np.fromiter((known.get(text, -1) for text in texts), np.int32, len(texts))
        codes[missing] = -1
        return self._counted(codes)

    def _number(self, value: Value, row: int) -> int:
        number = self.numbers.setdefault(value, len(self.numbers))
        if number == len(self.first):
            self.first.append(row)
            self.counts.append(0)
        return number

    def _counted(self, codes: NDArray[np.int32]) -> NDArray[np.int32] | None:
        if len(self.numbers) > self._limit:
            self.is_over = True
            return None
        for code, count in enumerate(np.bincount(codes[codes >= 0], minlength=0).tolist()):
            if count:
                self.counts[code] += count
        return codes

    def tally(self) -> dict[Value, int]:
        """How often each value occurs."""
        return {value: self.counts[number] for value, number in self.numbers.items()}
