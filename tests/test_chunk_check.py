"""Chunks that are not where a file says: refused on sight, before HDF5 follows them.

What stands for a data set here says of its chunks what is wanted; there is no file with such chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from distbp.data.chunk_check import check_chunks
from distbp.errors import DataError

SIZE = 10_000  # bytes of the file
WHOLE = 10 * 4 * 8  # bytes of a chunk of (10, 4) float64


def chunk(row: int = 70, size: int = WHOLE, begin: int = 2000, mask: int = 0) -> SimpleNamespace:
    return SimpleNamespace(chunk_offset=(row, 0), size=size, byte_offset=begin, filter_mask=mask)


def data_set(chunks: Sequence[SimpleNamespace], *, filters: int = 0, checksum: bool = False) -> Any:
    def chunk_iter(look: Callable[[Any], None]) -> None:
        for one in chunks:
            look(one)

    how = SimpleNamespace(get_nfilters=lambda: filters)
    kind = h5py.h5t.IEEE_F64LE
    own = SimpleNamespace(chunk_iter=chunk_iter, get_type=lambda: kind, get_create_plist=lambda: how)
    return SimpleNamespace(chunks=(10, 4), shape=(300, 4), fletcher32=checksum, id=own)


@pytest.mark.parametrize(
    ("one", "filters", "checksum", "words"),
    [
        (chunk(size=0), 2, True, r"a chunk of 0 bytes at \(70, 0\)"),
        (chunk(size=4), 2, True, r"a chunk of 4 bytes"),
        (chunk(size=0), 1, False, r"a chunk of 0 bytes"),
        (chunk(size=10 * WHOLE), 0, False, r"a chunk of 3200 bytes"),
        (chunk(size=WHOLE - 1), 0, False, r"a chunk of 319 bytes"),
        (chunk(size=WHOLE - 1, mask=1), 1, False, r"a chunk of 319 bytes"),
        (chunk(begin=SIZE - WHOLE + 1), 0, False, r"a chunk of 320 bytes"),
        (chunk(row=300), 0, False, r"at \(300, 0\)"),
    ],
)
def test_a_chunk_that_cannot_be(one: SimpleNamespace, filters: int, checksum: bool, words: str) -> None:
    with pytest.raises(DataError, match=rf"d.h5: x: .*{words}.*; the file is damaged or truncated"):
        check_chunks(data_set([chunk(row=0), one], filters=filters, checksum=checksum), "d.h5: x", SIZE)


def test_chunks_that_can_be() -> None:
    check_chunks(data_set([chunk(), chunk(row=290, begin=SIZE - WHOLE)]), "d.h5: x", SIZE)
    check_chunks(data_set([chunk(size=5), chunk(size=WHOLE, mask=3)], filters=2, checksum=True), "d.h5: x", SIZE)


@pytest.mark.parametrize("how", [{}, {"compression": "gzip", "fletcher32": True}, {"compression": "lzf"}])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_sound_files(tmp_path: Path, how: dict[str, Any], libver: str) -> None:
    with h5py.File(tmp_path / "d.h5", "w", libver=libver) as file:
        file.create_dataset("x", data=np.random.default_rng(0).standard_normal((95, 4)), chunks=(10, 4), **how)
        file.create_dataset("s", data=["cat", "a dog"] * 20, chunks=(7,), dtype=h5py.string_dtype())
        file.create_dataset("empty", (30,), "f4", chunks=(7,))
    size = (tmp_path / "d.h5").stat().st_size
    with h5py.File(tmp_path / "d.h5") as file:
        for name in file:
            check_chunks(file[name], name, size)
