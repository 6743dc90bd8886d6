"""docs/python.md: its commands run, and its lines of Python have the values that stand behind "# →"."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from runs import Runner

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCK = re.compile(r"(?<!-->\n)^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VALUE = re.compile(r"^(?! )(.+?)  # → (.+)$", re.MULTILINE)


def run_python(code: str) -> int:
    """Runs a block as a program of its own, and compares values; returns how many."""
    names: dict[str, Any] = {}
    expected = {line: VALUE.match(line) for line in code.splitlines()}
    count = 0
    for node in ast.parse(code).body:
        part = ast.get_source_segment(code, node)
        assert part is not None
        told = next((found for line, found in expected.items() if found and found[1] == part), None)
        if told is None:
            exec(part, names)
            continue
        assert repr(eval(part, names)) == told[2], part
        count += 1
    return count


def test_the_page_is_right(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runner.directory)
    (runner.directory / "datasets").symlink_to(PAGE.parent.parent / "datasets")
    text = PAGE.read_text(encoding="utf-8")
    compared = 0
    for language, code in BLOCK.findall(text):
        if language == "python":
            compared += run_python(code)
            continue
        for line in code.splitlines():
            done = runner.distbp(*line.removeprefix("distbp ").split())
            assert done.returncode == 0, done.stderr
    assert compared == text.count("# → ") == 28
