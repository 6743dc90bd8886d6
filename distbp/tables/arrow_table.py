"""Columns of Arrow's types as columns of a table, and the readers of Arrow IPC and Feather files; PyArrow reads.

Structures are flattened (`a.b`).  Indices of pandas are no data.  Dates, times and lists of structures are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from distbp.errors import DataError
from distbp.tables.arrow_buffers import nulls
from distbp.tables.arrow_values import BYTES, Uneven, bytes_of, kind, problem, shape_of, values
from distbp.tables.row_table import Part, RowColumn, RowTable
from distbp.tables.source_files import check_names
from distbp.tables.table import TableColumn

INDEX = re.compile(r"__index_level_[0-9]+__")
STREAM = b"\xff\xff\xff\xff"  # the first bytes of a stream without the frame of a file
Batches = Callable[[Sequence[str], int], Iterator[Any]]  # names of columns, rows of a batch → record batches


class ArrowSource:
    """Rows of record batches.  A key is the path to a column, its steps with a null character between them."""

    def __init__(self, name: str, rows: int | None, batches: Batches) -> None:
        self.name, self.rows, self._batches = name, rows, batches

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        import pyarrow

        paths = [key.split("\0") for key in keys]
        shapes: list[tuple[int, ...] | None] = [None] * len(keys)
        done = 0
        try:
            for batch in self._batches(list(dict.fromkeys(path[0] for path in paths)), rows):
                parts = []
                for i, path in enumerate(paths):
                    part = self._part(batch, path, shapes[i], done)
                    shapes[i] = part[0].shape[1:]
                    parts.append(part)
                if len(batch):
                    yield parts
                done += len(batch)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: cannot be read after row {done}: {error}") from None

    def _part(self, batch: Any, path: list[str], shape: tuple[int, ...] | None, done: int) -> Part:
        array = batch.column(batch.schema.get_field_index(path[0]))
        absent = None
        for step in path[1:]:
            gaps = nulls(array)
            if gaps is not None:
                absent = gaps if absent is None else absent | gaps
            array = array.field(step)
        name = ".".join(path)
        try:
            found, missing = values(array, shape)
        except Uneven as error:
            row, size, before = error.args
            raise DataError(
                f"{self.name}, row {done + row}: column {name!r} has {size} values, and {before} before"
            ) from None
        except DataError as error:
            raise DataError(f"{self.name}, rows {done} to {done + len(batch) - 1}: column {name!r}: {error}") from None
        if absent is not None:
            missing = np.zeros(found.shape, bool) if missing is None else missing.copy()
            missing[absent] = True
        return found, missing


def arrow_columns(name: str, schema: Any, source: ArrowSource) -> list[RowColumn]:
    """The columns of a schema, those in structures one by one.  Raises DataError where two have one name."""
    found = [column for field in schema for column in _columns(field, [], _indices(schema), source)]
    check_names(name, [column.about.name for column in found])
    return found


def _columns(field: Any, above: list[str], indices: set[str], source: ArrowSource) -> Iterator[RowColumn]:
    path = [*above, field.name]
    if kind(field.type) == "struct" and field.type.num_fields:
        for i in range(field.type.num_fields):
            yield from _columns(field.type.field(i), path, indices, source)
        return
    wrong = problem(field.type)
    not_data = wrong
    if path[0] in indices or INDEX.fullmatch(path[0]):
        not_data = "index of pandas"
    elif kind(field.type) in BYTES:
        not_data = "bytes"
    elif kind(field.type) == "null":
        not_data = "has no values"
    metadata = field.metadata or {}
    units = (metadata.get(b"units") or metadata.get(b"unit") or b"").decode("utf-8", "replace")
    about = TableColumn(".".join(path), units, not_data=not_data)
    key, shape, size = "\0".join(path), shape_of(field.type), bytes_of(field.type)
    yield RowColumn(about, source, key, shape, size, wrong, nan_is_missing=False)


def _indices(schema: Any) -> set[str]:
    """The columns that pandas made of the index of a frame."""
    try:
        listed = (schema.pandas_metadata or {}).get("index_columns") or []
    except (ValueError, AttributeError):
        return set()
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()


def arrow_table(path: str) -> RowTable:
    """An Arrow IPC file or stream, or a Feather file of version 2; a record batch at a time.  Raises DataError."""
    pyarrow = needed(path, "Arrow")
    file = _IPCFile(path)
    try:
        schema, rows = file.describe()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be opened by PyArrow: {error}") from None
    return RowTable(path, arrow_columns(path, schema, ArrowSource(path, rows, file.batches)))


class _IPCFile:
    """The record batches of a file, or of a stream in a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        with open(path, "rb") as file:
            self._is_stream = file.read(4) == STREAM

    def _opened(self, columns: Sequence[int] | None) -> Any:
        import pyarrow

        options = pyarrow.ipc.IpcReadOptions(included_fields=None if columns is None else list(columns))
        opener = pyarrow.ipc.open_stream if self._is_stream else pyarrow.ipc.open_file
        return opener(pyarrow.memory_map(self._path), options=options)

    def describe(self) -> tuple[Any, int | None]:
        """The schema, and the number of rows where that is known without reading them."""
        reader = self._opened(None)
        return reader.schema, None

    def batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """See `Batches`; what is read is checked, since Arrow believes offsets that it finds."""
        schema, _ = self.describe()
        reader = self._opened(sorted(schema.get_field_index(name) for name in names))
        for batch in reader if self._is_stream else map(reader.get_batch, range(reader.num_record_batches)):
            batch.validate(full=True)
            yield from (batch.slice(first, rows) for first in range(0, len(batch), rows))


def needed(path: str, what: str) -> Any:
    """PyArrow.  Raises DataError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise DataError(f"{path}: reading {what} files needs pyarrow: pip install 'distbp[tables]'") from None
    return pyarrow
