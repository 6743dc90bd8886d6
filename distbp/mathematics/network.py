"""The network: layers l = 1 … F with n_l neurons, and its parameters W^l, b^l as views into one flat vector.

The index in the code is the index on paper: `W[l]` is W^l, `b[l]` is b^l for l = 2 … F, and the unused places 0 and 1
hold None.  One flat vector means one Allreduce, one write, and optimizers that work element by element.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distbp.mathematics.activations import ACTIVATIONS, Activation, Array
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.counter_numbers import INITIALIZATION, CounterNumbers
from distbp.mathematics.losses import LOSSES, Loss
from distbp.mathematics.normal_numbers import normal

BLOCK = 32768  # numbers that are drawn at a time, while they are in the cache


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
    """Draws the first W^l and sets b^l = 0.  They depend on the seed and the network alone, not on ranks or dtype.

    Before they are rounded to the dtype they have the same bits on every machine: see
    `distbp.mathematics.counter_numbers`.  Those of a layer do not depend on the other layers.

    `rule` is "glorot", "he" or "auto" (the one that suits the activation):

    - glorot: uniform in ±√(6 / (n_{l-1} + n_l)), for σ that are linear around 0 (Glorot & Bengio 2010)
    - he: normal with standard deviation √(2 / n_{l-1}), for relu and its relatives (He et al. 2015)
    """
    for l in range(2, network.F + 1):
        W, numbers = parameters.W[l], CounterNumbers(seed, INITIALIZATION, window=l)
        n_l, n_below = W.shape
        is_normal = (network.sigma(l).initialization if rule == "auto" else rule) == "he"
        width = sqrt(2.0 / n_below) if is_normal else sqrt(6.0 / (n_below + n_l))
        for first in range(0, W.size, BLOCK):
            block = W.reshape(-1)[first : first + BLOCK]
            u = numbers.uniform(len(block))
            block[...] = (normal(u) if is_normal else 2.0 * u - 1.0) * width
        parameters.b[l][...] = 0.0


def parameter_bytes(network: Network, dtype: DTypeLike) -> int:
    """Memory for all W^l and b^l, or for a gradient."""
    return network.parameter_count * np.dtype(dtype).itemsize


def largest_weights(network: Network) -> int:
    """Numbers in the largest W^l."""
    n = network.sizes
    return max(n[l] * n[l - 1] for l in range(2, network.F + 1))


def initialize_bytes(network: Network) -> int:
    """Memory that `initialize` takes for a moment: a block in float64, and what it is made of."""
    return 10 * 8 * min(BLOCK, largest_weights(network))
