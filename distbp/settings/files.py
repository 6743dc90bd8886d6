"""Configuration files, and the paths in them."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distbp.errors import UsageError
from distbp.files.output import check_is_name
from distbp.files.patience import read_patiently, why_no_text
from distbp.settings.config import Config, flag
from distbp.settings.words import shown

PATHS = ("data", "stage_to", "out", "trace")


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a configuration file, names with - or _.  Raises UsageError."""
    import tomllib

    try:
        text = read_patiently(path, "utf-8-sig")  # editors of Windows begin a file with a mark of UTF-8
        values = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot read this configuration file: {why_no_text(error)}") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, and of numbers with thousands of digits
        raise UsageError(f"{path}: not a TOML file: {error}") from None
    named = {name.replace("-", "_"): value for name, value in values.items()}
    if len(named) < len(values):
        raise UsageError(f"{path}: an option is given twice, once with - and once with _")
    return named


def with_paths(values: Mapping[str, Any], origin: str, directory: str = "") -> dict[str, Any]:
    """The values, each checked already, where paths that begin with ~ are in a home directory, relative ones in this.

    Raises UsageError for a path with a variable of the shell: who wrote it expects its value, which nobody has put in.
    """

    def path(name: str, value: str) -> str:
        where = f"{origin}: {name}" if origin.endswith(".toml") else flag(name)
        if name != "data":
            check_is_name(value, where)
        if re.search(r"\$[A-Za-z_{]", value) and not os.path.lexists(os.path.join(directory, value)):
            raise UsageError(
                f"{where}: {shown(value)}: a variable of the shell is not replaced here; write the path itself, or "
                "give this option on the command line, in double quotes or none"
            )
        home = os.path.expanduser(value)
        if value.startswith("~") and home == value and not os.path.lexists(os.path.join(directory, value)):
            raise UsageError(f"{where}: {shown(value)}: no such home directory; for a file of that name write ./ first")
        return below(directory, home) if value else value

    return {
        name: value
        if name not in PATHS
        else path(name, value)
        if isinstance(value, str)
        else [path(name, part) for part in value]
        for name, value in values.items()
    }


def below(directory: str, pattern: str) -> str:
    """A path or a pattern of paths, relative to a directory, whose own name is no pattern."""
    whole = os.path.join(directory, pattern)
    if glob.has_magic(pattern) and not os.path.lexists(whole):
        return os.path.join(glob.escape(directory), pattern)
    return whole


def with_absolute_paths(config: Config) -> Config:
    """One that means the same read from anywhere."""
    named = {
        name: getattr(config, name) for name in ("out", "trace")
    }  # data are absolute, and stage_to is of one start
    return dataclasses.replace(config, **{name: os.path.abspath(path) for name, path in named.items() if path})
