"""The pages as a reader meets them: README, docs/ and slurm/, cut into blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "slurm" / "README.md"]
REMARK = re.compile(r"<!-- not run: .+ -->")  # stands before a block; a reader does not see it


@dataclass(frozen=True)
class Block:
    """Code between two fences.

    `language` is "sh", "python", or "console": commands after "$ ", each followed by what it prints.
    """

    page: Path
    line: int
    language: str
    lines: list[str]
    is_run: bool

    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands of a block for the shell, each with the lines that the page says it prints."""
        found: list[tuple[str, list[str]]] = []
        for line in self.lines:
            if self.language == "console" and not line.startswith("$ "):
                found[-1][1].append(line)
            elif found and (found[-1][0].endswith("\\") or (self.language == "sh" and is_inside(line, found[-1][0]))):
                found[-1] = (f"{found[-1][0]}\n{line}", [])
            else:
                found.append((line.removeprefix("$ ") if self.language == "console" else line, []))
        return found


def is_inside(line: str, before: str) -> bool:
    """Whether a line goes on with a loop that was begun before it."""
    return line.startswith(" ") or (line.startswith("done") and before.startswith(("while", "for")))


def blocks(page: Path) -> list[Block]:
    """All code between fences."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    inside: list[str] | None = None
    start = 0
    for number, line in enumerate(lines):
        if line.startswith("```") and inside is None:
            inside, start = [], number
        elif line.startswith("```") and inside is not None:
            is_run = not REMARK.fullmatch(lines[start - 1])
            found.append(Block(page, start + 1, lines[start].removeprefix("```"), inside, is_run))
            inside = None
        elif inside is not None:
            inside.append(line)
    return found
