"""The pages: every command and option that they name exists, and what they quote is there.

`tests/test_docs_run.py` runs what they show.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from pages import PAGES, README, ROOT, blocks

from distbp.cli import cli

CONTEXT = click.Context(cli)
OF_OTHERS = {  # options of launchers, SLURM, pip and the scripts
    "--account",
    "--array",
    "--batch",
    "--bind",
    "--bind-to",
    "--check",
    "--contain",
    "--cpus-per-task",
    "--exclusive",
    "--export",
    "--force-reinstall",
    "--mem",
    "--mpi",
    "--no-binary",
    "--no-cache-dir",
    "--nodes",
    "--ntasks-per-node",
    "--open-mode",
    "--overlap",
    "--oversubscribe",
    "--partition",
    "--qos",
    "--quick",
    "--requeue",
    "--samples",
    "--shm-size",
    "--signal",
    "--time",
    "--wrap",
}
LANGUAGES = {"sh", "console", "python"}
LONGEST_SENTENCE = 35  # words, in README
TYPICAL_SENTENCE = 14
LINES_OF_README = 200


def options_of(command: click.Command) -> set[str]:
    found = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return found | {"--help"}


ALL = {option for name in cli.list_commands(CONTEXT) for option in options_of(cli.get_command(CONTEXT, name))}
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: "-".join(page.relative_to(ROOT).parts))


def calls(text: str) -> list[list[str]]:
    """The words after "distbp" of each call of it in shell code."""
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    words = [part for word in words for part in (shlex.split(word) if "distbp " in word else [word])]
    starts = [i for i, word in enumerate(words) if word == "distbp"]
    found = []
    for start in starts:
        rest = words[start + 1 :]
        end = next(
            (i for i, word in enumerate(rest) if word in ("|", "<", ">", ";", "&&", "done") or ";" in word), None
        )
        if end is not None and rest[end].endswith(";") and len(rest[end]) > 1:
            rest[end], end = rest[end][:-1], end + 1
        found.append(rest[:end])
    return found


@EVERY_PAGE
def test_commands_that_are_shown_exist(page: Path) -> None:
    shown = [text for block in blocks(page) if block.language != "python" for text, _ in block.commands()]
    shown += [
        f"distbp {text}" for text in re.findall(r"`(?:mpirun [^`]*)?distbp ([a-z]+(?: [^`…]*)?)`", page.read_text())
    ]
    for text in shown:
        for words in calls(text):
            if words[0] in ("--help", "--version"):
                continue
            command = cli.get_command(CONTEXT, words[0])
            assert command is not None, text
            named = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert named <= options_of(command), text


@EVERY_PAGE
def test_options_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z]", page.read_text()))
    assert named - ALL - OF_OTHERS == set()


@EVERY_PAGE
def test_commands_stand_in_blocks_that_are_tested(page: Path) -> None:
    """Not in indented code, which `tests/test_docs_run.py` does not see."""
    assert {block.language for block in blocks(page)} <= LANGUAGES
    if page.parent.name != "slurm":
        assert (
            re.findall(r"^    .*\bdistbp [a-z]+ .*$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
            == []
        )


@EVERY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@EVERY_PAGE
def test_files_that_are_named_are_there(page: Path) -> None:
    """`tests/…`, `scripts/…`, `mathematics/….py` and the like, with the lines that are quoted from them."""
    for line in page.read_text().splitlines():
        for name in re.findall(r"`((?:tests|scripts|slurm|datasets|findings)/[\w./-]*)`", line):
            assert (ROOT / name).exists(), name
        modules = re.findall(r"`((?:mathematics|gradient|training|bench|data|files|ranks)/[\w/]+\.py)`", line)
        for name in modules:
            assert (ROOT / "distbp" / name).exists(), name
        if len(modules) == 1 and "|" in line:
            code = (ROOT / "distbp" / modules[0]).read_text()
            for quoted in re.findall(r"`([^`]*[\[(][^`]*)`", line):
                assert quoted in code, quoted


def test_the_readme_quotes_the_backward_pass() -> None:
    quoted = [block for block in blocks(README) if block.language == "python" and not block.is_run]
    assert len(quoted) == 1
    code = (ROOT / "distbp" / "mathematics" / "backprop.py").read_text()
    for line in quoted[0].lines:
        assert line.strip() in code


def sentences(page: Path) -> list[list[str]]:
    """The words of each sentence outside of code and tables."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", page.read_text(), flags=re.S)
    lines = ["" if line.startswith(("    ", "|", "#")) else line for line in text.splitlines()]
    paragraphs = re.split(r"\n\s*\n|\n- ", "\n".join(lines))
    parts = [part for paragraph in paragraphs for part in re.split(r"(?<=[.!?])[*]*\s+(?=\S)", paragraph)]
    return [words for part in parts if len(words := part.split()) > 1]


def test_the_readme_is_short_and_its_sentences_too() -> None:
    lengths = sorted(map(len, sentences(README)))
    assert len(README.read_text().splitlines()) <= LINES_OF_README
    assert lengths[-1] <= LONGEST_SENTENCE
    assert lengths[len(lengths) // 2] <= TYPICAL_SENTENCE
