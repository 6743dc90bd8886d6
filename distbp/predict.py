"""Predictions for a split, written by rank 0 block by block: all ranks work on each block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.backprop import Piece, forward, piece_samples
from distbp.batches import pieces, shard
from distbp.checkpoint import Checkpoint
from distbp.communicator import Communicator, agree, on_first
from distbp.data import Split
from distbp.errors import RunError
from distbp.feed import Feed
from distbp.labels import to_array
from distbp.new_file import check_out, replace_synced, temporary_name
from distbp.problem import Problem, unscaled_output

BLOCK = 65536  # samples that are predicted before they are written


def predict(
    comm: Communicator,
    state: Checkpoint,
    data: Split,
    out: Path,
    *,
    overwrite: bool = False,
    inputs: tuple[str, ...] = (),
    advance: Callable[[int], None] = lambda samples: None,
) -> None:
    """Writes `out` (HDF5), which appears when it is complete.  Raises RunError.

    For a classifier: `class` (N,), labels; `probability` (N, K); and `classes` (K,), the labels of its columns.  For
    targets: `y` (N, n_F), in their units.
    """
    on_first(comm, lambda: check_out(out, inputs, overwrite=overwrite))
    temporary = temporary_name(out)
    outputs = _Outputs(comm, state, data)
    try:
        file = on_first(comm, lambda: _create(temporary))
        for first, last in pieces(0, len(data), BLOCK):
            block = agree(comm, partial(outputs, first, last))
            blocks = comm.gather(block)

            def write(first: int = first, blocks: list[NDArray[Any]] | None = blocks) -> None:
                if file is not None and blocks is not None:
                    _write(out, file, state.problem, len(data), first, np.concatenate(blocks))

            on_first(comm, write)
            advance(last - first)
        on_first(comm, lambda: _finish(file, temporary, out))
    finally:
        if comm.rank == 0:
            temporary.unlink(missing_ok=True)


class _Outputs:
    """a^F, shape (samples, n_F), of a rank's shard of a block."""

    def __init__(self, comm: Communicator, state: Checkpoint, data: Split) -> None:
        dtype, network = state.config.dtype, state.problem.network
        self._comm, self._problem, self._parameters = comm, state.problem, state.parameters
        longest = min(piece_samples(network, dtype), len(data))
        self._data, self._feed, self._rows = data, Feed(state.problem, data, longest, dtype), np.arange(longest)
        self._piece = Piece(network, longest, dtype)

    def __call__(self, first: int, last: int) -> NDArray[Any]:
        start, end = shard(last - first, self._comm.rank, self._comm.size)
        network, found = self._problem.network, []
        for i, j in pieces(first + start, first + end, self._piece.m):
            piece = self._piece.part(0, j - i)
            self._feed.fill(piece, *self._data.read(i, j), self._rows[: j - i])
            forward(network, self._parameters, piece)
            found.append(unscaled_output(self._problem, piece.a[network.F]).copy())
        return np.concatenate(found) if found else np.empty((0, network.sizes[-1]), self._piece.y.dtype)


def _create(temporary: Path) -> h5py.File:
    try:
        return h5py.File(temporary, "x", locking=False)
    except OSError as error:
        raise RunError(f"{temporary.parent}: cannot write here: {error}") from None


def _write(out: Path, file: h5py.File, problem: Problem, N: int, first: int, a: NDArray[Any]) -> None:
    if problem.labels is None:
        columns = {"y": a}
    elif a.shape[1] == 1:
        labels = to_array(problem.labels)
        columns = {"class": labels[(a[:, 0] > 0.5).astype(np.int64)], "probability": np.hstack([1.0 - a, a])}
    else:
        columns = {"class": to_array(problem.labels)[a.argmax(axis=1)]}
        columns["probability" if problem.network.output_activation.name == "softmax" else "output"] = a
    try:
        if problem.labels is not None and first == 0:
            file.create_dataset("classes", data=_stored(to_array(problem.labels)), track_times=False)
        for name, values in columns.items():
            values = _stored(values)
            if name not in file:
                file.create_dataset(name, (N, *values.shape[1:]), values.dtype, track_times=False)
            file[name][first : first + len(values)] = values
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(f"{out}: cannot be written: {error}") from None


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Strings marked as UTF-8."""
    return values.astype(h5py.string_dtype("utf-8", values.itemsize)) if values.dtype.kind == "S" else values


def _finish(file: h5py.File | None, temporary: Path, out: Path) -> None:
    if file is None:
        return
    try:
        file.close()
        replace_synced(temporary, out)
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(f"{out}: cannot be written: {error}") from None
