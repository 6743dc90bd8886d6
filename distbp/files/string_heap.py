"""Strings of any length, from the heaps of an HDF5 file, read without trust.

A row has 16 bytes: the length of its string, the address of a "global heap collection", and the string's number in it.
A collection has objects one after another, each with its number and its length.  The HDF5 library (2.0) believes what
it finds there, and in some damaged files it does not end.  So strings are read here, and no slower: each collection
once, and none that lies inside another, in a time that ends with the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
NOWHERE = np.array([0, 2**64 - 1], np.uint64)  # addresses of no string: it is empty, or was never written
COLLECTION = struct.Struct("<4sB3xQ")  # signature, version, bytes of all of it; then objects
HEADER = 2  # words of 8 bytes: those of a collection; and of an object: its number, of 2 bytes, and its length
SMALLEST, LARGEST = 4096, 2**26  # bytes of a collection: what HDF5 makes at least, and what is read here at most
MOST_OBJECTS = 2**16  # of a collection, for so many numbers there are
SHORT = 2**13  # words of collections whose objects are found one by one
TOGETHER = 2**24  # bytes of collections that are looked at together


class HeapDamage(ValueError):
    """What is wrong with a heap; `at`: which of the references led there."""

    def __init__(self, words: str, at: int = 0) -> None:
        super().__init__(words)
        self.at = at


class StringHeap:
    """The collections of a file whose addresses count from `base`.  Its methods raise HeapDamage."""

    def __init__(self, descriptor: int, base: int) -> None:
        self._descriptor, self._base, self._size = descriptor, base, os.fstat(descriptor).st_size

    def check(self, address: int, number: int) -> None:
        """That there is such an object, in a sound collection."""
        keys, _, _ = _objects(*self._read(np.array([address], np.uint64)))
        if number not in keys[:-1]:
            raise HeapDamage(f"object {number} of the heap at byte {address}, which is not there")

    def strings(self, references: NDArray[Any]) -> NDArray[np.object_]:
        """The str of each REFERENCE.  Raises also UnicodeDecodeError."""
        strings = np.full(len(references), "", object)
        decoded: dict[bytes, str] = {}
        for rows, values in self._found(references, 1):
            for value in set(values) - decoded.keys():
                decoded[value] = value.partition(b"\0")[0].decode()  # as in C, a zero ends a string
            strings[rows] = [decoded[value] for value in values]
        return strings

    def lists(self, references: NDArray[Any], size: int) -> list[bytes]:
        """The bytes of each list that a REFERENCE stands for; its length counts elements of so many bytes."""
        found = [b""] * len(references)
        for rows, values in self._found(references, size):
            for row, value in zip(rows.tolist(), values, strict=True):
                found[row] = value
        return found

    def _found(self, references: NDArray[Any], size: int) -> Iterator[tuple[NDArray[np.intp], list[bytes]]]:
        """Some of the references that lead somewhere, and what is there; until all have been."""
        empty = np.isin(references["address"], NOWHERE)
        wrong = empty & (references["length"] != 0)
        if wrong.any():
            i = int(wrong.argmax())
            raise HeapDamage(f"a string of {references['length'][i]} bytes that is nowhere", i)
        order = np.argsort(references["address"], kind="stable")
        order = order[~empty[order]]
        addresses, which = np.unique(references["address"][order], return_inverse=True)
        first = 0
        while first < len(addresses):
            try:
                content, begins = self._read(addresses[first:])
                keys, places, lengths = _objects(content, begins)
            except HeapDamage as damage:
                raise HeapDamage(str(damage), int(order[np.searchsorted(which, first + damage.at)])) from None
            some = slice(*np.searchsorted(which, [first, first + len(begins) - 1]))
            rows = order[some]
            wanted = _keys(which[some] - first, references["number"][rows])
            at = np.searchsorted(keys, wanted)
            wrong = (keys[at] != wanted) | (lengths[at] != references["length"][rows] * np.int64(size))
            if wrong.any():
                i = int(wrong.argmax())
                length, address, number = references[rows[i]].tolist()
                there = f"has {lengths[at[i]]}" if keys[at[i]] == wanted[i] else "has no such string"
                words = f"string {number}, of {length} bytes, of the heap at byte {address}, which {there}"
                raise HeapDamage(words, int(rows[i]))
            ends = (places[at] + lengths[at]).tolist()
            yield rows, [content[begin:end] for begin, end in zip(places[at].tolist(), ends, strict=True)]
            first += len(begins) - 1

    def _read(self, addresses: NDArray[np.uint64]) -> tuple[bytes, NDArray[np.int64]]:
        """The first of these collections, one after another, and where each begins; then where the last one ends."""
        parts, begins = [], [0]
        some = addresses[: TOGETHER // SMALLEST + 1].tolist()
        for i, address in enumerate(some[:-1] if len(some) < len(addresses) else some):
            if begins[-1] >= TOGETHER:
                break
            where = f"the heap at byte {address}"
            part = self._bytes(address, SMALLEST)
            if len(part) < SMALLEST:
                raise HeapDamage(f"{where}, which ends after the file", i)
            signature, version, size = COLLECTION.unpack_from(part)
            if (signature, version) != (b"GCOL", 1):
                raise HeapDamage(f"{where}, where there is none", i)
            if not SMALLEST <= size <= LARGEST or size % 8:
                raise HeapDamage(f"{where}, of {size} bytes; expected {SMALLEST} to {LARGEST}", i)
            if i + 1 < len(some) and address + size > some[i + 1]:
                raise HeapDamage(f"{where}, with another one inside it", i)
            if size > SMALLEST:
                part = self._bytes(address, size)
            if len(part) < size:
                raise HeapDamage(f"{where}, which ends after the file", i)
            parts.append(part)
            begins.append(begins[-1] + size)
        return b"".join(parts), np.array(begins)

    def _bytes(self, address: int, length: int) -> bytes:
        """Those that begin at an address; fewer where the file ends."""
        begin = self._base + address
        return os.pread(self._descriptor, length, begin) if begin + length <= self._size else b""


def _keys(collection: NDArray[np.int64], number: NDArray[Any]) -> NDArray[np.int64]:
    """Collection and number of objects as one number."""
    return collection << 32 | number.astype(np.int64)


def _walk(at: NDArray[np.int64], following: NDArray[np.int64], is_object: NDArray[np.bool_]) -> NDArray[np.int64]:
    """From the first object of each collection to the one that has none after it, marking all on the way."""
    for _ in range(MOST_OBJECTS):
        is_object[at] = True
        before, at = at, following[at]
        if (at == before).all():
            return at
    raise HeapDamage(f"a heap of more than {MOST_OBJECTS} objects", int((at != before).argmax()))


def _walk_short(at: NDArray[np.int64], following: NDArray[np.int64], is_object: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The same for little, where NumPy would take longer to begin than this does to end."""
    after, last = following.tolist(), at.copy()
    for i, place in enumerate(at.tolist()):
        places = [place]
        while after[place] != place:  # it is larger, so this ends
            place = after[place]
            places.append(place)
        is_object[places] = True
        last[i] = place
    return last


