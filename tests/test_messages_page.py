"""docs/messages.md: the messages that it explains are messages of the program."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [line for line in (ROOT / "docs" / "messages.md").read_text().splitlines() if line.startswith("| `")]
OF_A_LAUNCHER = "(Open MPI)", "(MPICH)"
VARIES = re.compile(r"…|\(.*?\)|\b\w*\d\w*( s\b)?|\b[A-Z_]{3,}\b")  # numbers, names, what stands in brackets


def said(file: Path) -> list[str]:
    """All text that a module may print, with a blank for what is put in."""
    texts = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else " " for part in node.values]
            texts.append("".join(map(str, parts)))
    return texts


@cache
def all_said() -> str:
    """That of all modules; not asked for when tests are collected, which each worker does."""
    return "\n".join(text for file in sorted((ROOT / "distbp").rglob("*.py")) for text in said(file))


@pytest.mark.parametrize("row", [row for row in ROWS if not any(name in row.split("|")[1] for name in OF_A_LAUNCHER)])
def test_the_program_says_it(row: str) -> None:
    message = row.split("|")[1].strip().strip("`")
    parts = [part.strip(" :;,") for part in VARIES.split(message) if part]
    looked_for = [part for part in parts if len(part) > 5]
    assert looked_for, "nothing to look for"
    for part in looked_for:
        assert part in all_said(), part
