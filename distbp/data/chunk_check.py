"""Whether the chunks of a data set are where its file says: HDF5 itself would follow a wrong address."""

from __future__ import annotations

from math import prod
from typing import Any

import h5py

from distbp.data.string_rows import stored_size
from distbp.errors import DataError


def check_chunks(dataset: h5py.Dataset, where: str, size: int) -> None:
    """Raises DataError where a chunk is not inside the file, of `size` bytes, and the data set, or has a wrong length.

    `where` names the data set in the message.
    """
    if not dataset.chunks or not hasattr(dataset.id, "chunk_iter"):
        return
    shape, least = dataset.shape, 5 if dataset.fletcher32 else 1  # its checksum has 4 bytes
    whole = prod(dataset.chunks) * stored_size(dataset.id.get_type())
    unpacked = 2 ** dataset.id.get_create_plist().get_nfilters() - 1  # the mask where no filter was applied
    wrong: list[Any] = []

    def look(chunk: Any) -> None:
        outside = any(start >= length for start, length in zip(chunk.chunk_offset, shape, strict=True))
        wrong_size = chunk.filter_mask == unpacked and chunk.size != whole
        if outside or wrong_size or chunk.size < least or chunk.byte_offset + chunk.size > size:
            wrong.append((chunk.chunk_offset, chunk.size))

    dataset.id.chunk_iter(look)
    if wrong:
        place, length = wrong[0]
        raise DataError(
            f"{where}: a chunk of {length} bytes at {place}; the file is damaged or truncated, write or copy it again"
        )
