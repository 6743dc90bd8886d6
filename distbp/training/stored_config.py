"""The configuration in a checkpoint, which may be of an older version of distbp.

An option that came later is not in an older checkpoint. It is read as its default. So the default of a new option has
to be what runs did before there was the option, and a run of an older version goes on as it began.

An option that this version does not know is refused: it may change what the network computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distbp import __version__
from distbp.errors import UsageError
from distbp.settings.config import FIELDS, Config
from distbp.settings.merged import merge
from distbp.settings.words import shown


def stored_config(values: Mapping[str, Any], writer: str) -> Config:
    """The configuration with these values, which the version `writer` of distbp has stored.  Raises UsageError."""
    unknown = [name for name in values if name not in FIELDS]
    if unknown:
        raise UsageError(
            f"config: unknown option {shown(unknown[0])}: this distbp ({__version__}) does not have it; the file was "
            f"written by distbp {writer}, which can read it"
        )
    return merge(values, "config")
