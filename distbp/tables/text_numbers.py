"""Which text is a number, and which: exactly what Python's float gives, and nothing that would have to be guessed.

Python rounds a text to the nearest float64, with code of its own, so the bits are the same on every machine.  A column
that is stored in float32 (see `distbp.tables.stored_type`) is rounded a second time, from float64.  That is the nearest
float32 of the text, but for about one text in a billion: one so close to the middle of two of them that float64 takes
it for the middle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from distbp.tables.table import Values
from distbp.tables.text_options import TextOptions

_DIGITS = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(rf"{_DIGITS}(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity|nan)", re.IGNORECASE)
# Fortran's double precision: a point, and D in the place of E; without the point it may be a code, such as 3D5.
_FORTRAN = re.compile(r"([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+))[dD]([+-]?[0-9]+)")
_NO_E = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)[+-][0-9]{3}")
_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(?:[.,'’ _\u00a0\u202f][0-9]{3})+(?:[.,][0-9]*)?")
_HEX = re.compile(r"[+-]?0[xX][0-9a-fA-F.]+(?:[pP][+-]?[0-9]+)?")


class TextNumbers:
    """Reads cells as numbers, in the way that the options say."""

    def __init__(self, options: TextOptions) -> None:
        self.words = frozenset(options.missing_words)
        self._decimal, self._thousands = options.decimal, options.thousands
        self._plain = options.decimal == "." and not options.thousands
        mark, point = re.escape(options.thousands), re.escape(options.decimal)
        self._grouped = re.compile(rf"[+-]?[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+(?:{point}[0-9]*)?(?:[eE][+-]?[0-9]+)?")

    def number(self, text: str) -> float | None:
        """The number that a text is; None where it is none.  `nan` and `inf` are numbers that are not finite."""
        if self._thousands and self._grouped.fullmatch(text):
            text = text.replace(self._thousands, "")
        if self._decimal == ",":
            if "." in text:
                return None
            text = text.replace(",", ".")
        if _NUMBER.fullmatch(text):
            return float(text)
        fortran = _FORTRAN.fullmatch(text)
        return float(f"{fortran[1]}e{fortran[2]}") if fortran else None

    def numbers(self, cells: Sequence[str]) -> list[float] | None:
        """The numbers that all cells are, or None."""
        if self._plain:
            text = "".join(cells)
            if text.isascii() and text.isprintable() and "_" not in text:  # else float takes more than it should
                try:
                    return [float(cell) for cell in cells]
                except ValueError:
                    pass
        found = []
        for cell in cells:
            number = self.number(cell)
            if number is None:
                return None
            found.append(number)
        return found

    def values(self, cells: Sequence[str], *, as_text: bool) -> Values:
        """A column: float64 where all that is not missing is numbers, and it is not wanted as text; or strings."""
        words = self.words
        missing = np.fromiter((cell in words for cell in cells), np.bool_, len(cells))[:, None]
        some = bool(missing.any())
        numbers = None if as_text else self.numbers([c for c in cells if c not in words] if some else cells)
        if numbers is None:
            array = np.array(cells, object)[:, None]
        else:
            array = np.full(missing.shape, np.nan)
            array[~missing] = numbers
        return Values(array, missing if some else None)


def why_no_number(text: str) -> str:
    """What a cell that is no number may be, and how it can be mended; "" where nothing can be said."""
    if text and not text.strip("*"):
        return "the field was too narrow for the number when it was written: write it again with a wider format"
    if _NO_E.fullmatch(text):
        return "Fortran left out the E of the exponent: write it again with a format such as ES24.16E3"
    if _HEX.fullmatch(text):
        return "hexadecimal numbers are not read"
    if re.fullmatch(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?", text):
        return "if the comma is the decimal mark, give --decimal ,; if it stands between thousands, give --thousands ,"
    if _GROUPS.fullmatch(text):
        return "if a mark stands between the thousands, name it with --thousands"
    if not text.isascii() and text.strip() and all(letter.isnumeric() or letter in ".,+- −" for letter in text):
        return "digits, signs or blanks other than those of ASCII are not read as numbers"
    return ""
