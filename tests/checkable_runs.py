"""Prints what some small reproducible runs end with, in JSON; see `test_numerics.py`.

The data are made of whole numbers, so that they are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import numpy as np

import distbp
from distbp.ranks.function_bits import function_bits

COMMON: dict[str, Any] = {"hidden": [9, 5], "epochs": 3, "batch_size": 16, "seed": 5, "progress": False}
# In float64 the last bit of a learning rate or of a power of β is one of the update.
DOUBLE = {"dtype": "float64"}
RUNS: dict[str, dict[str, Any]] = {
    "classes": {**DOUBLE, "schedule": "cosine", "warmup_epochs": 0.5, "optimizer": "adamw", "weight_decay": 0.01},
    "targets": {**DOUBLE, "activation": "softplus", "schedule": "step", "step_epochs": 0.3, "step_factor": 0.7},
    "binary": {"activation": "gelu", "optimizer": "sgd", "momentum": 0.9, "clip_norm": 0.05, "scale": "minmax"},
    "wide": {"hidden": [700, 700], "epochs": 1, "activation": "tanh", "initialization": "he"},
}


def data(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """100 samples with 6 inputs."""
    i = np.arange(600).reshape(100, 6)
    x = (i * i * 7919 % 1009 / 64.0).astype(np.float32)
    y = {"targets": x[:, :2] * x[:, 2:4], "binary": (x.sum(axis=1) > 47).astype(int)}.get(kind, i[:, 1] % 5 % 3)
    return x, y


def results(**options: Any) -> dict[str, str]:
    """For each run a digest of its parameters, of its losses, and of the numbers that scale its data."""
    found = {}
    for name, own in RUNS.items():
        x, y = data(name)
        run = distbp.train((x[:80], y[:80]), validation=(x[80:], y[80:]), **{**COMMON, **own, **options})
        state = run._states["last"]
        numbers = [run.history[column].tolist() for column in ("train_loss", "validation_loss")]
        scaling = [state.problem.input.shift, state.problem.input.spread, state.problem.target.spread]
        rest = hashlib.sha256(repr([numbers, *(one.tolist() for one in scaling)]).encode()).hexdigest()
        found[name] = f"{run.digest} {rest}"
    return found


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    print(json.dumps({"functions": function_bits(), **results(**options)}))
