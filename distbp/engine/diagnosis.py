"""Which sample, in which layer, first gives a value that is no finite number: of a batch, or of a split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distbp.data.far_values import FAR, describe, scaled
from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.engine.feed import Feed
from distbp.mathematics.activations import Array
from distbp.mathematics.backprop import Piece, errors, forward, loss_sum, piece_samples
from distbp.mathematics.batches import pieces, shard
from distbp.mathematics.network import Network, Parameters
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.stop import Pulse
from distbp.settings.config import Config


def first_not_finite(
    comm: Communicator,
    config: Config,
    problem: Problem,
    parameters: Parameters,
    training: Split,
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    share: tuple[int, int],
) -> tuple[int | None, str]:
    """The first sample of a batch, by its place in it, and what is not finite of it: "z of layer 3".

    No sample: what it is of the parameters, or "" where every sample by itself gives finite numbers.  `rows`: the batch
    in `training`'s x and y; `share`: the part of it that is at hand on this rank.  All ranks call this.
    """
    network = problem.network
    for l in range(2, network.F + 1):
        for name, values in (("W", parameters.W[l]), ("b", parameters.b[l])):
            if not np.isfinite(values).all():
                return None, f"{name} of layer {l}"
    start, end = share
    longest = max(1, min(piece_samples(network, config.dtype), end - start))
    piece, feed = Piece(network, longest, config.dtype), Feed(problem, training, longest, config.dtype)
    found: tuple[int, str] | None = None
    with np.errstate(all="ignore"):
        for first, last in pieces(start, end, longest):
            part = piece.part(0, last - first)
            feed.fill(part, training.x, training.y, rows[first:last])
            for name, bad in _stages(network, parameters, part):
                if bad.any() and (found is None or first + int(bad.argmax()) < found[0]):
                    found = first + int(bad.argmax()), name
            if found:
                break
    everywhere = [one for one in comm.allgather(found) if one is not None]
    return min(everywhere, key=lambda one: one[0]) if everywhere else (None, "")


def first_row_not_finite(
    comm: Communicator,
    dtype: str,
    problem: Problem,
    parameters: Parameters,
    data: Split,
    pulse: Pulse = lambda phase: None,
) -> str:
    """ "z of layer 2 is not finite for d.h5: test/x, row 7 (…)": the first row of a split of which this is true.

    "" where every row by itself gives finite numbers.  All ranks call this.  Raises DataError, agreed, for rows that
    cannot be read.
    """
    longest = min(piece_samples(problem.network, dtype), len(data))
    piece, feed, rows = Piece(problem.network, longest, dtype), Feed(problem, data, longest, dtype), np.arange(longest)
    start, end = shard(len(data), comm.rank, comm.size)

    def look() -> str:
        for first, last in pieces(start, end, longest):
            pulse("looking for what is not finite")
            part, (x, y) = piece.part(0, last - first), data.read(first, last, end)
            feed.fill(part, x, y, rows[: last - first])
            found = [
                (int(bad.argmax()), name) for name, bad in _on_the_way(problem.network, parameters, part) if bad.any()
            ]
            if found:
                i, name = min(found, key=lambda one: one[0])
                return f"{name} is not finite for {row_in_words(problem, data, first + i, x[i])}"
        return ""

    with np.errstate(all="ignore"):
        everywhere = comm.allgather(agree(comm, look))
    return next(filter(None, everywhere), "")


def row_in_words(problem: Problem, data: Split, row: int, x: Array) -> str:
    """ "d.h5: test/x, row 7"; and its input that is farthest from those of training, where that is far away."""
    values = np.abs(scaled(x[None], problem.input)[0])
    column = int(values.argmax())
    if values[column] <= FAR:
        return data.place(row, "x")
    return describe(data, "x", row, column, float(x[column]), float(values[column]))


def _bad(columns: Array) -> Array:
    return np.asarray(~np.isfinite(columns).all(axis=0))


def _on_the_way(network: Network, parameters: Parameters, piece: Piece) -> Iterator[tuple[str, Array]]:
    """What a sample goes through to L, in order; and for each sample of the piece whether it is not finite."""
    yield "the scaled input", _bad(piece.a[1])
    forward(network, parameters, piece)
    for l in range(2, network.F + 1):
        yield f"z of layer {l}", _bad(piece.z[l])
        yield f"a of layer {l}", _bad(piece.a[l])
    if not np.isfinite(loss_sum(network, piece)):
        yield "L", np.array([not np.isfinite(loss_sum(network, piece.part(i, i + 1))) for i in range(piece.m)])


def _stages(network: Network, parameters: Parameters, piece: Piece) -> Iterator[tuple[str, Array]]:
    """The same, and its way back."""
    yield from _on_the_way(network, parameters, piece)
    errors(network, parameters, piece)
    for l in range(network.F, 1, -1):
        yield f"d of layer {l}", _bad(piece.d[l])
