"""Optimizers, one in a file: each module of this package has its rule as OPTIMIZER, and is found by being here."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from distbp.mathematics.optimizer import Optimizer

__all__ = ["OPTIMIZERS", "Optimizer", "make_optimizer"]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.name: rule
    for rule in (import_module(f"{__name__}.{module.name}").OPTIMIZER for module in iter_modules(__path__))
}


def make_optimizer(name: str, **options: Any) -> Optimizer:
    """The optimizer of this name, with those of the options that it takes; others may be given, too."""
    rule = OPTIMIZERS[name]
    return rule(**{option: options[option] for option in rule.options()})
