"""Values of options, as they are written on the command line or in a file, each checked by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from distbp.errors import UsageError
from distbp.settings.config import FIELDS, Config, flag, kind
from distbp.settings.words import shown

LARGEST = 2**53  # of whole numbers: up to here floating-point numbers have them all


def parse(name: str, text: str) -> Any:
    """The value of an option written on the command line.  Raises UsageError."""
    try:
        match kind(name):
            case "list[int]":
                return [int(part) for part in text.split(",")] if text.strip() else []
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "int | str":
                return text if text == FIELDS[name].metadata["word"] else int(text)
            case _:
                return text
    except ValueError:
        expected = {
            "list[int]": "whole numbers with commas between them, such as 128,64",
            "int": "a whole number",
            "float": "a number",
            "int | str": f'a whole number or "{FIELDS[name].metadata["word"]}"',
        }[kind(name)]
        raise UsageError(f"{flag(name)}: expected {expected}, got {text!r}") from None


def check_each(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The values, each checked by itself.  Raises UsageError for unknown names, wrong types, values out of range."""
    for name in values:
        if name not in FIELDS:
            raise UsageError(f"{origin}: unknown option {shown(name)}{suggestion(name)}")
    return {name: _checked(name, value, origin) for name, value in values.items()}


def suggestion(name: str) -> str:
    """' (did you mean ...?)', or ''"""
    import difflib

    close = difflib.get_close_matches(name[:80].replace("-", "_"), FIELDS, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f"; known are {', '.join(FIELDS)}"


def _checked(name: str, value: Any, origin: str) -> Any:
    where = f"{origin}: {name if origin.endswith('.toml') else flag(name)}"
    if kind(name) == "list[str]" and isinstance(value, str):
        value = [value]
    if kind(name) == "float" and _is_int(value) and abs(value) < 2**53:
        value = float(value)
    good = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": _is_int(value),
        "float": isinstance(value, float),
        "int | str": _is_int(value) or value == FIELDS[name].metadata["word"],
        "list[int]": isinstance(value, list) and all(_is_int(part) for part in value),
        "list[str]": isinstance(value, list) and all(isinstance(part, str) for part in value),
    }[kind(name)]
    if not good:
        none = '; for none write ""' if value is False and kind(name) == "str" else ""
        raise UsageError(f"{where}: expected a value like {Config().__dict__[name]!r}, got {shown(value)}{none}")
    if (value == "" and name in ("out", "x", "y", "split")) or (name == "data" and "" in value):
        raise UsageError(f"{where}: expected a name, got an empty one")
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, str) and not _is_text(part) for part in parts):
        raise UsageError(f"{where}: expected text that can be written as UTF-8, without zeros, got {shown(value)}")
    if any(_is_int(part) and abs(part) > LARGEST for part in parts):
        raise UsageError(f"{where}: expected whole numbers up to 2^53, got {shown(value)}")
    limits = FIELDS[name].metadata
    if limits["choices"] and value not in limits["choices"]:
        raise UsageError(f"{where}: expected one of {', '.join(limits['choices'])}, got {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: expected a finite number, got {shown(value)}")
    if isinstance(value, int | float):
        if limits["low"] is not None and value < limits["low"]:
            raise UsageError(f"{where}: expected at least {limits['low']}, got {shown(value)}")
        if limits["above"] is not None and value <= limits["above"]:
            raise UsageError(f"{where}: expected more than {limits['above']}, got {shown(value)}")
        if limits["below"] is not None and value >= limits["below"]:
            raise UsageError(f"{where}: expected less than {limits['below']:.15g}, got {shown(value)}")
    return value


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
