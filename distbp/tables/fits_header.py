"""The headers of a FITS file: what each part of it (HDU) holds, and where its values begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO

from distbp.errors import DataError
from distbp.tables.packed_file import unpacked

BLOCK, CARD = 2880, 80
MOST_BLOCKS = 10_000  # of a header: 360,000 lines
_VALUE = re.compile(r"\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<other>[^/]*))")


@dataclass(frozen=True)
class HDU:
    """A part of a file: its keywords, and the place of its values, in bytes from the beginning."""

    number: int
    cards: dict[str, str | int | float | bool]
    begin: int

    def text(self, key: str) -> str:
        """A keyword that is text, "" where it is not there."""
        value = self.cards.get(key, "")
        return value if isinstance(value, str) else ""

    def whole(self, key: str, otherwise: int = 0) -> int:
        """A keyword that is a whole number."""
        value = self.cards.get(key, otherwise)
        return value if isinstance(value, int) else otherwise

    def number_of(self, key: str) -> float | None:
        """A keyword that is a number, None where it is not there."""
        value = self.cards.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def axes(self) -> tuple[int, ...]:
        """The lengths of the axes, in FITS's order: the fastest first."""
        return tuple(self.whole(f"NAXIS{i + 1}") for i in range(self.whole("NAXIS")))

    @property
    def size(self) -> int:
        """Bytes of the values, without what fills the last block."""
        count = 1 if self.axes else 0
        for length in self.axes:
            count *= length
        return abs(self.whole("BITPIX")) // 8 * self.whole("GCOUNT", 1) * (self.whole("PCOUNT") + count)


def fits_headers(path: str) -> list[HDU]:
    """All parts of a file, which may be packed.  Raises DataError."""
    found: list[HDU] = []
    with unpacked(path) as file:
        while True:
            cards = _cards(path, file, len(found))
            if cards is None:
                return found
            hdu = HDU(len(found), cards, file.tell())
            if hdu.whole("NAXIS") > 999 or min(hdu.axes, default=0) < 0 or not 0 <= hdu.size < 2**62:
                raise DataError(f"{path}: part {hdu.number} says that it has {hdu.size} bytes; its header is damaged")
            found.append(hdu)
            file.seek(hdu.begin + hdu.size + -hdu.size % BLOCK)


def _cards(path: str, file: IO[bytes], number: int) -> dict[str, str | int | float | bool] | None:
    """The keywords of the next part; None at the end of the file, and where other things follow the last part."""
    cards: dict[str, str | int | float | bool] = {}
    for count in range(MOST_BLOCKS):
        block = file.read(BLOCK)
        if count == 0 and (not block or (number and not block.startswith(b"XTENSION"))):
            return None
        if len(block) != BLOCK:
            raise DataError(f"{path}: ends inside the header of part {number}; the FITS file is cut")
        for at in range(0, BLOCK, CARD):
            card = block[at : at + CARD].decode("latin-1")
            key = card[:8].rstrip()
            if key == "END":
                return cards
            if card[8:10] == "= ":
                cards.setdefault(key, _value(card[10:]))
    raise DataError(f"{path}: the header of part {number} has no end; the FITS file is damaged")


def _value(text: str) -> str | int | float | bool:
    match = _VALUE.match(text)
    if match is None or match["text"] is not None:
        return match["text"].replace("''", "'").rstrip() if match else ""
    word = match["other"].strip()
    if word in ("T", "F"):
        return word == "T"
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word.upper().replace("D", "E"))
    except ValueError:
        return word
