"""audit.csv of a run: a chain of lines, each of which says what the run had come to after some steps.

The columns of a line are

    step           updates done
    horizon        --epochs, if the learning rate depends on it; otherwise empty
    engine         "compiled" or "numpy"
    parameters     SHA-256 of w, the digest that `distbp inspect --digest` prints (`distbp.training.comparison`)
    optimizer      SHA-256 of the vectors of the optimizer (`distbp.training.audit_digests`, as the next two)
    data           SHA-256 of the data seen since the line before
    configuration  SHA-256 of the options that enter the numbers
    before         SHA-256 of the bytes of the line before, its newline included; of the first line: of the header

A digest is written as 64 hexadecimal digits.  A line ends with a newline, and there is no blank in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

COLUMNS = ("step", "horizon", "engine", "parameters", "optimizer", "data", "configuration", "before")
HEADER = ",".join(COLUMNS) + "\n"
LINE = re.compile(r"(0|[1-9][0-9]{0,15}),(|0|[1-9][0-9]{0,15}),(compiled|numpy)" + ",([0-9a-f]{64})" * 5)


class Line(NamedTuple):
    """A line; see above."""

    step: int
    horizon: str
    engine: str
    parameters: str
    optimizer: str
    data: str
    configuration: str
    before: str

    @property
    def cells(self) -> list[str]:
        """The columns as text."""
        return [str(self.step), *self[1:]]

    @property
    def text(self) -> str:
        """The line as it stands in the file."""
        return ",".join(self.cells) + "\n"

    def sha256(self) -> str:
        """The digest that the next line has in its last column."""
        return sha256(self.text.encode())

    @property
    def manner(self) -> tuple[str, str]:
        """What may change in a run, and then changes its numbers: the horizon and the engine."""
        return self.horizon, self.engine


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def link(before: Line | None) -> str:
    """The last column of the line that follows."""
    return before.sha256() if before else sha256(HEADER.encode())


def parse(text: str) -> tuple[list[Line], str]:
    """The lines of audit.csv up to the first that is none; and what is wrong with that one, or "".

    What stands after the last newline was not written to its end, and is left out.
    """
    rows, lines = text.split("\n")[:-1], list[Line]()
    if not rows or rows[0] + "\n" != HEADER:
        return [], f"line 1 is not {HEADER.strip()}"
    for number, row in enumerate(rows[1:], 2):
        found = LINE.fullmatch(row)
        if found is None:
            return lines, f"line {number} is not a line of audit.csv"
        step, *others = found.groups()
        lines.append(Line(int(step), *others))
    return lines, ""


def break_of(lines: Sequence[Line]) -> str:
    """Why the lines are no chain, or ""."""
    if not lines or lines[0].step:
        return "the first line is not that of step 0"
    for before, line in pairwise((None, *lines)):
        assert line is not None
        if before and line.step <= before.step:
            return f"the line of step {line.step} follows that of step {before.step}"
        if line.before != link(before):
            return f"step {line.step}: the last column is not the SHA-256 of the line before; the file was edited"
    return ""
