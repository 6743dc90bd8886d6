"""In the place of a run's directory, for a run of which nothing is to be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distbp.training.run_directory import RunDirectory


class NoDirectory(RunDirectory):
    """Takes what is to be saved, and leaves it."""

    writes = False

    def __init__(self) -> None:
        super().__init__("", dry=True)

    def create(self, note: Callable[[str], None] = lambda text: None, pulse: Callable[[], None] = lambda: None) -> None:
        """There is nothing to make."""

    def has_checkpoints(self) -> bool:
        """There are none."""
        return False

    def checkpoints(self) -> list[Path]:
        """There are none."""
        return []

    def saved_as(self, step: int) -> str:
        """For messages."""
        return "none, for the run writes nothing"
