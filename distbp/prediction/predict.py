"""Predictions for a split, written by rank 0 block by block: all ranks work on each block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import unscaled_output
from distbp.data.split import Split
from distbp.errors import RunError
from distbp.files.new_file import FAILURES, check_out, reason, replace_synced, temporary_name
from distbp.gradient.feed import Feed
from distbp.mathematics.backprop import Piece, forward, piece_samples
from distbp.mathematics.batches import pieces, shard
from distbp.prediction.csv_predictions import CSVPredictions
from distbp.prediction.hdf5_predictions import HDF5Predictions
from distbp.prediction.predictions import PredictionFile
from distbp.ranks.communicator import Communicator, agree, on_first
from distbp.training.checkpoint import Checkpoint

BLOCK, BLOCK_OUTPUTS = 65536, 2**22  # samples, and outputs, that are predicted before they are written, at most


def predict(
    comm: Communicator,
    state: Checkpoint,
    data: Split,
    out: Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[str] = (),
    advance: Callable[[int], None] = lambda samples: None,
) -> None:
    """Writes `out`, CSV where its name ends so, else HDF5; it appears when it is complete.

    Raises RunError, or DataError for files that cannot be read any more, agreed by all ranks.
    """
    on_first(comm, lambda: check_out(out, inputs, overwrite=overwrite))
    temporary = temporary_name(out)
    outputs = _Outputs(comm, state, data)
    file: PredictionFile | None = None
    try:
        file = on_first(comm, lambda: _create(out, temporary, state, len(data)))
        for first, last in pieces(0, len(data), max(1, min(BLOCK, BLOCK_OUTPUTS // state.problem.network.sizes[-1]))):
            blocks = comm.gather(agree(comm, partial(outputs, first, last)))
            on_first(comm, partial(_write, out, file, blocks))
            advance(last - first)
        on_first(comm, partial(_finish, out, file, temporary))
    finally:
        if file is not None:
            with suppress(*FAILURES):
                file.close()
            with suppress(OSError):
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
            self._feed.fill(piece, *self._data.read(i, j, first + end), self._rows[: j - i])
            forward(network, self._parameters, piece)
            found.append(unscaled_output(self._problem, piece.a[network.F]).copy())
        return np.concatenate(found) if found else np.empty((0, network.sizes[-1]), self._piece.y.dtype)


def _create(out: Path, temporary: Path, state: Checkpoint, N: int) -> PredictionFile:
    try:
        if out.name.lower().endswith(".csv"):
            return CSVPredictions(temporary, state.problem, state.config.y)
        return HDF5Predictions(temporary, state.problem, N)
    except OSError as error:
        raise RunError(f"{temporary.parent}: cannot write here: {reason(error)}") from None


def _write(out: Path, file: PredictionFile | None, blocks: list[NDArray[Any]] | None) -> None:
    assert file is not None
    assert blocks is not None
    try:
        file.write(np.concatenate(blocks))
    except FAILURES as error:
        raise RunError(f"{out}: cannot be written: {reason(error)}") from None


def _finish(out: Path, file: PredictionFile | None, temporary: Path) -> None:
    assert file is not None
    try:
        file.close()
        replace_synced(temporary, out)
    except FAILURES as error:
        raise RunError(f"{out}: cannot be written: {reason(error)}") from None
