"""Numbers of things in messages: 1 row, 2 rows, 3 classes."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """A number and what it counts; `many`: the plural, where it is not made with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"
