"""Which kind of text a file is: rows of cells, LibSVM or ARFF."""

from __future__ import annotations

import re

from distbp.errors import DataError
from distbp.tables.arff_table import ArffTable, is_arff
from distbp.tables.libsvm_table import LibSVMTable, is_libsvm
from distbp.tables.table import Table
from distbp.tables.text_file import text_chunks
from distbp.tables.text_options import TextOptions
from distbp.tables.text_table import TextTable

LIBSVM_LINES = 100  # that are looked at
_OTHERS = {
    "HTML or XML": re.compile(r"\s*<(?:[?!]|html|[A-Za-z][\w:]*[\s>])", re.IGNORECASE),
    "JSON": re.compile(r'\s*(?:\{\s*["}]|\[\s*[\[{])'),
}


def open_text(path: str, options: TextOptions) -> Table:
    """The table that a text file is.  Raises DataError where it cannot be read, or where it cannot be said how."""
    if options.format == "libsvm":
        return LibSVMTable(path, options)
    if options.format == "arff":
        return ArffTable(path, options)
    if options.format == "auto":
        start = next(text_chunks(path, options.encoding), b"").decode("utf-8", "ignore")
        for kind, pattern in _OTHERS.items():
            if pattern.match(start):
                raise DataError(f"{path}: looks like {kind}, which is not read; expected rows of cells (--format text)")
        lines = start.split("\n")
        if is_arff(lines):
            return ArffTable(path, options)
        if is_libsvm(lines[: min(LIBSVM_LINES, max(1, len(lines) - 1))]):  # the last one may not be complete
            return LibSVMTable(path, options)
    return TextTable(path, options)
