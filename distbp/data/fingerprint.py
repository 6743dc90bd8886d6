"""What a run remembers of its data, to know them again: their shapes and types, and a hash over a sample of the rows.

The sample is the same for data of one shape, wherever they lie: BLOCKS blocks of about BLOCK_BYTES, spread evenly, the
first and the last rows among them; small data are hashed as a whole.  So a fingerprint costs the same for files of any
size, and does not depend on the number of ranks, on paths, or on how the files store their rows.  A change between the
blocks is not noticed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.reader import Reader
from distbp.data.split import Split
from distbp.ranks.communicator import Communicator, from_first

BLOCKS = 64
BLOCK_BYTES = 64 * 2**10
MOST = 2**53


@dataclass(frozen=True)
class ArrayPrint:
    """Of x or y: numbers in a row, their type ("float32", or "labels"), and the hash of the sample."""

    width: int
    type: str
    hash: str


@dataclass(frozen=True)
class Fingerprint:
    """Of a split; `y` is None without labels or targets."""

    rows: int
    x: ArrayPrint
    y: ArrayPrint | None

    def differences(self, now: Fingerprint) -> list[str]:
        """What is different now, in words: rows, or x and y."""
        if now.rows != self.rows:
            return [f"{now.rows} samples now, {self.rows} in the run"]
        found = []
        for name in ("x", "y"):
            before, after = getattr(self, name), getattr(now, name)
            if before == after:
                continue
            if before is None or after is None or (before.width, before.type) != (after.width, after.type):
                found.append(f"{name}: {_described(after)} now, {_described(before)} in the run")
            else:
                found.append(f"{name}: other values than in the run")
        return found


def _described(one: ArrayPrint | None) -> str:
    return "none" if one is None else f"{one.width} columns of {one.type}"


def fingerprint(comm: Communicator, data: Split) -> Fingerprint:
    """That of a split whose rows are all in memory, or in its files.  Raises DataError, agreed by all ranks."""
    return from_first(comm, lambda: _look(data))


def _look(data: Split) -> Fingerprint:
    layout, held = data.layout, data.x if data.in_memory else None
    with Reader(layout) as reader:

        def read(of: str) -> Callable[[int, int], NDArray[Any]]:
            def block(first: int, last: int) -> NDArray[Any]:
                rows = np.empty((last - first, layout.width(of)), layout.dtype(of))
                reader.read(of, first, last, rows)
                return rows

            return block

        x = _print(data, "x", read("x") if held is None else lambda first, last: held[first:last])
        y = None
        if layout.y_name:
            values = data.classes if data.is_labelled else data.y if data.in_memory else None
            y = _print(data, "y", read("y") if values is None else lambda first, last: values[first:last])
    return Fingerprint(len(data), x, y)


def _print(data: Split, of: str, block: Callable[[int, int], NDArray[Any]]) -> ArrayPrint:
    is_labels = of == "y" and data.is_labelled
    width, dtype = (1, data.y_dtype) if is_labels else (data.layout.width(of), data.layout.dtype(of))
    digest = hashlib.sha256()
    if is_labels:
        assert data.labels is not None
        digest.update("\0".join(map(repr, data.labels)).encode(errors="surrogatepass"))
    for first, last in sample(len(data), width * dtype.itemsize):
        digest.update(np.ascontiguousarray(block(first, last), dtype.newbyteorder("<")).tobytes())
    return ArrayPrint(width, "labels" if is_labels else dtype.name, digest.hexdigest())


def sample(N: int, row_bytes: int) -> list[tuple[int, int]]:
    """The rows of the blocks, first … last - 1, which follow from the number of rows and their size alone."""
    rows = max(1, BLOCK_BYTES // row_bytes)
    if BLOCKS * rows >= N:
        return [(first, min(first + rows, N)) for first in range(0, N, rows)]
    return [(first, first + rows) for first in ((N - rows) * i // (BLOCKS - 1) for i in range(BLOCKS))]


def to_json(prints: Mapping[str, Fingerprint]) -> dict[str, Any]:
    """For a checkpoint."""
    return {name: asdict(one) for name, one in prints.items()}


def from_json(values: Any) -> dict[str, Fingerprint]:
    """The fingerprints of "training" and "validation".  Raises ValueError for what `to_json` does not write."""
    if not isinstance(values, dict) or not values.keys() <= {"training", "validation"}:
        raise ValueError("expected the fingerprints of training and validation")
    return {name: _split_from_json(one) for name, one in values.items()}


def _split_from_json(values: Any) -> Fingerprint:
    if not isinstance(values, dict) or values.keys() != {"rows", "x", "y"} or not _is_count(values["rows"]):
        raise ValueError("expected rows, x and y of a split")
    x, y = (None if values[name] is None else _array_from_json(values[name]) for name in ("x", "y"))
    if x is None:
        raise ValueError("expected a hash of x")
    return Fingerprint(values["rows"], x, y)


def _array_from_json(values: Any) -> ArrayPrint:
    if not isinstance(values, dict) or values.keys() != {"width", "type", "hash"} or not _is_count(values["width"]):
        raise ValueError("expected width, type and hash of an array")
    for name, pattern in (("type", "[a-z0-9]{1,16}"), ("hash", "[0-9a-f]{64}")):
        if not isinstance(values[name], str) or not re.fullmatch(pattern, values[name]):
            raise ValueError(f"expected a {name}")
    return ArrayPrint(**values)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST
