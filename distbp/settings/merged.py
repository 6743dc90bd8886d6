"""A configuration made of values: of defaults and what was given, or of a stored one and what was given again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distbp.errors import UsageError
from distbp.settings.config import FIELDS, Config, as_dict, flag
from distbp.settings.option import AUTO
from distbp.settings.rules import check
from distbp.settings.values import check_each


def merge(values: Mapping[str, Any], origin: str) -> Config:
    """The configuration with these values in place of the defaults; `origin` says where they came from.

    Raises UsageError for unknown names, wrong types, values out of range and options that contradict one another.
    """
    config = Config(**check_each(values, origin))
    check(config)
    return config


def resume(stored: Config, given: Mapping[str, Any], origin: str) -> Config:
    """The configuration of a run that goes on: the stored one, with what was given again and may change.

    Raises UsageError that names every given option that differs and may not.
    """
    given = {  # "auto" is what the run has chosen, but where it may choose again
        name: value for name, value in given.items() if value != AUTO or name not in FIELDS or _may_change(name)
    }
    given = check_each(given, origin)
    wrong = [
        f"{flag(name)}: the run has {getattr(stored, name)!r}, given was {value!r}"
        for name, value in given.items()
        if value != getattr(stored, name) and not _may_change(name)
    ]
    if wrong:
        may = ", ".join(flag(name) for name in FIELDS if _may_change(name))
        raise UsageError(
            "--resume: these options differ from the run's and cannot change in mid-run:\n  "
            + "\n  ".join(wrong)
            + f"\nleave them out, or start another run with another --out (these may change: {may})"
        )
    return merge({**as_dict(stored), **given}, origin)


def _may_change(name: str) -> bool:
    return bool(FIELDS[name].metadata["may_change"])
