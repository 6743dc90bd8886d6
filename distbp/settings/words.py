"""Values in messages."""

from __future__ import annotations

from typing import Any


def shown(value: Any) -> str:
    """A value in a message: as it is written, but not longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; lists in lists in lists
        return f"a {type(value).__name__} that is too long to print"
    return text if len(text) <= 100 else text[:100] + "…"
