"""Parquet files as tables, for `distbp import`; PyArrow does the reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.mathematics.finite import first_not_finite
from distbp.tables.source_files import check_names

BLOCK_ROWS = 4096


class ParquetTable:
    """A Parquet file; needs PyArrow, which comes with distbp[parquet]."""

    is_text = False

    def __init__(self, path: str) -> None:
        try:
            import pyarrow.parquet
        except ImportError:
            raise DataError(f"{path}: reading Parquet needs PyArrow: pip install 'distbp[parquet]'") from None
        self.name, self._error = path, pyarrow.ArrowException
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a Parquet file: {error}") from None
        self.columns = self._file.schema_arrow.names
        check_names(path, self.columns)

    def blocks(self, columns: Sequence[str], *, numbers: bool) -> Iterator[NDArray[Any]]:
        """See `Table`."""
        done = 0
        try:
            for batch in self._file.iter_batches(BLOCK_ROWS, columns=list(columns)):
                parts = []
                for name in columns:
                    column = batch.column(name)
                    if column.null_count:
                        row = done + int(np.asarray(column.is_null()).argmax())
                        raise DataError(f"{self.name}, row {row}: column {name!r} is missing")
                    parts.append(self._column(name, column, done, numbers))
                yield np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
                done += len(batch)
        except (self._error, OSError) as error:
            raise DataError(f"{self.name}: cannot be read after row {done}: {error}") from None

    def place(self, row: int) -> str:
        """'file.parquet, row 17'"""
        return f"{self.name}, row {row}"

    def _column(self, name: str, column: Any, done: int, numbers: bool) -> NDArray[Any]:
        import pyarrow

        kind = column.type
        if isinstance(column, pyarrow.FixedSizeListArray):
            values = np.asarray(column.flatten()).reshape(len(column), -1)
        elif isinstance(column, pyarrow.ListArray):
            rows = column.to_pylist()
            lengths = [len(row) for row in rows]
            if len(set(lengths)) > 1:
                row = next(i for i, length in enumerate(lengths) if length != lengths[0])
                raise DataError(
                    f"{self.name}, row {done + row}: column {name!r} has {lengths[row]} values, and {lengths[0]} before"
                )
            values = np.array(rows)
        elif isinstance(column, pyarrow.DictionaryArray):
            values = np.array(column.to_pylist(), object)[:, None]
        else:
            values = column.to_numpy(zero_copy_only=False)[:, None]
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        if values.dtype.kind not in "iufOSU" or (
            values.dtype.kind == "O" and not isinstance(values[0, 0], str | int | float)
        ):
            raise DataError(f"{self.name}: column {name!r} is of type {kind}; expected numbers or strings")
        if numbers and values.dtype.kind not in "iuf":
            raise DataError(f"{self.name}, row {done}: column {name!r} is of type {kind}; expected numbers")
        bad = first_not_finite(values) if numbers else None
        if bad is not None:
            raise DataError(f"{self.name}, row {done + bad}: column {name!r} is {values[bad].tolist()}")
        return values
