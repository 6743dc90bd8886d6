"""The bytes of an HDF5 object's attributes as they are stored, read without trust.

The HDF5 library does not hand out the references of strings of any length, but follows them, and goes in circles in
damaged heaps.  So what an attribute holds is read here where it lies: in the header of its object, or, where there are
many, in a "fractal heap" whose objects a B-tree of version 2 lists.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from distbp.files.object_header import HeaderDamage, ObjectHeader

ATTRIBUTE, ATTRIBUTE_INFO = 12, 21  # kinds of messages
NOWHERE = 2**64 - 1
MOST_BLOCKS = 64  # of a heap that are looked at: 512 KiB
LEAF = 10  # bytes of a node of a B-tree beside its records: signature, version, type; and its checksum


def stored_attributes(header: ObjectHeader, descriptor: int, base: int) -> dict[bytes, bytes]:
    """Of each attribute its name, and the bytes of its value with perhaps a few more behind them.

    Raises HeaderDamage.
    """
    found: dict[bytes, bytes] = {}
    try:
        for kind, body in header.messages():
            if kind == ATTRIBUTE:
                found.update([_parts(body)])
            elif kind == ATTRIBUTE_INFO:
                found.update(_in_heap(body, _File(descriptor, base)))
    except (struct.error, IndexError):
        raise HeaderDamage("its attributes break off") from None
    return found


def _parts(message: bytes) -> tuple[bytes, bytes]:
    """Name and value of an attribute."""
    version, _, *sizes = struct.unpack_from("<BBHHH", message)
    if version == 1:
        sizes_there = [-(-size // 8) * 8 for size in sizes]
        begin = 8
    else:
        sizes_there, begin = sizes, 8 + (version == 3)
    return message[begin : begin + sizes[0]].rstrip(b"\0"), message[begin + sum(sizes_there) :]


def _in_heap(info: bytes, file: _File) -> Iterator[tuple[bytes, bytes]]:
    """The same of an object with many of them."""
    at = 2 + 2 * (info[1] & 1)
    heap_address, tree_address = struct.unpack_from("<QQ", info, at)
    if NOWHERE not in (heap_address, tree_address):
        heap = _FractalHeap(file, heap_address)
        yield from (_parts(heap.get(record)) for record in _records(file, tree_address))


class _File:
    """Bytes at addresses that count from `base`."""

    def __init__(self, descriptor: int, base: int) -> None:
        self._descriptor, self._base = descriptor, base

    def bytes(self, address: int, length: int, signature: bytes = b"") -> bytes:
        """Raises HeaderDamage where they are not there, or do not begin with a signature."""
        found = b""
        if address < 2**62 and length < 2**24:
            found = os.pread(self._descriptor, length, self._base + address)
        if len(found) < length or not found.startswith(signature):
            raise HeaderDamage(f"its attributes have damage at byte {address}")
        return found


class _FractalHeap:
    """The objects of a heap whose blocks are all listed by its root, as they are up to 512 KiB."""

    def __init__(self, file: _File, address: int) -> None:
        head = file.bytes(address, 142, b"FRHP")
        _, filters, _, largest = struct.unpack_from("<HHBI", head, 5)
        self._width, self._start, direct, bits = struct.unpack_from("<HQQH", head, 110)
        root, rows = struct.unpack_from("<QH", head, 132)
        self._file, self._address_bytes = file, -(-bits // 8)
        self._length_bytes = ((min(direct, largest)).bit_length() + 7) // 8
        if filters or not 0 < self._width <= MOST_BLOCKS or not 0 < self._start <= direct < 2**24 or rows > 64:
            raise HeaderDamage("its attributes are in a heap that distbp does not read")
        self._blocks = [root]
        if rows:
            rows = min(rows, (direct // self._start).bit_length() + 1, MOST_BLOCKS // self._width)
            begin, count = 13 + self._address_bytes, rows * self._width
            block = file.bytes(root, begin + 8 * count, b"FHIB")
            self._blocks = list(struct.unpack_from(f"<{count}Q", block, begin))

    def get(self, key: bytes) -> bytes:
        """The object of a key.  Raises HeaderDamage."""
        if key[0] & 0xF0:  # another version, or not in a block
            raise HeaderDamage("its attributes have an object that distbp does not read")
        end = 1 + self._address_bytes
        place, length = (
            int.from_bytes(key[1:end], "little"),
            int.from_bytes(key[end : end + self._length_bytes], "little"),
        )
        for i, address in enumerate(self._blocks):
            row = i // self._width
            size = self._start << max(0, row - 1)
            begin = (self._start * self._width << row >> 1 if row else 0) + i % self._width * size
            if begin <= place and place + length <= begin + size:
                return self._file.bytes(address + place - begin, length)
        raise HeaderDamage("its attributes refer to a place that is not there")


def _records(file: _File, address: int) -> Iterator[bytes]:
    """The keys of all attributes, from a B-tree of at most two levels."""
    head = file.bytes(address, 38, b"BTHD")
    node, size, depth = struct.unpack_from("<IHH", head, 6)
    root, count = struct.unpack_from("<QH", head, 16)
    if not 8 <= size <= 64 or not 64 <= node < 2**20 or depth > 1:
        raise HeaderDamage("its attributes are in a tree that distbp does not read")
    most = (node - LEAF) // size
    leaves = [(root, count)]
    if depth:
        width = (most.bit_length() + 7) // 8
        begin = 6 + count * size
        body = file.bytes(root, begin + (count + 1) * (8 + width), b"BTIN")
        yield from (body[at : at + size] for at in range(6, begin, size))
        places = range(begin, len(body), 8 + width)
        leaves = [
            (int.from_bytes(body[at : at + 8], "little"), int.from_bytes(body[at + 8 : at + 8 + width], "little"))
            for at in places
        ]
    for leaf, number in leaves:
        body = file.bytes(leaf, 6 + min(number, most) * size, b"BTLF")
        yield from (body[at : at + size] for at in range(6, len(body), size))
