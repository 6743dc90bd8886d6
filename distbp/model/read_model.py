"""The model in a checkpoint, or in a run directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distbp.errors import CheckpointError
from distbp.files.patience import UnreadError, patiently
from distbp.model.model import Model
from distbp.training import checkpoint
from distbp.training.run_directory import RunDirectory, find_checkpoint, is_directory
from distbp.training.state import Checkpoint

TRIES = 5  # a run that goes on removes its oldest checkpoints while we look


def read_model(path: str) -> Model:
    """The model in a checkpoint; of a run directory that of best.h5, or of its newest good checkpoint.

    Raises CheckpointError or RunError.
    """
    found = find_checkpoint(path)
    if not is_directory(Path(path)) or found.name == RunDirectory(path).best.name:
        return _model(found, _read(found))
    return _model(*_newest_good(path))


def _model(path: Path, state: Checkpoint) -> Model:
    return Model(replace(state, optimizer={}), str(path))


def _read(path: Path) -> Checkpoint:
    return patiently(lambda: checkpoint.read(path))


def _newest_good(directory: str) -> tuple[Path, Checkpoint]:
    run = RunDirectory(directory)
    damaged: dict[Path, str] = {}
    for _ in range(TRIES):
        damaged = {}
        for path in reversed(run.checkpoints()):
            try:
                return path, _read(path)
            except UnreadError:
                raise
            except CheckpointError as error:
                damaged[path] = str(error)
        if all(path.exists() for path in damaged):
            break
    details = "".join(f"\n  {line}" for line in damaged.values())
    raise CheckpointError(f"{directory}: no good checkpoint in this run directory{details}")
