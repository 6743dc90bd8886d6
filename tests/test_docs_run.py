"""The pages: every command that they show runs, and prints what they say it prints.

All commands run in one directory, page after page, as a reader might try them: README first. A command that stands on
several pages runs once. Numbers are not compared, because speeds, digests and last digits depend on the machine.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forks
from pages import PAGES, ROOT, Block, blocks
from runs import BIN, LIMIT, environment, rank_forks

NUMBER = re.compile(r"[0-9a-f]{64}|(\d[\d.,]*(e[+-]\d+)?)")
TOO_SLOW = "before the first step; run the same command again"  # --time-limit on a machine with much else to do


def pattern(line: str) -> str:
    """A line without its numbers and without what follows from them: plurals, and the width of columns."""
    return re.sub(r"\s+", " ", re.sub(r"(# [a-z]+)s\b", r"\1", NUMBER.sub("#", line))).strip()


class Reader:
    """Tries what the pages show; remembers what has been tried."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        kept = environment(
            PATH=os.pathsep.join((str(rank_forks().bin), str(BIN), os.environ["PATH"])), TMPDIR=str(directory)
        )
        self._environment = {name: value for name, value in kept.items() if not name.endswith("_NUM_THREADS")}
        self._tried: dict[str, subprocess.CompletedProcess[str]] = {}
        (directory / "datasets").symlink_to(ROOT / "datasets")
        self._forks = Forks(directory, self._environment)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *what: object) -> None:
        self._forks.__exit__(*what)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of the shell, both outputs together."""
        command = command.replace("\\\n", " ")
        if command not in self._tried:
            is_plain = command.startswith("distbp ") and not set(";|<>$*") & set(command)
            self._tried[command] = (
                self._forks.run(*shlex.split(command, comments=True))
                if is_plain
                else self._start(["bash", "-c", command])
            )
        return self._tried[command]

    def python(self, lines: list[str]) -> subprocess.CompletedProcess[str]:
        """A block of Python."""
        return self._forks.run("python", "\n".join(lines))

    def _start(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
        )


def faults(reader: Reader, block: Block) -> Iterator[str]:
    """What is not as the page says."""
    where = f"{block.page.name}:{block.line}"
    if block.language == "python":
        done = reader.python(block.lines)
        if done.returncode:
            yield f"{where}: {done.stdout}"
        return
    for command, said in block.commands():
        done = reader.run(command)
        if done.returncode:
            yield f"{where}: {command}: exit code {done.returncode}: {done.stdout}"
            continue
        if TOO_SLOW in done.stdout:
            continue
        printed = iter([pattern(line) for line in done.stdout.splitlines()])
        for line in filter(lambda line: line.strip() not in ("", "..."), said):
            if not any(pattern(line) == other for other in printed):  # in this order
                yield f"{where}: {command}: it does not print {line!r}, but\n{done.stdout}"
                break


@pytest.mark.one_mpi
@pytest.mark.timeout(600)  # it takes less than 20 s where nothing else runs
def test_what_the_pages_show_is_what_happens(tmp_path: Path) -> None:
    if not (BIN / "mpirun").exists():
        pytest.skip("no mpirun beside this Python (pip install mpich)")
    shown = [block for page in PAGES for block in blocks(page) if block.is_run]
    with Reader(tmp_path) as reader:
        assert [fault for block in shown for fault in faults(reader, block)] == []


def test_a_wrong_page_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo 12 samples\n13 samples\n$ echo a\nb\n$ false\n```\n\n```python\n1 / 0\n```\n")
    words = ["it does not print 'b'", "exit code 1", "ZeroDivisionError"]
    with Reader(tmp_path) as reader:
        found = [fault for block in blocks(page) for fault in faults(reader, block)]
    assert len(found) == len(words)
    assert all(word in fault for word, fault in zip(words, found, strict=True))
