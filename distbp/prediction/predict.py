"""Predictions for a split, written by rank 0 block by block: all ranks work on each block.

Where a block could not be written, and the reason may pass, the ranks begin with a new file at the first block: a
system that refuses a write or an fsync may have lost what it was given before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.engine.diagnosis import row_in_words
from distbp.errors import DataError, RunError
from distbp.files.new_file import FAILURES, NewFile, remove_temporary
from distbp.files.output import check_out
from distbp.files.patience import is_passing
from distbp.files.write_failure import why_not_written
from distbp.files.write_patience import failure, written_patiently
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.batches import pieces, shard
from distbp.mathematics.finite import first_not_finite
from distbp.mathematics.network import Network, Parameters
from distbp.prediction.formats import check_format, new_predictions
from distbp.prediction.network_outputs import Outputs, block_samples, blocks, make_outputs, output_dtype, piece_rows
from distbp.prediction.predictions import PredictionFile
from distbp.ranks.communicator import Communicator, agree, on_first
from distbp.ranks.stop import Pulse
from distbp.ranks.written_together import written_together
from distbp.settings.config import Config
from distbp.training.state import Checkpoint


def predict(
    comm: Communicator,
    state: Checkpoint,
    data: Split,
    out: Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[str] = (),
    threads: int = 1,
    advance: Callable[[int], None] = lambda samples: None,
    pulse: Pulse = lambda phase: None,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Writes `out`, in the format that its ending says (see `formats`); it appears when it is complete.

    `threads`: of this rank, for the compiled step.  `advance` is told how many samples more are done, or fewer if they
    are predicted anew.  `pulse` is called again and again; `note` tells the user, on rank 0.  Raises UsageError for
    another ending, RunError, DataError for files that cannot be read any more or rows whose outputs are not finite, or
    what `pulse` raises, agreed by all ranks.
    """
    on_first(comm, lambda: check_out(out, inputs, overwrite=overwrite))
    on_first(comm, lambda: check_format(out))
    outputs = _Outputs(comm, state, data, threads, pulse)
    done = 0

    def attempt() -> None:
        nonlocal done
        file = on_first(comm, lambda: _NewPredictions(out, state, len(data), overwrite=overwrite, note=note))
        with closing(file) if file else nullcontext():
            for first, last in blocks(state.problem.network, len(data)):
                gathered = comm.gather(agree(comm, partial(outputs, first, last)))
                on_first(comm, partial(_write, file, gathered))
                advance(last - first)
                done = last
            on_first(comm, partial(_finish, file))

    def again() -> None:
        nonlocal done
        pulse("predicting")
        advance(-done)
        done = 0
        if comm.rank == 0:
            remove_temporary(out)

    with closing(outputs):
        written_together(comm, attempt, again, note)


class _Outputs:
    """a^F, shape (samples, n_F), of a rank's shard of a block; they are overwritten by those of the next."""

    def __init__(self, comm: Communicator, state: Checkpoint, data: Split, threads: int, pulse: Pulse) -> None:
        dtype, network = state.config.dtype, state.problem.network
        self._threads, self._comm, self._problem, self._data, self._pulse = threads, comm, state.problem, data, pulse
        self._outputs, self._found = room_for_outputs(
            comm, state.problem, state.parameters, state.config, len(data), threads
        )
        self._longest = piece_rows(network, dtype, len(data))

    def __call__(self, first: int, last: int) -> NDArray[Any]:
        start, end = shard(last - first, self._comm.rank, self._comm.size)
        found = self._found[: end - start]
        for i, j in pieces(start, end, self._longest):
            self._pulse("predicting")
            x, _ = self._data.read(first + i, first + j, first + end)
            outputs = found[i - start : j - start]
            is_finite = self._outputs(x, outputs, self._threads)
            bad = None if is_finite else first_not_finite(outputs)
            if bad is not None:
                where = row_in_words(self._problem, self._data, first + i + bad, x[bad])
                raise DataError(f"no finite output for {where}; nothing was written: remove or replace such rows")
        return found

    def close(self) -> None:
        """Ends the threads."""
        self._outputs.close()


def room_for_outputs(
    comm: Communicator,
    problem: Problem,
    parameters: Parameters,
    config: Config,
    N: int,
    threads: int = 1,
    arena: Arena = ALIGNED,
) -> tuple[Outputs, NDArray[Any]]:
    """What computes the outputs of a piece, with room for it, and room for those of a rank's shard of a block."""
    network, dtype = problem.network, config.dtype
    outputs = make_outputs(problem, parameters, config, arena.of("activations"))
    outputs.take_room(piece_rows(network, dtype, N), threads)
    shape = -(-min(N, block_samples(network)) // comm.size), network.sizes[-1]
    return outputs, arena.of("predictions of a block").take(shape, output_dtype(problem.target, dtype))


def sent_bytes(comm: Communicator, network: Network, N: int, found: NDArray[Any]) -> int:
    """Memory that outputs take on their way to rank 0: they are packed, and rank 0 unpacks what it gets."""
    block = min(N, block_samples(network)) * network.sizes[-1] * found.itemsize
    return 0 if comm.size == 1 else 2 * block if comm.rank == 0 else found.nbytes


class _NewPredictions:
    """The file, on rank 0.  Raises RunError, whose `may_pass` says whether to begin with another one."""

    def __init__(self, out: Path, state: Checkpoint, N: int, *, overwrite: bool, note: Callable[[str], None]) -> None:
        self._out, self._note = out, note
        try:
            self._new = NewFile(out, overwrite=overwrite)
        except OSError as error:
            raise _refused(f"{out.parent}: cannot write here", error) from None
        self._file: PredictionFile
        try:
            self._file = new_predictions(out, self._new.descriptor, state.problem, state.config.y, N)
        except BaseException as error:
            with suppress(OSError):
                self._new.close()
            if isinstance(error, FAILURES):
                raise self._refused(error) from None
            raise

    def write(self, blocks: list[NDArray[Any]]) -> None:
        """Adds what the ranks have predicted."""
        try:
            for block in blocks:
                if len(block):
                    self._file.write(block)
        except FAILURES as error:
            raise self._refused(error) from None

    def finish(self) -> None:
        """Puts it in its place."""
        try:
            self._file.close()
            self._new.sync()
        except FAILURES as error:
            raise self._refused(error) from None
        try:
            written_patiently(self._out, self._new.put, self._note, is_anew=False)
        except OSError as error:
            raise RunError(f"{self._out}: cannot be written: {failure(error)}") from None

    def close(self) -> None:
        """Nothing is left of it, where it was not finished."""
        with suppress(*FAILURES):
            self._file.close()
        with suppress(OSError):
            self._new.close()

    def _refused(self, error: Exception) -> RunError:
        return _refused(f"{self._out}: cannot be written", error)


def _refused(what: str, error: Exception) -> RunError:
    refused = RunError(f"{what}: {why_not_written(error)}")
    refused.may_pass = is_passing(error)
    return refused


def _write(file: _NewPredictions | None, blocks: list[NDArray[Any]] | None) -> None:
    assert file is not None
    assert blocks is not None
    file.write(blocks)


def _finish(file: _NewPredictions | None) -> None:
    assert file is not None
    file.finish()
