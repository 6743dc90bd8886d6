"""The arrays of a file as a table for each part that their names tell: x_train, x_val, x_test; test/x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distbp.data.parts_of_names import by_part
from distbp.tables.row_table import RowColumn, RowTable

NO_PART = "belongs to no part of the file by its name"


def split_columns(path: str, columns: Sequence[RowColumn]) -> dict[str, RowTable]:
    """The columns as a table for each part: "train", "val", "test"; or as one, "", where their names say nothing."""
    by_name = {column.about.name: column for column in columns}
    parts = by_part([name for name, column in by_name.items() if not column.problem])
    if not parts:
        return {"": RowTable(path, columns)}
    taken = {name for names in parts.values() for name in names.values()}
    rest = [
        replace(column, about=replace(column.about, not_data=NO_PART), problem=NO_PART)
        for name, column in by_name.items()
        if name not in taken
    ]
    return {
        part: RowTable(f"{path}: {part}", [*(_renamed(by_name[old], new) for new, old in names.items()), *rest])
        for part, names in parts.items()
    }


def _renamed(column: RowColumn, name: str) -> RowColumn:
    return replace(column, about=replace(column.about, name=name))
