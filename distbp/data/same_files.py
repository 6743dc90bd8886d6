"""Files that are one and the same: named twice, by a pattern, or by a link."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distbp.errors import UsageError


def check_once(paths: Sequence[str]) -> None:
    """Raises UsageError where two of them are one file."""
    seen: dict[tuple[int, int], str] = {}
    for path in paths:
        key = identity(path)
        if key is None:
            continue
        if key in seen:
            same = "is named twice" if seen[key] == path else f"is the same file as {seen[key]}"
            raise UsageError(f"{path}: {same}; its rows would count twice")
        seen[key] = path


def identity(path: str) -> tuple[int, int] | None:
    """What two names of one file have in common; None where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
