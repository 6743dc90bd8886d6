"""Words that stand for "no value" in text: in the cells of a table, and as labels."""

from __future__ import annotations

MISSING_WORDS = (
    *("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan"),
    *("None", "NULL", "Null", "null", "?", "-"),
)