def _objects(
    content: bytes, begins: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of all objects of collections their keys, in order, where their bytes are, and how many; one more at the end.

    Raises HeapDamage with the collection's place among them.
    """
    words = np.frombuffer(content, "<i8")  # all that begins here is at a multiple of 8
    ends, at = begins[1:] // 8, begins[:-1] // 8 + HEADER
    here, length = np.arange(len(words) - 1), words[1:]
    following = here + HEADER + (length + 7 >> 3)  # were there an object here, the next one would be there
    most = np.repeat(ends, np.diff(begins) // 8)[:-1] - HEADER  # less than a header is free
    is_followed = (words[:-1] & 0xFFFF > 0) & (length >= 0) & (length < LARGEST) & (following <= most)
    following = np.where(is_followed, following, here)
    is_object = np.zeros(len(words), bool)
    at = _walk_short(at, following, is_object) if len(words) <= SHORT else _walk(at, following, is_object)
    number, length = words[at] & 0xFFFF, words[at + 1]  # that one is free space, whose length counts its header, too
    last = at + np.where(number > 0, HEADER + (length + 7 >> 3), length >> 3)
    wrong = (length < 0) | (length > LARGEST) | (last > ends) | (last <= ends - HEADER)
    if wrong.any():
        i = int(wrong.argmax())
        raise HeapDamage(f"a heap whose object {number[i]} has {words[at[i] + 1 : at[i] + 2].view('<u8')[0]} bytes", i)
    places = np.flatnonzero(is_object)
    places = places[words[places] & 0xFFFF > 0]
    keys = _keys(np.searchsorted(ends, places, "right"), words[places] & 0xFFFF)
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    twice = np.flatnonzero(np.diff(keys) == 0)
    if len(twice):
        key = int(keys[twice[0]])
        raise HeapDamage(f"a heap that has an object {key & 0xFFFF} twice", key >> 32)
    return np.append(keys, 2**62), np.append((places + HEADER) * 8, 0), np.append(words[places + 1], 0)
