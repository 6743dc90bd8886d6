"""Strings of any length of a data set or of a field of a table, row by row, without HDF5's own way to them.

What is stored in the rows are references into the heaps of the file (see `distbp.files.string_heap`).  HDF5 does not
hand them out; here they are read where they lie, and packed chunks through a copy of them in memory in which they are
bytes, no references.
"""

from __future__ import annotations

import os
from itertools import product
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.files.object_header import ObjectHeader
from distbp.files.string_heap import NOWHERE, REFERENCE, HeapDamage, StringHeap


def check_openable(group: h5py.Group, name: str, address: int, source: tuple[int, int] | None = None) -> None:
    """Raises ValueError where HDF5 would follow damage as soon as it opened this member of a group.

    `address`: of the header of the object; `source`: what `bytes_of_file` gives, where it is known.
    """
    descriptor, base = source or bytes_of_file(group)
    heap, header = StringHeap(descriptor, base), ObjectHeader(descriptor, base, address)
    virtual = header.virtual()
    if virtual and virtual[0] not in NOWHERE:
        heap.check(*virtual)
    fill = header.fill_value()
    if any(fill):
        for place in _references(h5py.h5d.open(group.id, os.fsencode(name)).get_type()):
            if len(fill) < place + REFERENCE.itemsize:
                raise HeapDamage("a value for what was never written that breaks off")
            _, address, number = np.frombuffer(fill, REFERENCE, 1, place)[0].tolist()
            if address not in NOWHERE:
                heap.check(address, number)


def has_references(dataset: h5py.Dataset) -> bool:
    """Whether HDF5 would follow some, whichever field is read; where values are behind trusted links, it may."""
    return not dataset.is_virtual and dataset.external is None and bool(_references(dataset.id.get_type()))


def read_rows(dataset: h5py.Dataset, field: str | None, name: str, start: int, stop: int) -> NDArray[Any]:
    """Rows start … stop - 1 of a data set that has references, or of a field of it: a line each, strings as str.

    Raises DataError with the `name` of what is read and the row; ValueError, OSError where no row is to blame.
    """
    kind, dtype = dataset.id.get_type(), dataset.dtype
    if dataset.file.id.get_create_plist().get_sizes() != (8, 8):
        raise DataError(f"{name}: its file has addresses of other than 8 bytes; write it again with a newer HDF5")
    place, member = 0, kind
    if field is not None:
        place, member = next((at, one) for at, own, one in _members(kind) if own == field)
        dtype = dtype[field]
    rows = _stored(dataset, stored_size(kind), start, stop)
    bytes_ = np.ascontiguousarray(rows[..., place : place + stored_size(member)]).reshape(-1)
    if not _references(member):
        return _plain(bytes_, member, dtype, name).reshape(stop - start, -1)
    references = bytes_.view(REFERENCE)
    try:
        return _heap(dataset).strings(references).reshape(stop - start, -1)
    except HeapDamage as damage:
        row = start + damage.at * (stop - start) // len(references)
        raise DataError(
            f"{name}, row {row}: refers to {damage}; the file is damaged or truncated, write or copy it again"
        ) from None


