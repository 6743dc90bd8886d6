"""What is true of the state of every run, at any time: what is read from a checkpoint is held to it, and so is what is
written.

So a run cannot leave a checkpoint that nobody reads: where `distbp.training.train` should ever come to such a state,
the run ends before it is written, and the checkpoint before stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.metrics import all_metrics
from distbp.mathematics.optimizers import OPTIMIZERS
from distbp.settings.values import LARGEST
from distbp.training.phases import columns
from distbp.training.state import Checkpoint

METRICS = [tuple(metric.name for metric in metrics) for metrics in all_metrics()]  # of each kind of run


def history_columns(metrics: Sequence[str]) -> list[str]:
    """The columns of metrics.csv, of a run with these metrics."""
    scores = [f"{of}_{name}" for name in ("loss", *metrics) for of in ("train", "validation")]
    return ["epoch", "step", *scores, "learning_rate", "samples_per_second", "seconds", *columns()]


def flaw_of(optimizer: Mapping[str, NDArray[Any]]) -> str:
    """Which vector is not finite; early versions could write such vectors beside a network that is good."""
    wrong = [f"/optimizer/{name}" for name, vector in optimizer.items() if not np.isfinite(vector).all()]
    return f"{wrong[0]} holds values that are not finite" if wrong else ""


def check(state: Checkpoint) -> None:
    """Raises ValueError that names, as in a checkpoint, what is not so."""
    for name, array in _finite(state):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    for name, array in state.optimizer.items():
        if array.shape != state.vector.shape or array.dtype != state.vector.dtype:
            raise ValueError(f"/optimizer/{name} is {array.dtype} {array.shape}")
    for name in OPTIMIZERS[state.config.optimizer].squares:
        if (state.optimizer.get(name, np.zeros(0)) < 0).any():
            raise ValueError(f"/optimizer/{name} holds values below 0; they are means of squares")
    if any((scaling.spread <= 0.0).any() for scaling in (state.problem.input, state.problem.target)):
        raise ValueError("/input/spread or /target/spread holds values that are not above 0")
    _check_labels(state)
    _check_progress(state)
    _check_history(state, history_columns(state.problem.metric_names))


def _finite(state: Checkpoint) -> Iterator[tuple[str, NDArray[Any]]]:
    """What is to be finite, by the names in a checkpoint."""
    problem, parameters = state.problem, state.parameters
    for l in range(2, problem.network.F + 1):
        yield f"/network/layer_{l}/W", parameters.W[l]
        yield f"/network/layer_{l}/b", parameters.b[l]
    for name, vector in state.optimizer.items():
        yield f"/optimizer/{name}", vector
    for group, scaling in (("input", problem.input), ("target", problem.target)):
        yield f"/{group}/shift", scaling.shift
        yield f"/{group}/spread", scaling.spread


def _check_labels(state: Checkpoint) -> None:
    """That the outputs of the network are those of its classes."""
    network, labels = state.problem.network, state.problem.labels
    outputs, loss = network.sizes[network.F], network.loss
    if labels is None and not loss.takes_targets:
        raise ValueError(f"/target/classes is missing; the loss is {loss.name}")
    expected = 2 if loss.is_binary else outputs
    if labels is not None and len(labels) != expected:
        raise ValueError(f"/target/classes holds {len(labels)} labels, expected {expected}")


def _check_progress(state: Checkpoint) -> None:
    for name, number in state.progress.numbers.items():
        if not 0 <= number <= LARGEST:
            raise ValueError(f"/progress/{name} is {number}")
    names, sums = state.problem.sums, state.progress.epoch_sums
    if sums and len(sums) != len(names):
        raise ValueError(f"/progress has {len(sums)} sums, expected {', '.join(names)}")
    for name, number in zip(names[1:], sums[1:], strict=False):  # sums may overflow, and the loss may be below 0
        if number < 0:
            raise ValueError(f"/progress/epoch_{name} is {number}")


def _check_history(state: Checkpoint, expected: list[str]) -> None:
    """That the rows are those of the epochs that are done.  Each row is looked at once: rows do not change.

    Losses and metrics may be anything: there is none of an epoch whose batches were all skipped, and their sums may
    overflow.  The seconds of a phase may be none: older versions did not keep them.
    """
    history, progress = state.history, state.progress
    if list(history) != expected:
        raise ValueError(f"/history has the columns {list(history)}, expected {expected}")
    if history.count != progress.epoch:
        raise ValueError(f"/history does not have {progress.epoch} rows")
    first = max(0, history.checked - 1)  # with the last one that was looked at, to see that steps count up
    new = history.rows[first:]
    if (new["epoch"] != np.arange(first + 1, progress.epoch + 1)).any():
        raise ValueError(f"/history/epoch does not count from 1 to {progress.epoch}")
    steps = new["step"]
    if not ((steps == np.floor(steps)) & (steps > 0) & (steps <= progress.step)).all() or (np.diff(steps) <= 0).any():
        raise ValueError(f"/history/step does not count up to {progress.step}")
    clocks = expected[expected.index("learning_rate") :]  # the last columns
    numbers = new.view(np.float64).reshape(len(new), len(expected))[:, -len(clocks) :]
    is_wrong = np.isinf(numbers)
    is_wrong[:, : -len(columns())] |= np.isnan(numbers[:, : -len(columns())])
    if is_wrong.any():
        name = clocks[int(is_wrong.any(axis=0).argmax())]
        raise ValueError(f"/history/{name} holds values that are not finite")
    history.checked = history.count
