"""The pages: every command that they show has the options that they show, and every option they name is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from distbp.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTEXT = click.Context(cli)
OF_OTHERS = {
    "--oversubscribe",
    "--bind-to",
    "--nodes",
    "--array",
    "--mpi",
    "--no-binary",
    "--signal",
    "--check",
    "--shm-size",
}


def options_of(command: click.Command) -> set[str]:
    found = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return found | {"--help"}


ALL = {option for name in cli.list_commands(CONTEXT) for option in options_of(cli.get_command(CONTEXT, name))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_shown(page: Path) -> None:
    lines = [
        line.strip().removeprefix("$ ") for line in page.read_text().splitlines() if line.startswith(("    ", "$ "))
    ]
    shown = [line.partition("  ")[0] for line in lines if re.match(r"(mpirun .*)?distbp [a-z]", line)]
    for line in shown:
        words = shlex.split(line.replace("[", "").replace("]", "").replace("...", ""))
        words = words[words.index("distbp") + 1 :]
        command = cli.get_command(CONTEXT, words[0])
        assert command is not None, line
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= options_of(command), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_named_are_there(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z]", page.read_text()))
    assert named - ALL - OF_OTHERS == set()
