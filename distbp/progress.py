"""How far work has come: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

LINE_SECONDS = 60.0


class _Progress:
    """What has a bar while it goes on, on a terminal."""

    _bar: Any = None

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class RowProgress(_Progress):
    """Work that goes row by row; in a log a line a minute.

    Called with a stage and the rows more that are done; each stage has as many rows as the one before.
    """

    def __init__(self) -> None:
        self._stage, self._rows, self._of, self._spoken = "", 0, 0, time.monotonic()

    def __call__(self, stage: str, rows: int) -> None:
        """So many rows more."""
        if stage != self._stage:
            self.close()
            self._stage, self._of, self._rows = stage, self._rows, 0
            if sys.stderr.isatty():
                from tqdm import tqdm

                self._bar = tqdm(total=self._of or None, desc=stage, unit=" rows", unit_scale=True, leave=False)
        self._rows += rows
        if self._bar is not None:
            self._bar.update(rows)
        elif time.monotonic() - self._spoken > LINE_SECONDS:
            self._spoken = time.monotonic()
            of = f" of {self._of}" if self._of else ""
            sys.stderr.write(f"{stage}: {self._rows}{of} rows\n")


class StageProgress(_Progress):
    """Work whose length is not known: called, again and again, with the stage it is in; in a log a line for each."""

    def __init__(self, *, shown: bool) -> None:
        self._shown, self._stage = shown, ""

    def __call__(self, stage: str) -> None:
        """It goes on."""
        if not self._shown:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm

            if self._bar is None:
                self._bar = tqdm(bar_format="{desc} ({elapsed})", leave=False)
            self._bar.set_description_str(stage)
        elif stage != self._stage:
            sys.stderr.write(f"{stage}\n")
        self._stage = stage
