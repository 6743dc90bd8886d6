"""The configuration of a training run: every option, in the groups that `distbp train --help` shows.

The command line, configuration files (TOML), `config.toml` of a run and the checkpoint's `config` are all made from
the fields of `Config`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from distbp.settings.data_options import DataOptions
from distbp.settings.network_options import NetworkOptions
from distbp.settings.run_options import RunOptions
from distbp.settings.training_options import TrainingOptions


@dataclass
class Config(RunOptions, TrainingOptions, NetworkOptions, DataOptions):  # the fields of the last one come first
    """All that is needed to repeat a run.  Values are checked by `check`; AUTO means: chosen from the data."""

    @property
    def samples_of_a_grain(self) -> int | None:
        """G in the reproducible mode, where it is known, which is not "auto"; else None."""
        return int(self.grain) if self.reproducible else None


FIELDS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Config)}


def kind(name: str) -> str:
    """The type of an option: "str", "int", "float", "bool", "list[str]", "list[int]" or "int | str"."""
    return str(FIELDS[name].type)


def flag(name: str) -> str:
    """learning_rate -> --learning-rate"""
    return "DATA" if name == "data" else "--" + name.replace("_", "-")


def as_dict(config: Config) -> dict[str, Any]:
    """Name -> value, in the order of the fields."""
    return dataclasses.asdict(config)
