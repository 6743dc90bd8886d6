"""Which part of the exchange of a gradient can pass while the gradient is computed."""

from __future__ import annotations

from distbp.mathematics.network import Network


def first_part(network: Network, l: int) -> float:
    """The part of the backward pass, by its products, after which the gradients of the layers F … l are there."""
    n, F = network.sizes, network.F

    def products(lowest: int) -> int:
        """∂L/∂W^l of the layers, and d^l of all but layer F."""
        return sum(n[k] * n[k - 1] for k in range(lowest, F + 1)) + sum(n[k + 1] * n[k] for k in range(lowest, F))

    return products(l) / products(2)
