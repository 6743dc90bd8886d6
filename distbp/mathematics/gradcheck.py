"""Backpropagation against finite differences: for every σ, L and depth.

Along a random direction v the derivative of L_T is v · ∂L_T/∂w; it is compared with the central difference
(L_T(w + εv) - L_T(w - εv)) / 2ε, extrapolated once (Richardson): D = (4 D(ε/2) - D(ε)) / 3, with an error of ε⁴.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.backprop import Piece, backward, forward, loss_sum
from distbp.mathematics.losses import LOSSES
from distbp.mathematics.network import Network, Parameters, initialize

TOLERANCE = 1e-7
STEP = 1e-3
SAMPLES = 5
DEPTHS: tuple[list[int], ...] = ([], [5], [5, 4])


@dataclass(frozen=True)
class Check:
    """The largest relative error over the directions for one network."""

    network: Network
    error: float

    @property
    def name(self) -> str:
        """σ, L, and the layers."""
        n, output = self.network.sizes[1:], self.network.output_activation.name
        return f"{self.network.activation.name:<11}{output:<11}{self.network.loss.name:<21}{'-'.join(map(str, n))}"


def all_networks() -> Iterator[Network]:
    """Every hidden σ × every L with each output σ that it allows × depth."""
    hidden = [a.name for a in ACTIVATIONS.values() if a.may_be_hidden]
    outputs = [(loss.name, a.name) for loss in LOSSES.values() for a in ACTIVATIONS.values() if loss.allows(a)]
    for (loss, output), activation, layers in product(outputs, hidden, DEPTHS):
        if layers or activation == hidden[0]:
            yield Network.of([4, *layers, 3], activation, output, loss)


def check_network(network: Network, seed: int = 0, directions: int = 3, samples: int = SAMPLES) -> Check:
    """Compares along random directions, in float64.

    At a kink of σ there is no derivative to compare with: the samples are drawn again until none comes near one.
    """
    rng = np.random.default_rng(seed)
    n, F = network.sizes, network.F
    parameters, gradient = (Parameters.zeros(network, np.float64) for _ in range(2))
    initialize(parameters, network, seed)
    w = parameters.vector.copy()
    piece = Piece(network, samples, np.float64)
    x, y = piece.a[1], piece.y
    y[...] = np.eye(n[F])[:, rng.integers(0, n[F], samples)]

    def total_loss(at: np.ndarray) -> float:
        parameters.vector[:] = at
        forward(network, parameters, piece)
        return loss_sum(network, piece) / samples

    worst, kinked = 0.0, [l for l in range(2, F + 1) if network.sigma(l).has_kink]
    for _ in range(directions):
        v = rng.standard_normal(len(w))
        v /= np.linalg.norm(v)
        for _ in range(1000):
            x[...] = rng.standard_normal(x.shape)
            total_loss(w)
            if all(np.abs(piece.z[l]).min() > 20 * STEP for l in kinked):
                break
        backward(network, parameters, piece, gradient)
        exact = float(v @ gradient.vector) / samples
        wide, narrow = ((total_loss(w + e * v) - total_loss(w - e * v)) / (2 * e) for e in (STEP, STEP / 2))
        numeric = (4 * narrow - wide) / 3
        worst = max(worst, abs(exact - numeric) / max(abs(exact), abs(numeric), 1e-3))
    return Check(network, worst)
