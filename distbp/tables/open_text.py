"""Which kind of text a file is: rows of cells, LibSVM or ARFF."""

from __future__ import annotations

from distbp.tables.table import Table
from distbp.tables.text_options import TextOptions
from distbp.tables.text_table import TextTable


def open_text(path: str, options: TextOptions) -> Table:
    """The table that a text file is.  Raises DataError where it cannot be read, or where it cannot be said how."""
    return TextTable(path, options)
