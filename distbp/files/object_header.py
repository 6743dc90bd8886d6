"""The header of an object in an HDF5 file, read without trust: the messages that say where its values are.

The HDF5 library reads from heaps as soon as it opens a data set: strings that stand where nothing was written, and what
a virtual data set is made of.  Here it is seen first where that is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

OLD_FILL, FILL, LAYOUT, CONTINUATION = 4, 5, 8, 16  # kinds of messages
SHARED = 2  # a flag: the message is elsewhere
MOST_BYTES = 2**24  # of a header


class HeaderDamage(ValueError):
    """What is wrong with a header."""


class ObjectHeader:
    """The messages of the object at an address; addresses of the file count from `base`.  Raises HeaderDamage."""

    def __init__(self, descriptor: int, base: int, address: int) -> None:
        self._descriptor, self._base = descriptor, base
        try:
            self._messages = list(self._all(address))
        except struct.error:
            raise HeaderDamage("its header breaks off") from None

    def fill_value(self) -> bytes:
        """What stands where nothing was written, as it would be stored there; b"": zeros."""
        for kind, body in self._messages:
            if kind == OLD_FILL:
                return _sized(body, 0, "<I")
            if kind == FILL and body[0] < 3 and (body[0] == 1 or body[3]):  # version; whether there is one
                return _sized(body, 4, "<I")
            if kind == FILL and body[0] >= 3 and body[1] & 32:
                return _sized(body, 2, "<I")
        return b""

    def compact(self) -> bytes | None:
        """The values of a data set, where they are in the header itself."""
        for kind, body in self._messages:
            if kind == LAYOUT and body[0] >= 3 and body[1] == 0:
                return _sized(body, 2, "<H")
            if kind == LAYOUT and body[0] < 3 and body[2] == 0:
                return _sized(body, 8 + 4 * body[1], "<I")
        return None

    def virtual(self) -> tuple[int, int] | None:
        """Of a virtual data set: the heap collection that says what it is made of, and the number there."""
        for kind, body in self._messages:
            if kind == LAYOUT and body[0] >= 3 and body[1] == 3:
                address, number = struct.unpack_from("<QI", body, 2)
                return address, number
        return None

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Kind and content of each."""
        return iter(self._messages)

    def _all(self, address: int) -> Iterator[tuple[int, bytes]]:
        start = self._bytes(address, 32)
        if start[:4] == b"OHDR":
            is_new, flags = True, start[5]
            at = 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
            width = 1 << (flags & 3)
            blocks = [(address + at + width, int.from_bytes(start[at : at + width], "little"))]
        else:
            is_new, flags = False, 0
            blocks = [(address + 16, struct.unpack_from("<I", start, 8)[0])]
        total = 0
        for begin, length in blocks:  # it grows meanwhile
            total += length + 1
            if total > MOST_BYTES:
                raise HeaderDamage(f"its header has more than {MOST_BYTES} bytes")
            for kind, body in _messages(self._bytes(begin, length), is_new, 6 if flags & 4 else 4):
                if kind == CONTINUATION:
                    begin, length = struct.unpack_from("<QQ", body)
                    blocks.append((begin + 4, length - 8) if is_new else (begin, length))  # signature and checksum
                yield kind, body

    def _bytes(self, address: int, length: int) -> bytes:
        if not 0 <= length <= MOST_BYTES or self._base + address >= 2**63:
            raise HeaderDamage(f"its header has {length} bytes at byte {address}")
        return os.pread(self._descriptor, length, self._base + address)


def _messages(block: bytes, is_new: bool, small: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each message of a block."""
    at, size = 0, small if is_new else 8
    while at + size <= len(block):
        kind, length, flags = struct.unpack_from("<BHB" if is_new else "<HHB", block, at)
        body = block[at + size : at + size + length]
        if flags & SHARED and kind in (OLD_FILL, FILL, LAYOUT):
            raise HeaderDamage("its header shares a part with another one, which distbp does not read")
        yield kind, body.ljust(16, b"\0")
        at += size + length


def _sized(body: bytes, at: int, size: str) -> bytes:
    """So many bytes as a number before them says."""
    (length,) = struct.unpack_from(size, body, at)
    begin = at + struct.calcsize(size)
    if begin + length > len(body):
        raise HeaderDamage(f"its header has {length} bytes where {len(body) - begin} are left")
    return body[begin : begin + length]