def _plain(stored: NDArray[np.uint8], kind: Any, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Numbers, or strings of fixed length, that stand in a table with references."""
    base = kind.get_super() if isinstance(kind, h5py.h5t.TypeArrayID) else kind
    if isinstance(base, h5py.h5t.TypeStringID):
        padding = b" " if base.get_strpad() == h5py.h5t.STR_SPACEPAD else b"\0"
        return np.array([text.rstrip(padding).decode() for text in stored.view(f"S{base.get_size()}").tolist()], object)
    if not base.equal(h5py.h5t.py_create(dtype.base, logical=True)):
        raise DataError(f"{name} is of a type that NumPy does not have, in a table with strings; store it as a number")
    return stored.view(dtype.base)


def _heap(item: Any) -> StringHeap:
    return StringHeap(*bytes_of_file(item))


def _header(item: Any, address: int) -> ObjectHeader:
    return ObjectHeader(*bytes_of_file(item), address)


def bytes_of_file(item: Any) -> tuple[int, int]:
    """The descriptor of the file that an object is in, and where its addresses begin."""
    file = h5py.h5i.get_file_id(item.id)  # item.file would cost ten times as much
    return file.get_vfd_handle(), file.get_create_plist().get_userblock()


def stored_size(kind: Any) -> int:
    """Bytes of a value in a file; `kind` has those in memory, where a string is an address."""
    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
        return REFERENCE.itemsize
    if isinstance(kind, h5py.h5t.TypeArrayID):
        return int(prod(kind.get_array_dims())) * stored_size(kind.get_super())
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        members = (kind.get_member_type(i) for i in range(kind.get_nmembers()))
        return int(kind.get_size() + sum(stored_size(member) - member.get_size() for member in members))
    return int(kind.get_size())


def _members(kind: Any) -> list[tuple[int, str, Any]]:
    """Of a table its fields: where each begins in a row of the file, its name and its type."""
    found, grown = [], 0
    for i in sorted(range(kind.get_nmembers()), key=kind.get_member_offset):
        member = kind.get_member_type(i)
        found.append((kind.get_member_offset(i) + grown, kind.get_member_name(i).decode(), member))
        grown += stored_size(member) - member.get_size()
    return found


def _references(kind: Any) -> list[int]:
    """Where there are references in a value, as it is in the file."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        return [at + place for at, _, member in _members(kind) for place in _references(member)]
    if isinstance(kind, h5py.h5t.TypeArrayID):
        size, inner = stored_size(kind.get_super()), _references(kind.get_super())
        return [i * size + place for i in range(prod(kind.get_array_dims())) for place in inner]
    is_string = isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
    return [0] if is_string or isinstance(kind, h5py.h5t.TypeVlenID) else []


def _stored(dataset: h5py.Dataset, size: int, start: int, stop: int) -> NDArray[np.uint8]:
    """Rows as they are in the file, unpacked: the bytes of each value, `size` of them, along the last axis."""
    rest = dataset.shape[1:]
    if dataset.chunks:
        return _chunks(dataset, size, start, stop)
    header = _header(dataset, h5py.h5o.get_info(dataset.id).addr)
    length, total = prod(rest) * size, prod(dataset.shape) * size
    compact = header.compact()
    if compact is not None:
        content = compact[start * length : stop * length]
    elif dataset.id.get_space_status() != h5py.h5d.SPACE_STATUS_ALLOCATED:  # never written
        content = _blank(header, size) * ((stop - start) * prod(rest))
    elif dataset.id.get_storage_size() == total:
        content = _pread(dataset, (stop - start) * length, dataset.id.get_offset() + start * length)
    else:
        content = b""
    if len(content) != (stop - start) * length:
        raise ValueError(f"it has not all of its {total} bytes")
    return np.frombuffer(content, np.uint8).reshape(stop - start, *rest, size)


def _pread(dataset: h5py.Dataset, length: int, begin: int) -> bytes:
    """Bytes of the file, fewer at its end."""
    parts = []
    while length:
        part = os.pread(dataset.file.id.get_vfd_handle(), length, begin)
        if not part:
            break
        parts.append(part)
        begin, length = begin + len(part), length - len(part)
    return b"".join(parts)


def _blank(header: ObjectHeader, size: int) -> bytes:
    """What stands where nothing was written."""
    fill = header.fill_value() or bytes(size)
    if len(fill) != size:
        raise ValueError(f"its value for what was never written has {len(fill)} bytes; expected {size}")
    return fill


def _chunks(dataset: h5py.Dataset, size: int, start: int, stop: int) -> NDArray[np.uint8]:
    """The same where rows are in chunks: HDF5 unpacks copies of them, for which they are plain bytes."""
    chunks, rest = dataset.chunks, dataset.shape[1:]
    first = start - start % chunks[0]
    shape = (stop - first, *rest)
    how, packing = h5py.h5p.create(h5py.h5p.DATASET_CREATE), dataset.id.get_create_plist()
    how.set_chunk(chunks)
    for i in range(packing.get_nfilters()):
        code, flags, values, _ = packing.get_filter(i)
        how.set_filter(code, flags, values)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(2**20, False)
    memory = h5py.h5f.create(b"strings", h5py.h5f.ACC_TRUNC, fapl=access)
    kind = h5py.h5t.py_create(np.dtype((np.void, size)))
    try:
        space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED,) * len(shape))  # chunks may be longer
        copy = h5py.h5d.create(memory, b"rows", kind, space, dcpl=how)
        empty = []
        for place in product(*(range(0, length, chunk) for length, chunk in zip(shape, chunks, strict=True))):
            there = (first + place[0], *place[1:])
            chunk = dataset.id.get_chunk_info_by_coord(there)
            if chunk.byte_offset is None:
                empty.append(tuple(slice(a, a + length) for a, length in zip(place, chunks, strict=True)))
                continue
            if chunk.filter_mask == 2 ** packing.get_nfilters() - 1 and chunk.size != prod(chunks) * size:  # not packed
                raise ValueError(f"a chunk of {chunk.size} bytes; expected {prod(chunks) * size}")
            skipped, content = dataset.id.read_direct_chunk(there)
            copy.write_direct_chunk(place, content, skipped)
        values = np.zeros(shape, np.dtype((np.void, size)))
        copy.read(h5py.h5s.ALL, h5py.h5s.ALL, values, kind)
    finally:
        memory.close()
    if empty:
        blank = np.frombuffer(_blank(_header(dataset, h5py.h5o.get_info(dataset.id).addr), size), values.dtype)[0]
        for region in empty:
            values[region] = blank
    return values[start - first :].view(np.uint8).reshape(stop - start, *rest, size)
