"""∂L_T/∂w with the same bits on any number of ranks (`--reproducible`).

A step, for a batch of n samples in grains of G (see `distbp.grains`):

1. Each rank: z, a and d of its grains, forward and backward, as in the text.
2. All ranks agree, with one small Allreduce(MAX), on a bound for each layer: D_l ≥ |d^l_j|, A_l ≥ |a^{l-1}_k| and 1,
   over all samples of the batch.  A maximum does not depend on the order.  The same message carries the sums of the
   loss and of the metric of each grain, in a place of its own, and the requests to stop and to save.
3. d^l is multiplied by 2^c, c = b - e, where D_l < 2^e', A_l < 2^e'', e = e' + e'', b = 52 - ⌈log₂ n⌉.  A power of two
   changes no digit.  Now each product a^{l-1}_k d^l_j is below 2^b, and a sum over m samples below m 2^b.
4. Each rank: ∂L/∂W^l, ∂L/∂b^l of each of its grains, by a matrix product, rounded to whole numbers and added up.
5. Allreduce(SUM) of the whole numbers, then division by n 2^c.

Two things make the bits independent of the ranks: the grains, which have the same bits wherever they are worked on
(1, 4), and the sums of whole numbers, which are exact in any order (4, 5; the proof is in `distbp.exact_sum`).  A
matrix product of m samples rounds on the way and may pass m 2^b, but not 2 m 2^b (m times the unit roundoff is far
below 1), so all sums stay within 2n 2^b ≤ 2^53.  b ≥ 24 is required, which is n ≤ 2^28; more is refused.

Accuracy: a grain's ∂L/∂w_jk is moved by at most ½ 2^-c ≤ 2 D_l A_l 2^-b; with n = 1024, b = 42.  In any mode one
float32 product of the size D_l A_l is rounded to 2^-25 of it, and the sums over grains are not rounded here at all: so
the gradient is at least as accurate as that of the plain mode, unless all the products of a weight are smaller than
2^-17 of the layer's largest; such small ones disappear beside larger ones in the float32 sums z^l and d^{l-1} too.
For float64 a second word keeps b more digits.

Everything after this is element by element on numbers that all ranks share (momentum, Adam, weight decay), with
+ - × ÷ √ only, which IEEE 754 rounds in one way on every CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.activations import Array
from distbp.backprop import Piece, errors, forward, loss_sum, sample_bytes
from distbp.batches import pieces, shard
from distbp.communicator import Communicator
from distbp.exact_sum import add_rounded, exponent, total, value, whole_bits, words
from distbp.feed import Feed
from distbp.grains import Grains, grain_count, same_bits, stride
from distbp.network import Parameters, aligned_zeros
from distbp.reduction import Tally
from distbp.run import Run

ROOM_BYTES = 256 * 2**20  # memory for the activations of a rank's grains; those that do not fit are computed twice
TILE = (256, 512)  # rows, columns of ∂L/∂W that are summed over the grains while they are in the L2 cache
CHUNK = TILE[0] * TILE[1]  # whole numbers that are reduced at a time, while they are in that cache
LARGEST_C = {np.dtype(np.float32): 96, np.dtype(np.float64): 960}  # 2^c and n 2^c are numbers of the dtype


class ReproducibleGradient:
    """∂L_B/∂w over the whole batch, in `vector`, on every rank."""

    def __init__(self, run: Run) -> None:
        self._comm, self._problem = run.comm, run.problem
        network, dtype = run.problem.network, np.dtype(run.config.dtype)
        self._network, self._parameters = network, run.state.parameters
        self._grain = min(int(run.config.grain), run.batch_size)
        self._gradient = Parameters(network, aligned_zeros(network.parameter_count, dtype))
        self.vector = self._gradient.vector
        self.finite = True
        self._largest_c = LARGEST_C[dtype]
        self._limit = float(np.finfo(dtype).max) / 4

        most = -(-grain_count(run.batch_size, self._grain) // run.comm.size)  # grains of the rank that has most
        step = stride(self._grain, dtype)
        self._fit = max(1, min(most, ROOM_BYTES // (sample_bytes(network, dtype) * step)))
        self._room = Piece(network, self._fit * step, dtype)
        self._feed = Feed(run.problem, run.training, self._grain, dtype)
        same_bits.cache_clear()  # of a run before, maybe with other BLAS threads
        self._held: dict[tuple[int, ...], Grains] = {}

        self._tiles = list(_tiles(self._gradient))
        largest = max(*(tile.out.size for tile in self._tiles), *network.sizes)
        self._product = aligned_zeros(largest, dtype)
        self._scratch = aligned_zeros(largest, dtype)
        capacity = CHUNK if self._fit >= most else network.parameter_count
        capacity = max(min(capacity, network.parameter_count), largest)
        self._sums = _Sums(run.comm, capacity, dtype)

    def __call__(self, batch: NDArray[np.int64], *, stop: bool, save: bool) -> Tally:
        """Leaves ∂L_B/∂w in `vector`, unless `finite` is False then; returns the tally of all ranks."""
        n, comm = len(batch), self._comm
        first, last = shard(grain_count(n, self._grain), comm.rank, comm.size)
        groups = list(pieces(first, last, self._fit))
        message = _Message(self._network.F, grain_count(n, self._grain))
        message.requests[:] = stop, save
        for group in groups:
            held = self._errors(batch, *group, message)
            for part in held.grains:
                message.bound(part)
        tally = message.agree(comm, n)
        bounds = message.bounds()
        self.finite = all(D * A < self._limit for (D, A) in bounds)  # noqa: SIM300 - and no NaN
        if not (self.finite and isfinite(tally.loss)):
            return tally

        c = [0, 0, *(min(whole_bits(n) - exponent(D) - exponent(A), self._largest_c) for D, A in bounds)]
        if not groups:
            self._add_products([], c, n, first=True)
        for index, group in enumerate(groups):
            if len(groups) > 1:
                held = self._errors(batch, *group)
            for l in range(2, self._network.F + 1):
                held.used.d[l] *= 2.0 ** c[l]
            self._sums.rewind()
            self._add_products(held.grains, c, n, first=index == 0)
        self._sums.reduce()
        return tally

    def _errors(self, batch: NDArray[np.int64], first: int, last: int, message: _Message | None = None) -> Grains:
        """z, a, d of the grains first … last - 1 of the batch; their losses and metrics go into the message."""
        network, grain = self._network, self._grain
        cuts = [(i * grain, min((i + 1) * grain, len(batch))) for i in range(first, last)]
        held = self._grains([end - start for start, end in cuts])
        for (start, end), part in zip(cuts, held.grains, strict=True):
            self._feed.fill(part, batch[start:end])
        forward(network, self._parameters, held)
        if message:
            for i, part in enumerate(held.grains, first):
                message.losses[i] = loss_sum(network, part)
                message.metrics[i] = self._problem.metric_sum(part)
        errors(network, self._parameters, held)
        return held

    def _grains(self, lengths: list[int]) -> Grains:
        key = (len(lengths), lengths[-1])
        if key not in self._held:
            self._held[key] = Grains(self._network, self._room, self._grain, lengths)
        return self._held[key]

    def _add_products(self, grains: list[Piece], c: list[int], n: int, *, first: bool) -> None:
        """Adds ∂L/∂W^l, ∂L/∂b^l of the grains to the sums, tile after tile."""
        for tile in self._tiles:
            l, rows, columns = tile.l, tile.rows, tile.columns
            low_bits = whole_bits(n)
            sums = self._sums.place(tile.out, low_bits, n * 2.0 ** c[l])
            product = self._product[: tile.out.size].reshape(tile.out.shape)
            scratch = self._scratch[: tile.out.size].reshape(tile.out.shape)
            if first and not grains:
                sums.fill(-0.0)  # x + -0 = x, also for x = -0
            for i, part in enumerate(grains):
                if columns is None:
                    np.matmul(part.d[l], part.ones, out=product)  # ∂L/∂b_j^l = d_j^l, summed over the grain
                else:
                    np.matmul(part.d[l][rows], part.a[l - 1][columns].T, out=product)  # ∂L/∂w_jk^l = a_k^{l-1} d_j^l
                add_rounded(product, sums, low_bits, scratch, first=first and i == 0)


@dataclass(frozen=True)
class _Tile:
    """A part of ∂L/∂W^l, or, without columns, ∂L/∂b^l; `out` is the view of the gradient where it belongs."""

    l: int
    rows: slice
    columns: slice | None
    out: Array


def _tiles(gradient: Parameters) -> Iterator[_Tile]:
    """From layer F down, as backpropagation goes."""
    for l in range(len(gradient.W) - 1, 1, -1):
        dW, db = gradient.W[l], gradient.b[l]
        for rows in _even(dW.shape[0], TILE[0]):
            for columns in _even(dW.shape[1], TILE[1]):
                yield _Tile(l, rows, columns, dW[rows, columns])
        yield _Tile(l, slice(0, len(db)), None, db)


def _even(length: int, longest: int) -> list[slice]:
    """[0, length) in parts of about the same size."""
    count = -(-length // longest)
    return [slice(*shard(length, i, count)) for i in range(count)]


class _Message:
    """What the ranks tell each other before the products: one Allreduce(MAX), -inf where a rank has nothing to say."""

    def __init__(self, F: int, grains: int) -> None:
        self._values = np.full(2 * (F + 1) + 2 + 2 * grains, -inf)
        bounds, rest = self._values[: 2 * (F + 1)], self._values[2 * (F + 1) :]
        self._d, self._a = bounds.reshape(2, F + 1)
        self.requests = rest[:2]
        self.losses, self.metrics = rest[2:].reshape(2, grains)

    def bound(self, piece: Piece) -> None:
        """Takes note of the largest |d^l| and |a^{l-1}| of the piece."""
        for l in range(2, len(piece.d)):
            self._d[l] = max(self._d[l], _largest(piece.d[l]))
            self._a[l] = max(self._a[l], _largest(piece.a[l - 1]), 1.0)

    def agree(self, comm: Communicator, n: int) -> Tally:
        """The tally of all ranks."""
        self._values[np.isnan(self._values)] = inf  # MAX and NaN do not go together
        comm.allreduce(self._values, "max")
        losses, metrics, (stop, save) = self.losses.tolist(), self.metrics.tolist(), self.requests.tolist()
        assert -inf not in losses, "samples were lost"
        return Tally(total(losses), n, total(metrics), stop=int(stop), save=int(save))

    def bounds(self) -> list[tuple[float, float]]:
        """D_l, A_l for l = 2 … F."""
        return list(zip(self._d[2:].tolist(), self._a[2:].tolist(), strict=True))


def _largest(array: Array) -> float:
    low, high = float(array.min()), float(array.max())
    return max(high, -low) if isfinite(high) and isfinite(low) else inf


class _Sums:
    """Whole numbers on their way to ∂L_B/∂w: summed tile after tile, then over the ranks, then divided."""

    def __init__(self, comm: Communicator, capacity: int, dtype: DTypeLike) -> None:
        self._comm, self._words = comm, words(dtype)
        self._buffer: NDArray[Any] = aligned_zeros(self._words * capacity, np.float64)
        self._places: list[tuple[NDArray[np.float64], int, Array, float]] = []
        self._used = 0

    def place(self, out: Array, low_bits: int, divisor: float) -> NDArray[np.float64]:
        """Room for the sums that, divided, go to `out`; what is in the way is reduced first."""
        size = self._words * out.size
        if self._used + size > len(self._buffer):
            self.reduce()
        sums = self._buffer[self._used : self._used + size].reshape(self._words, *out.shape)
        self._places.append((sums, low_bits, out, divisor))
        self._used += size
        return sums

    def rewind(self) -> None:
        """The next places are the first ones again."""
        self._places.clear()
        self._used = 0

    def reduce(self) -> None:
        """Sums what is in its place over the ranks, and leaves the quotients where they belong."""
        self._comm.allreduce(self._buffer[: self._used])
        for sums, low_bits, out, divisor in self._places:
            value(sums, low_bits, 1.0 / divisor, out)  # ∂L_T/∂w = (1/n) Σ_i ∂L_i/∂w
        self.rewind()
