"""Heaps of strings: what is refused on sight, and what is let through.

The heaps here are bytes in a file of their own, which is no HDF5 file: nothing but distbp can take them for one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbp.files.string_heap import COLLECTION, REFERENCE, HeapDamage, StringHeap

OBJECT = struct.Struct("<H6xQ")  # number and length
SIZE = 4096
BASE = 512
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


class Heap:
    """A collection with "cat" as object 1 and "dogs" as object 2, then free space; and references to them."""

    def __init__(self, strings: list[bytes] | None = None, size: int = SIZE) -> None:
        self.strings = [b"cat", b"dogs"] if strings is None else strings
        self.content = bytearray(size)
        COLLECTION.pack_into(self.content, 0, b"GCOL", 1, size)
        self.objects, at = [], COLLECTION.size
        for number, text in enumerate(self.strings, 1):
            OBJECT.pack_into(self.content, at, number, len(text))
            self.content[at + OBJECT.size : at + OBJECT.size + len(text)] = text
            self.objects.append(at)
            at += OBJECT.size + (len(text) + 7 & ~7)
        self.free = at
        OBJECT.pack_into(self.content, at, 0, size - at)
        address = COLLECTION.size  # of the collection in the file, after what is no heap
        self.references = np.array([(len(t), address, i) for i, t in enumerate(self.strings, 1)], REFERENCE)

    def put(self, at: int, number: int, size: str = "<Q") -> None:
        struct.pack_into(size, self.content, at, number)

    def refer(self, row: int, **parts: int) -> None:
        for name, value in parts.items():
            self.references[name][row] = value

    def read(self, path: Path) -> list[str]:
        path.write_bytes(bytes(BASE + COLLECTION.size) + self.content)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return [str(text) for text in StringHeap(descriptor, BASE).strings(self.references)]
        finally:
            os.close(descriptor)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60), min_size=1, max_size=30)
)
def test_sound_heaps_are_read(texts: list[str], tmp_path: Path) -> None:
    assert Heap([text.encode() for text in texts], 2**14).read(tmp_path / "heap") == texts


def test_what_is_nowhere_is_empty(tmp_path: Path) -> None:
    heap = Heap()
    heap.refer(0, address=0, length=0)
    heap.refer(1, address=2**64 - 1, length=0)
    assert heap.read(tmp_path / "heap") == ["", ""]


DAMAGE: dict[str, tuple[Callable[[Heap], Any], str]] = {
    "free space of another length": (lambda h: h.put(h.free + 8, h.free), "a heap whose object 0 has"),
    "free space beyond the end": (lambda h: h.put(h.free + 8, 2**40), "a heap whose object 0 has 1099511627776 bytes"),
    "an object beyond the end": (lambda h: h.put(h.objects[0] + 8, 5000), "a heap whose object"),
    "a length below zero": (lambda h: h.put(h.objects[0] + 8, 2**64 - 17), "a heap whose object"),
    "an object of nearly 2**63": (lambda h: h.put(h.objects[0] + 8, 2**63 - 1), "a heap whose object"),
    "a number twice": (lambda h: h.put(h.objects[1], 1, "<H"), "a heap that has an object 1 twice"),
    "no heap": (lambda h: h.put(0, 0, "<I"), "the heap at byte 16, where there is none"),
    "another version": (lambda h: h.put(4, 2, "<B"), "the heap at byte 16, where there is none"),
    "a heap of no length": (lambda h: h.put(8, 0), "of 0 bytes; expected 4096 to"),
    "a heap longer than the file": (lambda h: h.put(8, 2**20), "which ends after the file"),
    "a heap longer than memory": (lambda h: h.put(8, 2**60), "bytes; expected 4096 to"),
    "a number that is not there": (lambda h: h.refer(1, number=60000), "string 60000, of 4 bytes"),
    "number 0": (lambda h: h.refer(1, number=0), "string 0, of 4 bytes"),
    "a longer string than its object": (lambda h: h.refer(1, length=5), "string 2, of 5 bytes, .* which has 4"),
    "a string longer than memory": (lambda h: h.refer(1, length=2**32 - 1), "string 2, of 4294967295 bytes"),
    "an address beyond the end": (lambda h: h.refer(1, address=2**50), "the heap at byte 1125899906842624"),
    "an address of nearly 2**64": (lambda h: h.refer(1, address=2**64 - 2), "the heap at byte 18446744073709551614"),
    "an address of nothing": (lambda h: h.refer(1, address=0), "a string of 4 bytes that is nowhere"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_refused(damage: Callable[[Heap], Any], words: str, tmp_path: Path) -> None:
    heap = Heap()
    damage(heap)
    with pytest.raises(HeapDamage, match=words):
        heap.read(tmp_path / "heap")


def test_a_heap_inside_another(tmp_path: Path) -> None:
    """Many of them, each of which leads through all that follow, would take a time that is the square of the file's."""
    heap = Heap([COLLECTION.pack(b"GCOL", 1, SIZE), b"dogs"])
    heap.content += bytes(SIZE)
    heap.refer(0, address=COLLECTION.size + COLLECTION.size + OBJECT.size)
    with pytest.raises(HeapDamage, match="with another one inside it"):
        heap.read(tmp_path / "heap")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, SIZE - 1), bytes_=st.binary(min_size=1, max_size=16))
def test_any_damage_ends_in_words_or_strings(tmp_path: Path, at: int, bytes_: bytes) -> None:
    heap = Heap()
    heap.content[at : at + len(bytes_)] = bytes_[: SIZE - at]
    with suppress(HeapDamage, UnicodeDecodeError):
        assert len(heap.read(tmp_path / "heap")) == 2
