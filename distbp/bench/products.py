"""The matrix products of a step and nothing else: what backpropagation cannot do without."""

from __future__ import annotations

import numpy as np

from distbp.mathematics.activations import Array
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.backprop import Piece, piece_samples
from distbp.mathematics.network import Network, Parameters

SUM_BYTES = 16 * 2**20  # of each of two vectors: more than the caches of a core


class Products:
    """Those of m samples, or of a piece of them: for each layer W a, d aᵀ, and Wᵀ d but for the layer of the inputs."""

    def __init__(self, parameters: Parameters, network: Network, m: int, dtype: str, arena: Arena = ALIGNED) -> None:
        self._W, self._network = parameters.W, network
        self._gradient = Parameters.zeros(network, dtype, arena.of("gradient"))
        self.m = m = min(m, piece_samples(network, dtype))
        self._piece = Piece(network, m, dtype, arena.of("activations"))
        self.operations = m * products_of_a_sample(network)  # of one call

    def __call__(self) -> None:
        W, dW, a, d, z = self._W, self._gradient.W, self._piece.a, self._piece.d, self._piece.z
        for l in range(2, self._network.F + 1):
            np.matmul(W[l], a[l - 1], out=z[l])
        for l in range(self._network.F, 1, -1):
            np.matmul(d[l], a[l - 1].T, out=dW[l])
            if l > 2:
                np.matmul(W[l].T, d[l], out=z[l - 1])


def products_of_a_sample(network: Network) -> int:
    """Floating-point operations, additions and multiplications, of the matrix products for a sample."""
    n = network.sizes
    return 2 * (3 * sum(n[l] * n[l - 1] for l in range(2, network.F + 1)) - n[1] * n[2])


class LongSum:
    """a += b of vectors that no cache holds: 3 · SUM_BYTES bytes go through memory."""

    def __init__(self, dtype: str) -> None:
        count = SUM_BYTES // np.dtype(dtype).itemsize
        self._a: Array = ALIGNED.take(count, dtype)
        self._b: Array = ALIGNED.take(count, dtype)
        self._b.fill(1e-6)
        self.bytes = 3 * SUM_BYTES

    def __call__(self) -> None:
        self._a += self._b
