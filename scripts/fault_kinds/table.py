"""A table in Markdown that is printed row by row, and its sums: kind -> instances -> result."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
CORES = len(os.sched_getaffinity(0))
WRONG = re.compile(r"\b(ANOTHER|NO RESUME|UNEXPECTED|HANGS)\b")


class Sums:
    """Of all tables."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[int]] = {}

    def add(self, kind: str, result: str) -> None:
        """One instance."""
        counts = self._kinds.setdefault(kind, [0, 0])
        counts[0] += 1
        counts[1] += bool(WRONG.search(result))

    @property
    def wrong(self) -> int:
        """How many were not as expected."""
        return sum(wrong for _, wrong in self._kinds.values())

    def show(self) -> None:
        """A row for each kind."""
        print("\n| kind | instances | as expected |\n|---|---|---|")
        for kind, (count, wrong) in self._kinds.items():
            print(f"| {kind} | {count} | {count - wrong} |")
        print(f"\n{self.wrong} of {sum(count for count, _ in self._kinds.values())} were not as expected", flush=True)


def show(titles: Sequence[str], cases: Iterable[T], row: Callable[[T], Sequence[object]], at_once: int) -> list[str]:
    """The table of these cases, in their order, so many of them at once; the last cell of each row is its result."""
    print("\n| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|", flush=True)
    results = []
    with ThreadPoolExecutor(at_once) as pool:
        for cells in pool.map(row, cases):
            print("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |", flush=True)
            results.append(str(cells[-1]))
    return results
