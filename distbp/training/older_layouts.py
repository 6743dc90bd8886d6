"""Checkpoints of format versions 2 to 5: /progress and /history were groups, with an array for each value or column.

What is read of one is turned into the arrays that a checkpoint has today.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import CheckpointError
from distbp.training.history import record
from distbp.training.invariants import METRICS, history_columns
from distbp.training.phases import columns as phase_columns

LAST = 5  # the last version of this layout
PROGRESS = {  # the numbers of /progress and their types
    **dict.fromkeys(("epoch", "step", "samples", "skipped"), np.dtype("<i8")),
    **dict.fromkeys(("epoch_loss", "epoch_metric"), np.dtype("<f8")),
    "epoch_samples": np.dtype("<i8"),
    "epoch_seconds": np.dtype("<f8"),
}
SKIPPED = "skipped"  # from version 3 on
PHASES_FROM = 4  # the version from which on there are seconds of phases


def older_names(version: int) -> tuple[set[str], set[str]]:
    """The arrays of /progress, which must be there, and those of /history, which may be."""
    required = {f"/progress/{name}" for name in PROGRESS if name != SKIPPED or version >= 3}
    return required, {f"/history/{name}" for metric in METRICS for name in history_columns(metric)}


def upgraded(path: object, tree: dict[str, NDArray[Any]], progress: np.dtype[Any], version: int) -> None:
    """Puts /progress and /history in the place of the arrays of an older version.  Raises CheckpointError.

    `progress`: the record of /progress, whose last field is the sum of the only metric that these versions had.
    """
    values = np.zeros((), progress)
    for name, dtype in PROGRESS.items():
        where = f"/progress/{name}"
        if name == SKIPPED and version < 3:
            continue
        array = tree.pop(where)
        if array.shape != () or array.dtype != dtype:
            raise CheckpointError(f"{path}: {where} is {array.dtype} {array.shape}, expected {dtype} ()")
        values[(progress.names or ())[-1] if name == "epoch_metric" else name] = array
    found = {name.removeprefix("/history/"): tree.pop(name) for name in list(tree) if name.startswith("/history/")}
    tree["/progress"], tree["/history"] = values, _table(path, found, int(values["epoch"]), version)


def _table(path: object, found: dict[str, NDArray[Any]], epochs: int, version: int) -> NDArray[Any]:
    """The rows of the history; seconds of phases are NaN where a version has not kept them."""
    if any(array.dtype != np.float64 or array.shape != (epochs,) for array in found.values()):
        raise CheckpointError(f"{path}: /history does not have {epochs} rows")
    unknown = phase_columns() if version < PHASES_FROM and found else []
    names = next((order for order in map(history_columns, METRICS) if {*found, *unknown} == {*order}), [])
    if not names and found:
        raise CheckpointError(f"{path}: /history has the columns {sorted(found)}, expected those of its version")
    rows = np.full(epochs if found else 0, np.nan, record(names)) if names else np.empty(0, record([]))
    for name, array in found.items():
        rows[name] = array
    return rows
