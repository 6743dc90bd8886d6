"""The network: layers l = 1 … F with n_l neurons, and its parameters W^l, b^l as views into one flat vector.

The index in the code is the index on paper: `W[l]` is W^l, `b[l]` is b^l for l = 2 … F, and the unused places 0 and 1
hold None.  One flat vector means one Allreduce, one write, and optimizers that work element by element.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distbp.mathematics.activations import ACTIVATIONS, Activation, Array
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.losses import LOSSES, Loss

INITIALIZATION_STREAM = 0  # see `distbp.mathematics.batches.SHUFFLE_STREAM`


@dataclass(frozen=True)
class Network:
    """What is computed: sizes[l] = n_l (sizes[0] is unused), σ of the hidden layers, σ of layer F, and L."""

    sizes: tuple[int, ...]
    activation: Activation
    output_activation: Activation
    loss: Loss

    @classmethod
    def of(cls, layers: list[int], activation: str, output_activation: str, loss: str) -> Network:
        """The network with n_1, …, n_F neurons and the functions of these names."""
        return cls((0, *layers), ACTIVATIONS[activation], ACTIVATIONS[output_activation], LOSSES[loss])

    @cached_property
    def F(self) -> int:  # noqa: N802 - the text's symbol
        """The number of the last layer; the input is layer 1."""
        return len(self.sizes) - 1

    def sigma(self, l: int) -> Activation:
        """σ of layer l."""
        return self.output_activation if l == self.F else self.activation

    def describe(self) -> str:
        """64-128-10, relu, softmax, cross_entropy"""
        sizes = "-".join(map(str, self.sizes[1:]))
        hidden = f"{self.activation.name}, " if self.F > 2 else ""
        return f"{sizes}, {hidden}{self.output_activation.name}, {self.loss.name}"

    @property
    def parameter_count(self) -> int:
        """Σ_l n_l n_{l-1} + n_l"""
        n = self.sizes
        return sum(n[l] * n[l - 1] + n[l] for l in range(2, self.F + 1))


class Parameters:
    """W[l], shape (n_l, n_{l-1}), and b[l], shape (n_l,), for l = 2 … F: views into `vector`.

    A gradient has the same shape, and is held in the same way: there W[l] is ∂L/∂W^l and b[l] is ∂L/∂b^l.
    """

    def __init__(self, network: Network, vector: Array) -> None:
        self.vector = vector
        self.W: list[Any] = [None, None]
        self.b: list[Any] = [None, None]
        n, start = network.sizes, 0
        for l in range(2, network.F + 1):
            end = start + n[l] * n[l - 1]
            self.W.append(vector[start:end].reshape(n[l], n[l - 1]))
            self.b.append(vector[end : end + n[l]])
            start = end + n[l]
        assert start == len(vector), "the vector does not belong to this network"

    @classmethod
    def zeros(cls, network: Network, dtype: DTypeLike, arena: Arena = ALIGNED) -> Parameters:
        """All parameters 0, in the given dtype."""
        return cls(network, arena.take(network.parameter_count, dtype))


def bias_slices(network: Network) -> list[slice]:
    """Where the b^l are in the vector of all parameters."""
    n, found, start = network.sizes, [], 0
    for l in range(2, network.F + 1):
        end = start + n[l] * n[l - 1]
        start = end + n[l]
        found.append(slice(end, start))
    return found


def initialize(parameters: Parameters, network: Network, seed: int, rule: str = "auto") -> None:
    """Draws the first W^l and sets b^l = 0.  They depend on the seed alone, not on ranks or dtype.

    `rule` is "glorot", "he" or "auto" (the one that suits the activation):

    - glorot: uniform in ±√(6 / (n_{l-1} + n_l)), for σ that are linear around 0 (Glorot & Bengio 2010)
    - he: normal with standard deviation √(2 / n_{l-1}), for relu and its relatives (He et al. 2015)
    """
    rng = np.random.default_rng([seed, INITIALIZATION_STREAM])
    for l in range(2, network.F + 1):
        W, b = parameters.W[l], parameters.b[l]
        n_l, n_below = W.shape
        if (network.sigma(l).initialization if rule == "auto" else rule) == "he":
            W[...] = rng.standard_normal(W.shape) * np.sqrt(2.0 / n_below)
        else:
            bound = np.sqrt(6.0 / (n_below + n_l))
            W[...] = rng.uniform(-bound, bound, W.shape)
        b[...] = 0.0


def parameter_bytes(network: Network, dtype: DTypeLike) -> int:
    """Memory for all W^l and b^l, or for a gradient."""
    return network.parameter_count * np.dtype(dtype).itemsize


def largest_weights(network: Network) -> int:
    """Numbers in the largest W^l."""
    n = network.sizes
    return max(n[l] * n[l - 1] for l in range(2, network.F + 1))


def initialize_bytes(network: Network) -> int:
    """Memory that `initialize` takes for a moment: each W^l is drawn in float64."""
    return 8 * largest_weights(network)
