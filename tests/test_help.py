"""`distbp help`: the pages in the terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from runs import LIMIT, Runner, check_error

from distbp.cli import cli
from distbp.pages.plain_text import plain_text
from distbp.pages.topics import topics

DISTBP = [sys.executable, "-m", "distbp"]


def test_the_topics_are_the_pages(runner: Runner) -> None:
    shown = runner.afresh("help").stdout
    for file in (Path(__file__).parent.parent / "docs").glob("*.md"):
        assert f"\n  {file.stem} " in shown
    assert "\n  slurm " in shown
    assert "distbp help" in runner.distbp("--help").stdout


def test_a_page_starts_neither_mpi_nor_numpy_nor_hdf5(runner: Runner) -> None:
    result = runner.distbp("help", "data", PYTHONPROFILEIMPORTTIME="1")
    assert result.stdout.startswith("Data")
    for library in ("numpy", "h5py", "mpi4py"):
        assert not re.search(rf"\b{library}\b", result.stderr)  # `deferred_numpy` is another


def test_an_unknown_topic(runner: Runner) -> None:
    check_error(runner.distbp("help", "dta"), 2, "'dta' is not a topic. The topics are", "data", "slurm")


def test_the_name_of_a_command(runner: Runner) -> None:
    shown = runner.distbp("help", "gradcheck").stdout
    assert shown == runner.distbp("gradcheck", "--help").stdout
    assert shown.startswith("Usage: distbp gradcheck")


@pytest.mark.parametrize("columns", [50, 80])
def test_it_is_as_wide_as_the_terminal(runner: Runner, columns: int) -> None:
    lines = runner.distbp("help", "data", COLUMNS=str(columns)).stdout.splitlines()
    filled = [line for line in lines if not line.startswith("    ")]  # code keeps its lines
    assert columns - 5 < max(map(len, filled)) <= columns


def test_a_reader_that_goes(runner: Runner) -> None:
    """`distbp help slurm | head -1` ends without a word."""
    process = subprocess.Popen([*DISTBP, "help", "slurm"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(LIMIT)


def test_a_terminal_has_a_pager(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho this is the pager\ncat\n")
    pager.chmod(0o755)
    leader, follower = pty.openpty()
    environment = {**os.environ, "PAGER": str(pager), "TERM": "xterm"}
    process = subprocess.Popen(
        [*DISTBP, "help", "data"], stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # the terminal is gone when the program ends
        pass
    os.close(leader)
    assert process.wait(LIMIT) == 0, shown
    assert shown.startswith(b"this is the pager"), shown
    assert b"Missing values" in shown


@pytest.mark.parametrize("page", topics(), ids=lambda page: page.name)
@pytest.mark.parametrize("width", [40, 80])
def test_all_words_of_a_page_are_shown(page: object, width: int) -> None:
    """Nothing is lost between the file and the terminal, and no marks are left."""
    text = page.text()  # type: ignore[attr-defined]
    shown = plain_text(text, width)
    assert "```" not in shown
    assert not re.search(r"\*\*\w", shown)
    assert "<!--" not in shown
    plain = [word for word in re.sub(r"<!--.*?-->", "", text).split() if word.isalpha() and word.isascii()]
    seen = {word.rstrip(":") for word in shown.split()}
    assert {word for word in plain if word not in seen} == set()


def test_the_layout() -> None:
    page = """# A title: `x`
<!-- a remark -->
Some words with `--an option` and a [link](data.md), **bold** and *not so*,
and [another](https://example.org/a).

- one
  more
- two `a * b * c`

| a | b \\| c |
|---|---|
| 1 | `x` |

```sh
distbp help   # as it is
```
"""
    assert (
        plain_text(page, 60)
        == """A title: x
==========

Some words with --an option and a link (distbp help data),
bold and not so, and another (https://example.org/a).

- one more
- two a * b * c

a  b | c
--------
1  x

    distbp help   # as it is
"""
    )


def help_of(name: str) -> str:
    """What `distbp NAME --help` prints on a terminal of 80 columns."""
    group = click.Context(cli, info_name="distbp")
    command = cli.commands[name]
    with click.Context(command, group, name, terminal_width=80) as context:
        return command.get_help(context)


@pytest.mark.parametrize("name", list(cli.commands))
def test_the_help_of_a_command_is_readable(name: str) -> None:
    """It fits, a summary fits into the list of commands, no brackets are in brackets, and an option has a sentence."""
    shown = help_of(name)
    too_long = [line for line in shown.splitlines() if len(line) > 80]
    assert [line for line in too_long if not re.fullmatch(r"  --[a-z-]+ \[\S+\]", line)] == []  # a choice is not broken
    assert "..." not in cli.commands[name].get_short_help_str(60)
    assert "[default: (" not in shown
    for option in cli.commands[name].params:
        if isinstance(option, click.Option) and option.name != "help":
            words = re.sub(r"  \[default: .*\]$", "", option.help or "")
            assert re.search(r"[.)]$", words), option.name
            assert "([" not in words
            assert not re.search(r"\([^)]*\(", words), option.name


@pytest.mark.parametrize("name", ["import", "train", "bench"])
def test_what_a_new_user_needs_comes_first(name: str) -> None:
    headings = re.findall(r"^([A-Z][A-Za-z ]+):$", help_of(name), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Exit codes") == "Most used"
    assert headings[-1] == "Other"
