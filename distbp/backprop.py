"""Backpropagation, as in the text.

m samples are worked on at once.  In the equations a sample is a column: a[l], z[l] and d[l] have the shape (n_l, m).
In memory each sample is one contiguous row, the columns are a transposed view of that, which costs BLAS nothing and
lets rows of a data set be copied straight into a[1].

The sum over the samples of a shard is not written out: in `d[l] @ a[l - 1].T` the matrix product does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distbp.activations import Array
from distbp.network import Network, Parameters, aligned_zeros

PIECE_BYTES = 64 * 2**20  # memory for the activations of a piece
PIECE_SAMPLES = 1024  # more rows do not make the matrix products faster


class Piece:
    """Room for the a[l], z[l], d[l] of m samples, and their y: every product writes here, nothing is allocated later.

    a[1] is filled by the caller, and y, shape (n_F, m): targets, or ones at the class.  `labels` (m,) is for
    counting right answers.
    """

    def __init__(self, network: Network, m: int, dtype: DTypeLike, buffers: list[Any] | None = None) -> None:
        n, F = network.sizes, network.F
        if buffers is None:
            widest = max(n[2:])
            counts = [n[1], *(n[l] for l in range(2, F + 1) for _ in "azd"), n[F], widest]
            buffers = [aligned_zeros(count * m, dtype) for count in counts]
        self.buffers = buffers
        self.m = m
        self.a: list[Any] = [None, _columns(buffers[0], n[1], m)]
        self.z: list[Any] = [None, None]
        self.d: list[Any] = [None, None]
        self.s: list[Any] = [None, None]
        for l in range(2, F + 1):
            at = 3 * l - 5
            self.a.append(_columns(buffers[at], n[l], m))
            self.z.append(_columns(buffers[at + 1], n[l], m))
            self.d.append(_columns(buffers[at + 2], n[l], m))
            self.s.append(_columns(buffers[-1], n[l], m))
        self.y: Any = _columns(buffers[-2], n[F], m)
        self.ones = np.ones(m, dtype)

    def first(self, network: Network, m: int) -> Piece:
        """The same memory for m samples, m at most self.m."""
        return Piece(network, m, self.y.dtype, self.buffers)


def _columns(buffer: Array, rows: int, m: int) -> Array:
    return buffer[: rows * m].reshape(m, rows).T


def piece_samples(network: Network, dtype: DTypeLike) -> int:
    """How many samples a piece may have, so that its activations take at most PIECE_BYTES: independent of n."""
    per_sample = (sum(network.sizes) * 3 + max(network.sizes)) * np.dtype(dtype).itemsize
    return int(min(PIECE_SAMPLES, max(1, PIECE_BYTES // per_sample)))


def forward(network: Network, parameters: Parameters, piece: Piece) -> None:
    """Fills z[l] and a[l] for l = 2 … F from a[1]."""
    W, b, z, a = parameters.W, parameters.b, piece.z, piece.a
    for l in range(2, network.F + 1):
        np.matmul(W[l], a[l - 1], out=z[l])
        z[l] += b[l][:, None]  # z^l = W^l a^{l-1} + b^l
        network.sigma(l).sigma(z[l], a[l])  # a^l = σ(z^l)


def backward(network: Network, parameters: Parameters, piece: Piece, gradient: Parameters) -> None:
    """Fills d[l] for l = F … 2, and the gradient summed over the piece: Σ_i ∂L_i/∂W^l, Σ_i ∂L_i/∂b^l.

    Overwrites z.
    """
    F, W, z, a, d, s = network.F, parameters.W, piece.z, piece.a, piece.d, piece.s
    dW, db, ones = gradient.W, gradient.b, piece.ones

    output_error(network, piece)  # d^F = ∇_a L ⊙ σ'(z^F)
    for l in range(F - 1, 1, -1):
        np.matmul(W[l + 1].T, d[l + 1], out=d[l])
        network.activation.sigma_prime(z[l], a[l], s[l])  # type: ignore[misc]
        d[l] *= s[l]  # d^l = (W^{l+1})ᵀ d^{l+1} ⊙ σ'(z^l)
    for l in range(F, 1, -1):
        np.matmul(d[l], a[l - 1].T, out=dW[l])  # ∂L/∂w_jk^l = a_k^{l-1} d_j^l, summed over the samples
        np.matmul(d[l], ones, out=db[l])  # ∂L/∂b_j^l = d_j^l, summed over the samples


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
