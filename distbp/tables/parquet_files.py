"""Parquet files, and directories of them, as tables; PyArrow does the reading, a block of rows at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from distbp.data.parts_of_names import PARTS, part_of_path
from distbp.errors import DataError
from distbp.tables.arrow_table import ArrowSource, arrow_columns, needed
from distbp.tables.row_table import STRING_BYTES, Part, RowColumn, RowTable
from distbp.tables.table import TableColumn

MAGIC = b"PAR1"
NO_KEY = "__HIVE_DEFAULT_PARTITION__"
LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
READ_AHEAD = 2**16  # bytes of a column
WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def parquet_tables(path: str) -> dict[str, list[RowTable]]:
    """A file, or the files of a directory end to end: {"": tables}; or by part where their names say which part.

    Raises DataError.
    """
    if not os.path.isdir(path):
        return {"": [_table(path, {})]}
    found: dict[str, list[RowTable]] = {}
    files = _files(path)
    parts = [part_of_path(os.path.relpath(file, path)) for file in files]
    named = len(set(parts) - {""}) > 1 and "" not in parts
    keys = _keys([os.path.relpath(file, path) for file in files])
    for file, part, own in zip(files, parts, keys, strict=True):
        found.setdefault(part if named else "", []).append(_table(file, own))
    return {part: found[part] for part in ("", *dict.fromkeys(PARTS.values())) if part in found}


def _table(path: str, keys: dict[str, str | int]) -> RowTable:
    file = _open(path)

    def batches(names: Sequence[str], rows: int) -> Iterator[Any]:
        yield from _open(path).iter_batches(rows, columns=list(names))

    rows = file.metadata.num_rows
    columns = arrow_columns(path, file.schema_arrow, ArrowSource(path, rows, batches))
    there = {column.about.name for column in columns}
    return RowTable(path, [*columns, *(_key_column(k, v, rows) for k, v in keys.items() if k not in there)])


def _open(path: str) -> Any:
    pyarrow = needed(path, "Parquet")
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path, buffer_size=READ_AHEAD, pre_buffer=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be opened by PyArrow: {error}") from None


def _files(path: str) -> list[str]:
    """The Parquet files in a directory and in those inside it, by name.  Raises DataError."""
    found = []
    for folder, inside, names in os.walk(path):
        for log, system in LOGS.items():
            if log in inside:
                raise DataError(
                    f"{folder}: a table of {system}, which keeps rows that it has deleted; write it as plain Parquet"
                )
        inside[:] = sorted(name for name in inside if not name.startswith((".", "_")))
        for name in sorted(names):
            if not name.startswith((".", "_")) and _is_parquet(os.path.join(folder, name)):
                found.append(os.path.join(folder, name))
    if not found:
        raise DataError(f"{path}: a directory without Parquet files; expected a file, or a directory of Parquet files")
    return sorted(found)


def _is_parquet(path: str) -> bool:
    with open(path, "rb") as file:
        is_one = file.read(4) == MAGIC
    if not is_one and path.endswith((".parquet", ".pq")):
        raise DataError(f"{path}: not a Parquet file; it is empty or damaged")
    return is_one


def _keys(paths: Sequence[str]) -> list[dict[str, str | int]]:
    """What the directories of each file say in Hive's way, year=2020: whole numbers where all of a key are."""
    texts = []
    for path in paths:
        steps = (step.split("=", 1) for step in Path(path).parent.parts if "=" in step)
        texts.append({unquote(key): unquote(value) for key, value in steps})
    names = list(dict.fromkeys(key for one in texts for key in one))
    whole = {
        n for n in names if all(WHOLE.fullmatch(one.get(n, NO_KEY)) or one.get(n, NO_KEY) == NO_KEY for one in texts)
    }
    return [
        {n: int(one[n]) if n in whole and one.get(n, NO_KEY) != NO_KEY else one.get(n, NO_KEY) for n in names}
        for one in texts
    ]


def _key_column(name: str, value: str | int, rows: int) -> RowColumn:
    about = TableColumn(name, notes=("from the names of directories",))
    return RowColumn(about, _Constant(value, rows), "", (), STRING_BYTES)


class _Constant:
    """The same value in all rows; a missing one where the directory says that there is none."""

    def __init__(self, value: str | int, rows: int) -> None:
        self._value, self.rows = value, rows

    def blocks(self, keys: Sequence[str], rows: int) -> Iterator[list[Part]]:
        for first in range(0, self.rows, rows):
            count = min(rows, self.rows - first)
            values = np.full(count, self._value, np.int64 if isinstance(self._value, int) else object)
            yield [(values, np.ones(count, bool) if self._value == NO_KEY else None)]
