"""Strings of any length, from the heaps of an HDF5 file, read without trust.

A row has 16 bytes: the length of its string, the address of a "global heap collection", and the string's number in it.
A collection has objects one after another, each with its number and its length.  The HDF5 library (2.0) believes what
it finds there: free space of length 0 keeps it going for ever, other lengths make it read elsewhere.  So strings are
read here, which is no slower: each collection once, and none that lies inside another, in a time that ends with the
file.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
NOWHERE = (0, 2**64 - 1)  # addresses of no string: it is empty, or was never written
COLLECTION = struct.Struct("<4sB3xQ")  # signature, version, bytes of all of it
OBJECT = struct.Struct("<H6xQ")  # number and length; its bytes follow, up to a multiple of 8
SMALLEST, LARGEST = 4096, 2**28  # bytes of a collection: what HDF5 makes at least, and what is read here at most


class HeapDamage(ValueError):
    """What is wrong with a heap; `at`: which of the references led there."""

    def __init__(self, words: str, at: int = 0) -> None:
        super().__init__(words)
        self.at = at


class StringHeap:
    """The collections of a file whose addresses count from `base`.  Its methods raise HeapDamage."""

    def __init__(self, descriptor: int, base: int) -> None:
        self._descriptor, self._base, self._size = descriptor, base, os.fstat(descriptor).st_size

    def strings(self, references: NDArray[Any]) -> NDArray[np.object_]:
        """The str of each REFERENCE.  Raises also UnicodeDecodeError."""
        order = np.argsort(references["address"], kind="stable")
        addresses, numbers = references["address"][order], references["number"][order].tolist()
        edges = [0, *(np.flatnonzero(np.diff(addresses)) + 1).tolist(), len(order)] if len(order) else []
        found: list[bytes] = []
        end = 0
        for first, last in pairwise(edges):
            address = int(addresses[first])
            if address in NOWHERE:
                found += [b""] * (last - first)
                continue
            try:
                if address < end:
                    raise HeapDamage(f"a heap at byte {address}, inside another one")
                size, objects = self.collection(address)
                found += [objects[number] for number in numbers[first:last]]
                end = address + size
            except HeapDamage as damage:
                raise HeapDamage(str(damage), int(order[first])) from None
            except KeyError as error:
                at = first + numbers[first:last].index(error.args[0])
                words = f"string {error.args[0]} of the heap at byte {address}, which is not there"
                raise HeapDamage(words, int(order[at])) from None
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        wrong = np.flatnonzero(lengths != references["length"][order])
        if len(wrong):
            at = order[wrong[0]]
            words = f"a string of {references['length'][at]} bytes, but the heap has {lengths[wrong[0]]} there"
            raise HeapDamage(words, int(at))
        decoded = {value: value.partition(b"\0")[0].decode() for value in set(found)}  # as in C, a zero ends a string
        strings = np.empty(len(found), object)
        strings[order] = [decoded[value] for value in found]
        return strings

    def collection(self, address: int) -> tuple[int, dict[int, bytes]]:
        """How many bytes a collection has, and its objects by their numbers."""
        where = f"the heap at byte {address}"
        signature, version, size = COLLECTION.unpack(self._bytes(address, COLLECTION.size, where))
        if (signature, version) != (b"GCOL", 1):
            raise HeapDamage(f"{where}, where there is none")
        if not SMALLEST <= size <= min(LARGEST, self._size):
            raise HeapDamage(f"{where}, which says it has {size} bytes; expected {SMALLEST} to {LARGEST}")
        content = self._bytes(address, size, where)
        objects: dict[int, bytes] = {}
        at = COLLECTION.size
        while at + OBJECT.size <= size:  # what is smaller is free, too
            number, length = OBJECT.unpack_from(content, at)
            begin = at + OBJECT.size
            at = begin + (length + 7 & ~7) if number else at + length  # of free space, length counts its header
            if not begin <= at <= size or number in objects:
                raise HeapDamage(f"{where}, whose object {number} of {length} bytes cannot be")
            objects[number] = content[begin : begin + length]
        objects.pop(0, None)
        return size, objects

    def _bytes(self, address: int, length: int, where: str) -> bytes:
        """Bytes that begin at an address."""
        begin = self._base + address
        content = os.pread(self._descriptor, length, begin) if begin + length <= self._size else b""
        if len(content) < length:
            raise HeapDamage(f"{where}, which ends after the file")
        return content
