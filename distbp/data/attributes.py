"""Attributes of data sets and groups of an HDF5 file, read without harm where their strings are damaged."""

from __future__ import annotations

from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.files.attribute_messages import stored_attributes
from distbp.files.object_header import HeaderDamage, ObjectHeader
from distbp.files.string_heap import REFERENCE, HeapDamage, StringHeap

MOST_BYTES = 2**24  # of an attribute
Value = str | list[str] | NDArray[Any] | None


class Attributes:
    """What is said of a data set or group.  Raises DataError for an attribute that is damaged, when it is asked for.

    `path`: the file's name in messages.
    """

    def __init__(self, path: str, item: h5py.Dataset | h5py.Group) -> None:
        self._item, self._path = item, path
        self._stored: dict[bytes, bytes] | None = None
        self.names: frozenset[str] = frozenset()
        if h5py.h5a.get_num_attrs(item.id):
            found: list[bytes] = []
            h5py.h5a.iterate(item.id, found.append)
            self.names = frozenset(name.decode(errors="replace") for name in found)

    def beside(self, item: h5py.Dataset | h5py.Group) -> Attributes:
        """Those of another object of the file."""
        return Attributes(self._path, item)

    def get(self, name: str) -> Value:
        """A text, several, or an array of one axis of numbers; None: not there, or made of something else."""
        if name not in self.names:
            return None
        attribute = h5py.h5a.open(self._item.id, name.encode())
        kind, count = attribute.get_type(), prod(attribute.shape)
        if count == 0 or attribute.get_storage_size() > MOST_BYTES:
            return None
        if isinstance(kind, h5py.h5t.TypeStringID):
            texts = self._linked(name, count) if kind.is_variable_str() else _fixed(attribute, kind, count)
            return texts[0] if attribute.shape == () else texts
        if (
            isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID | h5py.h5t.TypeEnumID)
            and kind.get_size() <= 8
        ):
            values = np.empty(attribute.shape, kind.dtype)
            attribute.read(values)
            plain: NDArray[Any] = values.astype(values.dtype.newbyteorder("=")).reshape(-1)
            return plain.view(np.dtype(plain.dtype.str))
        return None

    def text(self, name: str) -> str:
        """A text; "" where it is not there, or no single text."""
        value = self.get(name)
        if isinstance(value, list) and len(value) == 1:
            return value[0]
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Several texts, () where they are not there."""
        value = self.get(name)
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()

    def numbers(self, name: str) -> NDArray[Any] | None:
        """An array of one axis, None where there is none."""
        value = self.get(name)
        return value if isinstance(value, np.ndarray) else None

    def where(self, name: str = "") -> str:
        """'file.h5: train/x' for messages, or 'file.h5: train/x, attribute units'."""
        inside = (self._item.name or "").lstrip("/") or "/"
        return f"{self._path}: {inside}" + (f", attribute {name}" if name else "")

    def first_objects(self, name: str) -> tuple[int, ...]:
        """Of an attribute whose elements are lists of references: the address of the first object of each, or 0."""
        if name not in self.names:
            return ()
        attribute = h5py.h5a.open(self._item.id, name.encode())
        kind = attribute.get_type()
        is_list = isinstance(kind, h5py.h5t.TypeVlenID) and kind.get_super().equal(h5py.h5t.STD_REF_OBJ)
        if not is_list or attribute.get_storage_size() > MOST_BYTES:
            return ()
        lists = self._checked(name, lambda heap, references: heap.lists(references, 8), prod(attribute.shape))
        return tuple(int.from_bytes(one[:8], "little") for one in lists)

    def _linked(self, name: str, count: int) -> list[str]:
        texts: list[str] = self._checked(name, lambda heap, references: heap.strings(references).tolist(), count)
        return texts

    def _checked(self, name: str, look: Any, count: int) -> Any:
        """What `look` finds behind the references of an attribute."""
        file = self._item.file
        descriptor, base = file.id.get_vfd_handle(), file.userblock_size
        try:
            if self._stored is None:
                header = ObjectHeader(descriptor, base, h5py.h5o.get_info(self._item.id).addr)
                self._stored = stored_attributes(header, descriptor, base)
            stored = self._stored.get(name.encode(), b"")
            if len(stored) < count * REFERENCE.itemsize:
                raise HeaderDamage("it breaks off, or is stored in a way that distbp does not read")
            return look(StringHeap(descriptor, base), np.frombuffer(stored, REFERENCE, count))
        except (HeaderDamage, HeapDamage) as damage:
            raise DataError(
                f"{self.where(name)} cannot be read: {damage}; the file is damaged or truncated, write or copy it again"
            ) from None


def _fixed(attribute: Any, kind: Any, count: int) -> list[str]:
    """Texts of fixed length; those that are not UTF-8 are taken as Latin-1, in which some programs write units."""
    values = np.empty(attribute.shape, kind.dtype)
    attribute.read(values)
    return [_decoded(value) for value in values.reshape(-1).tolist()]


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
