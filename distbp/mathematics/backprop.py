"""Backpropagation, as in the text.

m samples are worked on at once.  In the equations a sample is a column: a[l], z[l] and d[l] have the shape (n_l, m).
In memory each sample is one contiguous row, the columns are a transposed view of that, which costs BLAS nothing and
lets rows of a data set be copied straight into a[1].  Only the outputs for classes lie in memory as they are written,
a contiguous row for each class: they are few, and sums over them (softmax, cross-entropy) are then sums of long rows.

The sum over the samples of a shard is not written out: in `d[l] @ a[l - 1].T` the matrix product does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from distbp.mathematics.activations import Array
from distbp.mathematics.arena import ALIGNED, CACHE_LINE, Arena
from distbp.mathematics.network import Network, Parameters

PIECE_BYTES = 64 * 2**20  # memory for the activations of a piece
PIECE_SAMPLES = 1024  # more rows do not make the matrix products faster


class Piece:
    """Room for the a[l], z[l], d[l] of m samples, and their y: every product writes here, nothing is allocated later.

    a[1] is filled by the caller, and y, shape (n_F, m): targets, or ones at the class.
    """

    def __init__(self, network: Network, m: int, dtype: DTypeLike, arena: Arena = ALIGNED) -> None:
        n, F = network.sizes, network.F
        self.m = m
        self.a: list[Any] = [None, _columns(arena.take(n[1] * m, dtype), n[1], m)]
        self.z: list[Any] = [None, None]
        self.d: list[Any] = [None, None]
        self.s: list[Any] = [None, None]
        scratch = arena.take(max(n[2:F], default=0) * m, dtype)
        for l in range(2, F):
            for arrays in (self.a, self.z, self.d):
                arrays.append(_columns(arena.take(n[l] * m, dtype), n[l], m))
            self.s.append(_columns(scratch[: n[l] * m], n[l], m))
        for arrays in (self.a, self.z, self.d, self.s):
            arrays.append(outputs(network, m, dtype, arena))
        self.y: Any = outputs(network, m, dtype, arena)
        self.ones = arena.take(m, dtype)
        self.ones.fill(1.0)

    @property
    def grains(self) -> list[Piece]:
        """All samples at once (see `Samples`)."""
        return [self]

    def forward_parts(self, l: int) -> list[Piece]:
        return [self]

    def backward_parts(self, l: int) -> list[Piece]:
        return [self]

    def part(self, first: int, last: int) -> Piece:
        """Samples first … last - 1 of this piece, in the same memory."""
        part = Piece.__new__(Piece)
        part.m = last - first
        part.a, part.z, part.d, part.s = (
            [None if array is None else array[:, first:last] for array in arrays]
            for arrays in (self.a, self.z, self.d, self.s)
        )
        part.y, part.ones = self.y[:, first:last], self.ones[first:last]
        return part


def _columns(buffer: Array, rows: int, m: int) -> Array:
    return buffer.reshape(m, rows).T


def outputs(network: Network, m: int, dtype: DTypeLike, arena: Arena) -> Array:
    """Room for numbers of m samples and the neurons of layer F, each row or column from a cache line on."""
    n_F = network.sizes[network.F]
    if not network.output_activation.is_over_classes:
        return _columns(arena.take(n_F * m, dtype), n_F, m)
    return arena.take((n_F, _padded(m, dtype)), dtype)[:, :m]


def _padded(m: int, dtype: DTypeLike) -> int:
    line = CACHE_LINE // np.dtype(dtype).itemsize
    return -(-m // line) * line


def sample_bytes(network: Network, dtype: DTypeLike) -> int:
    """Memory that a sample takes in a piece, about: what the size of a piece follows from."""
    return (sum(network.sizes) * 3 + max(network.sizes)) * np.dtype(dtype).itemsize


def piece_samples(network: Network, dtype: DTypeLike) -> int:
    """How many samples a piece may have, so that its activations take at most PIECE_BYTES: independent of n."""
    return int(min(PIECE_SAMPLES, max(1, PIECE_BYTES // sample_bytes(network, dtype))))


class Samples(Protocol):
    """What `forward` and `errors` work on: a piece, or several grains (`distbp.mathematics.grains`)."""

    @property
    def grains(self) -> list[Piece]:
        """What element-wise functions are called for."""

    def forward_parts(self, l: int) -> list[Piece]:
        """What a product W^l a^{l-1} is called for."""

    def backward_parts(self, l: int) -> list[Piece]:
        """What a product (W^{l+1})ᵀ d^{l+1} is called for."""


def forward(network: Network, parameters: Parameters, samples: Samples) -> None:
    """Fills z[l] and a[l] for l = 2 … F from a[1]."""
    W, b = parameters.W, parameters.b
    for l in range(2, network.F + 1):
        for part in samples.forward_parts(l):
            z, a = part.z, part.a
            np.matmul(W[l], a[l - 1], out=z[l])
        for part in samples.grains:
            z, a = part.z, part.a
            z[l] += b[l][:, None]  # z^l = W^l a^{l-1} + b^l
            network.sigma(l).sigma(z[l], a[l])  # a^l = σ(z^l)


def backward(
    network: Network,
    parameters: Parameters,
    piece: Piece,
    gradient: Parameters,
    ready: Callable[[int], object] = lambda l: None,
) -> None:
    """Fills d[l] for l = F … 2, and the gradient summed over the piece: Σ_i ∂L_i/∂W^l, Σ_i ∂L_i/∂b^l.

    Overwrites z.  `ready(l)` is called as soon as the gradient of layer l is there.
    """
    a, d, ones, dW, db = piece.a, piece.d, piece.ones, gradient.W, gradient.b
    for l in range(network.F, 1, -1):
        error(network, parameters, piece, l)
        np.matmul(d[l], a[l - 1].T, out=dW[l])  # ∂L/∂w_jk^l = a_k^{l-1} d_j^l, summed over the samples
        np.matmul(d[l], ones, out=db[l])  # ∂L/∂b_j^l = d_j^l, summed over the samples
        ready(l)


def errors(network: Network, parameters: Parameters, samples: Samples) -> None:
    """Fills d[l] = ∂L_i/∂z^l for l = F … 2, after `forward`.  Overwrites z."""
    for l in range(network.F, 1, -1):
        error(network, parameters, samples, l)


def error(network: Network, parameters: Parameters, samples: Samples, l: int) -> None:
    """Fills d[l], after d[l + 1].  Overwrites z[l]."""
    if l == network.F:
        for part in samples.grains:
            output_error(network, part)  # d^F = ∇_a L ⊙ σ'(z^F)
        return
    W = parameters.W
    for part in samples.backward_parts(l):
        d = part.d
        np.matmul(W[l + 1].T, d[l + 1], out=d[l])
    for part in samples.grains:
        z, a, d, s = part.z, part.a, part.d, part.s
        network.activation.sigma_prime(z[l], a[l], s[l])  # type: ignore[misc]
        d[l] *= s[l]  # d^l = (W^{l+1})ᵀ d^{l+1} ⊙ σ'(z^l)


def output_error(network: Network, piece: Piece) -> None:
    """d^F = ∇_a L ⊙ σ'(z^F)"""
    F, loss, z, a, d, s, y = network.F, network.loss, piece.z, piece.a, piece.d, piece.s, piece.y
    if loss.delta is not None:
        loss.delta(y, a[F], d[F])  # the same, already multiplied out: a^F - y
    else:
        loss.nabla_a(y, a[F], d[F])  # type: ignore[misc]
        network.output_activation.sigma_prime(z[F], a[F], s[F])  # type: ignore[misc]
        d[F] *= s[F]


def loss_sum(network: Network, piece: Piece) -> float:
    """Σ_i L_i over the piece, after `forward` and before `backward`."""
    F = network.F
    return network.loss.value(piece.y, piece.z[F], piece.a[F], piece.s[F])
