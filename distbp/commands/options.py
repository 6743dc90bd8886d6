"""Options that several commands share; most of them are made from the fields of the configuration."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from distbp.errors import UsageError
from distbp.files.patience import is_there, why_no_text
from distbp.settings.config import FIELDS, Config, flag, kind
from distbp.settings.files import PATHS, below, read_toml, with_paths
from distbp.settings.option import DATA, NETWORK, RUN, TRAINING
from distbp.settings.values import check_each, parse

CONFIG_FILE = "distbp.toml"
FIRST, OTHER = "Most used", "Other"
HEADINGS = (DATA, NETWORK, TRAINING, RUN)


class Grouped(click.Command):
    """A command whose help lists its options under headings.

    `first`: names of the options that a new user needs. They come first, in this order. `headings`: a heading and the
    names of its options. The other options have the headings of the configuration.
    """

    def __init__(
        self,
        *arguments: Any,
        first: tuple[str, ...] = (),
        headings: Mapping[str, tuple[str, ...]] | None = None,
        **words: Any,
    ) -> None:
        super().__init__(*arguments, **words)
        self._first, self._headings = first, headings or {}

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in (FIRST, *self._headings, *HEADINGS, OTHER)}
        options = [parameter for parameter in self.get_params(context) if isinstance(parameter, click.Option)]
        parameters = {option.name or "": option for option in options}
        for name in (*self._first, *(name for name in parameters if name not in self._first)):
            record = parameters[name].get_help_record(context)
            if record:
                sections[self._heading(name)].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def _heading(self, name: str) -> str:
        if name in self._first:
            return FIRST
        for heading, names in self._headings.items():
            if name in names:
                return heading
        return FIELDS[name].metadata["group"] if name in FIELDS else OTHER


def config_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds an option for each of these fields of `Config`; without names, for all of them except DATA."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(FIELDS):
            if name in names or (not names and name != "data"):
                function = _option(name)(function)
        return function

    return add


def _option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    limits = FIELDS[name].metadata
    words: dict[str, Any] = {"default": None, "help": f"{limits['help']}  [default: {_shown(getattr(Config(), name))}]"}
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


def _shown(default: Any) -> str:
    """A default as a user would write it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, list):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default) or '""'


def _checked(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """The value of an option that `train` has, too. Raises UsageError outside the limits of `train`."""
    assert parameter.name
    return float(check_each({parameter.name: value}, "command line")[parameter.name])


def _like_train(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds an option of `train` that is a number, with its help, default and limits."""
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
    """Returns the options that were given, the place where the last of them were given, and notes for the user.

    Options come from the configuration file and from the command line, which wins. `read_default`: without DATA and
    `config_file`, read distbp.toml of this directory, if there is one. `several`: other ranks read the same file, so it
    must not be a pipe. Raises UsageError.
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
    """Raises UsageError for a file that is not the same for all processes: a pipe, a descriptor, a device."""
    own = os.path.abspath(file).startswith(("/dev/", "/proc/")) and not str(file).startswith("/dev/shm/")
    try:
        mode = os.stat(file).st_mode
    except OSError:  # read_toml says why
        mode = stat.S_IFREG
    if own or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageError(
            f"--config {file}: a pipe, a descriptor or a device is not the same for all ranks; write it to a file that "
            "all of them see"
        )


def _absolute(file: str) -> str:
    return os.path.normpath(file if os.path.isabs(file) else below(os.getcwd(), file))
