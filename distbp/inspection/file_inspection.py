"""What is in a file: a data set or a checkpoint, in lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distbp.counted import counted
from distbp.data.data_file import opened
from distbp.data.labels import in_words
from distbp.files.patience import patiently
from distbp.inspection.data_inspection import View, describe_data
from distbp.settings.config import as_dict
from distbp.training import checkpoint
from distbp.training.basis import basis_in_words, facts, is_checkable
from distbp.training.comparison import differences, digest
from distbp.training.run_directory import find_checkpoint
from distbp.training.state import Checkpoint


def describe(name: str, view: View | None = None) -> Iterator[str]:
    """The lines about a file or a run directory; `view`: how a data set is looked at.

    Raises DataError or CheckpointError.
    """
    path = find_checkpoint(name)
    if _is_checkpoint(path):
        yield from _describe_checkpoint(path)
    else:
        yield from describe_data(path, view or View())


def describe_digest(name: str) -> Iterator[str]:
    """The digest of a checkpoint, and which file it is of, as sha256sum prints them."""
    path = find_checkpoint(name)
    yield f"{digest(_read(path).parameters)}  {path}"


def describe_difference(first: str, second: str) -> Iterator[str]:
    """A line for each difference of two checkpoints; none where they hold the same."""
    return differences(_read(find_checkpoint(first)), _read(find_checkpoint(second)))


def _read(path: Path) -> Checkpoint:
    return patiently(lambda: checkpoint.read(path))


def _is_checkpoint(path: Path) -> bool:
    with opened(str(path)) as file:
        return "format" in file.attrs


def _describe_checkpoint(path: Path) -> Iterator[str]:
    state = _read(path)
    network, progress = state.problem.network, state.progress
    yield f"{path}: distbp checkpoint, checksum good"
    if state.flaw:
        yield f"flaw       {state.flaw}: evaluate and predict use its network, and no run can go on from it"
    yield f"progress   epoch {progress.epoch}, step {progress.step}, {counted(progress.samples, 'sample')} seen"
    yield f"network    {network.describe()}; {network.parameter_count} parameters, {state.config.dtype}"
    for l in range(2, network.F + 1):
        W, b = state.parameters.W[l], state.parameters.b[l]
        yield (
            f"  layer {l}  W {W.shape[0]} x {W.shape[1]}, rms {_rms(W):.4g};  b {len(b)}, rms {_rms(b):.4g};  "
            f"σ = {network.sigma(l).name}"
        )
    for what, scaling in (("input", state.problem.input), ("target", state.problem.target)):
        yield f"{what:<11}" + (
            "not scaled" if scaling.is_none else f"{state.config.scale}: {len(scaling.shift)} columns"
        )
    if state.problem.labels is not None:
        yield f"classes    {in_words(state.problem.labels)}"
    if progress.epoch:
        last = {name: values[-1] for name, values in state.history.items()}
        scores = ("loss", *state.problem.metric_names)
        shown = [f"{part}_{of}" for of in scores for part in ("train", "validation")]
        yield "last epoch " + ", ".join(f"{name} {last[name]:.6g}" for name in shown)
    yield f"digest     {digest(state.parameters)}"
    yield f"bits       {_basis(state)}"
    for machine in state.machines:
        yield f"computed   from step {machine['step']} on: {', '.join(facts(machine)).replace(': ', ' ')}"
    yield "config"
    for option, value in as_dict(state.config).items():
        yield f"  {option} = {value}"


def _basis(state: Checkpoint) -> str:
    words = basis_in_words(state.machines, is_reproducible=state.config.reproducible)
    return words if is_checkable(state.machines) else f"{words.removeprefix('the bits ')} what is named here"


def _rms(array: Any) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
