"""Tables in memory, in place of readers: text as a reader of text gives it, or arrays of a type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from distbp.errors import DataError
from distbp.tables.import_data import Imported, ImportOptions, import_tables
from distbp.tables.import_plan import SplitTables
from distbp.tables.table import TableColumn, Values

MISSING = ("", "NA", "nan")


class FakeTable:
    """`columns`: arrays, or lists of texts; `about`: what is known of some of them."""

    def __init__(self, columns: dict[str, Any], name: str = "fake", block: int = 3, about: Any = ()) -> None:
        self.name, self._block = name, block
        self.is_text = all(isinstance(values, list) for values in columns.values())
        self._values = columns
        known = {column.name: column for column in about}
        self.columns = [known.get(column, TableColumn(column)) for column in columns]

    def column(self, name: str) -> TableColumn:
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f"{self.name}: no column {name!r}; it has {', '.join(self._values)}")

    def place(self, row: int) -> str:
        return f"{self.name}, row {row}"

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        rows = max(len(self._values[name]) for name in names)
        for first in range(0, rows, self._block):
            yield [self._some(name, slice(first, first + self._block), name in text) for name in names]

    def _some(self, name: str, rows: slice, as_text: bool) -> Values:
        some = self._values[name][rows]
        if not self.is_text:
            array = np.asarray(some)
            return Values(array.reshape(len(array), -1))
        missing = np.array([cell in MISSING for cell in some])[:, None]
        array = np.array(some, object)[:, None]
        if not as_text:
            with suppress(ValueError):
                array = np.array([float("nan" if cell in MISSING else cell) for cell in some])[:, None]
        return Values(array, missing if missing.any() else None)


def write(out: Path, *train: FakeTable, test: Sequence[FakeTable] = (), labels: Any = None, **options: Any) -> Imported:
    """Imports the tables; `labels`: those of --y-from."""
    sources = {"train": SplitTables(list(train), labels)}
    if test:
        sources["test"] = SplitTables(list(test))
    return import_tables(sources, out, ImportOptions(**{"overwrite": True, **options}))


def read(out: Path) -> dict[str, Any]:
    """All arrays of the file, and names of columns as "train/x columns"."""
    found = {}
    with h5py.File(out) as file:
        for split, group in file.items():
            for name, data in group.items():
                found[f"{split}/{name}"] = data.asstr()[()] if data.dtype.kind == "O" else data[()]
                for attribute, texts in data.attrs.items():
                    found[f"{split}/{name} {attribute}"] = np.char.decode(texts).tolist()
    return found
