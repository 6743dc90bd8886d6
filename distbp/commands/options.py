"""Options of several commands, made from the fields of the configuration."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from distbp.config import FIELDS, PATHS, Config, below, check_each, flag, kind, parse, read_toml, with_paths
from distbp.errors import UsageError
from distbp.files.patience import is_there, why_no_text

CONFIG_FILE = "distbp.toml"


class Grouped(click.Command):
    """A command whose help lists its options under the headings of the configuration."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """One section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record:
                field = FIELDS.get(parameter.name or "")
                sections.setdefault(field.metadata["group"] if field else "Other", []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def config_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for each of these fields of `Config`; without names for all, but DATA."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(FIELDS):
            if name in names or (not names and name != "data"):
                function = _option(name)(function)
        return function

    return add


def _option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    limits, default = FIELDS[name].metadata, getattr(Config(), name)
    if isinstance(default, list):
        default = ",".join(map(str, default))
    words: dict[str, Any] = {"default": None, "help": limits["help"], "show_default": str(default) or '""'}
    match kind(name):
        case "bool":
            return click.option(f"{flag(name)}/--no-{flag(name)[2:]}", name, **words)
        case "int":
            words["type"] = click.INT
        case "float":
            words["type"] = click.FLOAT
        case "str" if limits["choices"]:
            words["type"] = click.Choice(limits["choices"])
        case "list[int]" | "int | str":
            words["metavar"] = "N,N,..." if kind(name) == "list[int]" else f"N|{limits['word']}"
    return click.option(flag(name), name, **words)


def _checked(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """An option that `train` has too, within the same limits."""
    assert parameter.name
    return float(check_each({parameter.name: value}, "command line")[parameter.name])


def _like_train(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A number that `train` takes too, with its help, default and limits."""
    return click.option(
        flag(name),
        type=click.FLOAT,
        default=getattr(Config, name),
        show_default=True,
        callback=_checked,
        help=FIELDS[name].metadata["help"],
    )


memory_option = _like_train("memory")
stall_option = _like_train("stall_minutes")
trust_links_option = click.option("--trust-links", is_flag=True, help=FIELDS["trust_links"].metadata["help"])


def given_options(
    data: tuple[str, ...],
    config_file: Path | None,
    options: dict[str, Any],
    *,
    several: bool,
    read_default: bool = True,
) -> tuple[dict[str, Any], str, list[str]]:
    """The options that were given, in the file or on the command line, where from, and what to tell the user.

    Without DATA and a file, that of this directory is read, where there is one: `read_default`.  `several`: so do other
    ranks, and all of them read the file.
    """
    origin, notes = "command line", []
    given: dict[str, Any] = {}
    if read_default and config_file is None and not data and _is_default_there():
        config_file = Path(CONFIG_FILE)
        notes.append(f"reading {CONFIG_FILE} of this directory, because no DATA was given")
    if config_file:
        if several:
            _check_for_all(config_file)
        found = check_each(read_toml(config_file), str(config_file))
        directory = os.path.dirname(config_file)
        given.update(with_paths(found, str(config_file), directory))
        if directory and any(given[name] != found[name] for name in PATHS if name in given):
            notes.append(f"paths in {config_file} are relative to its directory, {directory}")
    typed = {
        name: parse(name, value) if isinstance(value, str) else value
        for name, value in {**options, "data": list(data) or None}.items()
        if value is not None
    }
    given.update(with_paths(check_each(typed, origin), origin))
    if given.get("data"):
        given["data"] = [_absolute(file) for file in given["data"]]
    return given, origin, notes


def _is_default_there() -> bool:
    """Raises UsageError where that cannot be seen: the digits are no substitute for a file that is there."""
    try:
        return is_there(Path(CONFIG_FILE))
    except OSError as error:
        raise UsageError(f"{CONFIG_FILE}: cannot read this configuration file: {why_no_text(error)}") from None


def _check_for_all(file: Path) -> None:
    """Raises UsageError for what differs from process to process: a pipe, which one of them empties, a descriptor."""
    own = os.path.abspath(file).startswith(("/dev/", "/proc/")) and not str(file).startswith("/dev/shm/")
    try:
        mode = os.stat(file).st_mode
    except OSError:  # who reads it says why
        mode = stat.S_IFREG
    if own or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageError(
            f"--config {file}: a pipe, a descriptor or a device is not the same for all ranks; write it to a file that "
            "all of them see"
        )


def _absolute(file: str) -> str:
    return os.path.normpath(file if os.path.isabs(file) else below(os.getcwd(), file))
