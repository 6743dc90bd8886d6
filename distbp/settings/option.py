"""An option of a run: its default, its help, and what it may be."""

from __future__ import annotations

import dataclasses
from typing import Any

AUTO = "auto"
DATA, NETWORK, TRAINING, RUN = "Data", "Network", "Training", "Run"


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    word: str = "",
    may_change: bool = False,
    group: str,
) -> Any:
    """A field: `low` <= value, `above` < value, value < `below`, or `word`; `may_change`: on resume."""
    metadata = {
        "help": help,
        "choices": choices,
        "low": low,
        "above": above,
        "below": below,
        "word": word,
        "may_change": may_change,
        "group": group,
    }
    factory = isinstance(default, list)
    return (
        dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
        if factory
        else dataclasses.field(default=default, metadata=metadata)
    )
