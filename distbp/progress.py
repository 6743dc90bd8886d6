"""How far work has come: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LINE_SECONDS = 60.0


class Bar:
    """A bar of tqdm; without one where it cannot be drawn, as with a variable TQDM_NCOLS that is no number.

    tqdm reads its variables when it is imported, when a bar is made, and when it is drawn: what goes wrong there is no
    reason to end the work.
    """

    def __init__(self, **words: Any) -> None:
        self._bar: Any = None
        self._words = words
        self._try(self._make)

    def _make(self) -> None:
        from tqdm import tqdm

        class Silent(tqdm):  # type: ignore[misc]
            """Has nothing to say when it is taken away, be it half made; and goes by the clock that nobody sets.

            The clock that tells the time of the day may be set: back by an hour, and tqdm draws nothing for an hour.
            """

            monitor_interval = 0  # without a thread of tqdm, which goes by the other one

            def __init__(self, **words: Any) -> None:
                super().__init__(**words, miniters=1)  # after each step it is looked whether to draw
                self._time = time.monotonic
                self.start_t = self.last_print_t = self._time()

            def __del__(self) -> None:
                with suppress(Exception):
                    self.close()

        self._bar = Silent(**self._words)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:
            self._bar = None

    def update(self, count: int) -> None:
        """So many more are done."""
        if self._bar is not None:
            self._try(lambda: self._bar.update(count))

    def describe(self, text: str) -> None:
        """The text before the bar."""
        if self._bar is not None:
            self._try(lambda: self._bar.set_description_str(text))

    def clear(self) -> None:
        """Makes room for a line."""
        if self._bar is not None:
            self._try(lambda: self._bar.clear())

    def close(self) -> None:
        if self._bar is not None:
            self._try(lambda: self._bar.close())
            self._bar = None


class _Progress:
    """What has a bar while it goes on, on a terminal."""

    _bar: Bar | None = None

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class RowProgress(_Progress):
    """Work that goes row by row; in a log a line a minute.

    It is called with a stage and the rows more that are done, or fewer where they are to be done anew.  Each stage has
    as many rows as the one before.
    """

    def __init__(self) -> None:
        self._stage, self._rows, self._of, self._spoken = "", 0, 0, time.monotonic()

    def __call__(self, stage: str, rows: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._of, self._rows = stage, self._rows, 0
            if sys.stderr.isatty():
                self._bar = Bar(total=self._of or None, desc=stage, unit=" rows", unit_scale=True, leave=False)
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
        if not self._shown:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = Bar(bar_format="{desc} ({elapsed})", leave=False)
            self._bar.describe(stage)
        elif stage != self._stage:
            sys.stderr.write(f"{stage}\n")
        self._stage = stage
