"""Whether a best.h5 is of the run in whose directory it is: it may have been copied there, or left by another run."""

from __future__ import annotations

from typing import Any

import numpy as np

from distbp.settings.config import FIELDS, flag
from distbp.settings.option import AUTO
from distbp.training.state import Checkpoint

COMPARED = ("step", "train_loss", "validation_loss")  # of the history: rows of epochs that are done do not change
FITTED = ("shuffle_window",)  # options that follow from the number of samples, which --allow-changed-data may change


def why_not_of(best: Checkpoint, state: Checkpoint) -> str:
    """What shows that `best` is of another run than `state`; "" where nothing does.

    Their parameters are not looked at, so that they may be the `marks` of checkpoints.
    """
    return other_network(best, state) or other_option(best, state) or _other_history(best, state)


def other_network(best: Checkpoint, state: Checkpoint) -> str:
    """What shows that the networks, or how their inputs and outputs are to be read, are others; "" if nothing does."""
    its, own = ((one.problem, one.config.dtype) for one in (best, state))
    if its[0].network.describe() != own[0].network.describe() or its[1] != own[1]:
        return (
            f"its network is {its[0].network.describe()} in {its[1]}, that of the run {own[0].network.describe()} in "
            f"{own[1]}"
        )
    for what in ("input", "target"):
        one, other = getattr(its[0], what), getattr(own[0], what)
        if not (np.array_equal(one.shift, other.shift) and np.array_equal(one.spread, other.spread)):
            return f"it scales its {what}s with other numbers than the run"
    return "" if its[0].labels == own[0].labels else "its classes are not those of the run"


def other_option(best: Checkpoint, state: Checkpoint) -> str:
    """The option that may not change in a run and is another one; "" if there is none."""
    for name, field in FIELDS.items():
        its, own = getattr(best.config, name), getattr(state.config, name)
        if not field.metadata["may_change"] and name not in FITTED and its != own and AUTO not in (its, own):
            return f"it was trained with {flag(name)} {_written(its)}, the run with {_written(own)}"
    return ""


def _other_history(best: Checkpoint, state: Checkpoint) -> str:
    """Of the epochs that both have."""
    if not best.progress.epoch or best.progress.epoch_samples:
        return "it is not of the end of an epoch"
    epochs = min(best.progress.epoch, state.progress.epoch)
    for name in COMPARED:
        its, own = (np.asarray(one.history[name][:epochs], np.float64) for one in (best, state))
        different = ~((its == own) | (np.isnan(its) & np.isnan(own)))
        if different.any():
            i = int(different.argmax())
            return f"its {name.replace('_', ' ')} of epoch {i + 1} is {its[i]:.9g}, that of the run {own[i]:.9g}"
    return ""


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
