"""Activation functions: each σ beside its derivative σ'.

Both work element by element on whole arrays, allocate nothing and write into `out`, an array of its own.

    sigma(z, out)           out = σ(z)
    sigma_prime(z, a, out)  out = σ'(z);  a = σ(z) is at hand because some derivatives are shorter in it;
                            z is not needed any more and may be overwritten

`z`, `a` and `out` have the same shape and dtype (float32 or float64).  Where σ has a kink the derivative is the one
from the left, so σ'(0) = 0 for relu.

Each σ has one entry in `ACTIVATIONS`, with its facts; importing this module does not load NumPy.

The softmax of the output layer is here too.  It mixes the neurons of a sample, so its derivative is a matrix and not
an element-wise factor: it is only used with cross-entropy, whose ∂L/∂z^F is simple (see `distbp.mathematics.losses`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from distbp.mathematics import deferred_numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.floating[Any]]"

GELU_C = sqrt(2.0 / pi)
GELU_K = 0.044715
LEAK = 0.01  # slope of leaky_relu for z < 0, as in PyTorch


@dataclass(frozen=True)
class Activation:
    """σ and σ' under the name that a user gives, and the facts that others need to know.

    `sigma_prime` is None if σ' is no element-wise factor; such a σ is only for the output layer, with a loss that is
    paired with it.
    """

    name: str
    sigma: Callable[[Array, Array], object]
    sigma_prime: Callable[[Array, Array, Array], object] | None
    initialization: str  # the rule for the first weights that suits it: see `distbp.mathematics.network.initialize`
    has_kink: bool = False  # there finite differences say nothing
    is_probability: bool = False  # its values are between 0 and 1
    is_over_classes: bool = False  # it mixes the neurons of a sample, and their sum is 1

    @property
    def may_be_hidden(self) -> bool:
        """Whether hidden layers can have it."""
        return self.sigma_prime is not None


# --- sigmoid: σ(z) = 1 / (1 + e^-z),  σ' = σ (1 - σ) ---------------------------------------------------------------
def sigmoid(z: Array, out: Array) -> None:
    """σ(z) = 1 / (1 + e^-z), written as (1 + tanh(z/2)) / 2, which does not overflow."""
    np.multiply(z, 0.5, out=out)
    np.tanh(out, out=out)
    out *= 0.5
    out += 0.5


def sigmoid_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = σ(z) (1 - σ(z))"""
    np.subtract(1.0, a, out=out)
    out *= a


# --- tanh: σ' = 1 - σ² ----------------------------------------------------------------------------------------------
def tanh(z: Array, out: Array) -> None:
    """σ(z) = tanh z"""
    np.tanh(z, out=out)


def tanh_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = 1 - tanh² z"""
    np.square(a, out=out)
    np.subtract(1.0, out, out=out)


# --- relu: σ(z) = max(z, 0),  σ' = [z > 0] --------------------------------------------------------------------------
def relu(z: Array, out: Array) -> None:
    """σ(z) = max(z, 0)"""
    np.maximum(z, 0.0, out=out)


def relu_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = 1 for z > 0, else 0 (at 0 too)"""
    np.greater(z, 0.0, out=out)


# --- leaky_relu: σ(z) = max(z, LEAK z) ------------------------------------------------------------------------------
def leaky_relu(z: Array, out: Array) -> None:
    """σ(z) = z for z > 0, else LEAK z"""
    np.multiply(z, LEAK, out=out)
    np.maximum(z, out, out=out)


def leaky_relu_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = 1 for z > 0, else LEAK"""
    np.greater(z, 0.0, out=out)
    np.maximum(out, LEAK, out=out)


# --- gelu: σ(z) = z/2 (1 + t),  t = tanh u,  u = √(2/π) (z + k z³) --------------------------------------------------
def gelu(z: Array, out: Array) -> None:
    """Hendrycks & Gimpel 2016, the tanh form (PyTorch: approximate="tanh"); NumPy has no erf for the other one"""
    _gelu_t(z, out)
    out += 1.0
    out *= z
    out *= 0.5


def gelu_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = (1 + t)/2 + a (1 - t) u'(z), since z (1 - t²)/2 = a (1 - t);  u'(z) = √(2/π) (1 + 3 k z²)

    With h = 1/2 - a u' this is 1 - h + t h.
    """
    _gelu_t(z, out)
    h = z  # z is overwritten
    np.square(z, out=h)
    h *= 3.0 * GELU_C * GELU_K
    h += GELU_C
    h *= a
    np.subtract(0.5, h, out=h)
    out *= h
    out -= h
    out += 1.0


def _gelu_t(z: Array, out: Array) -> None:
    np.square(z, out=out)
    out *= GELU_C * GELU_K
    out += GELU_C
    out *= z
    np.tanh(out, out=out)


# --- softplus: σ(z) = ln(1 + e^z),  σ' = sigmoid --------------------------------------------------------------------
def softplus(z: Array, out: Array) -> None:
    """σ(z) = ln(1 + e^z) = ln(e^0 + e^z)"""
    np.logaddexp(z, 0.0, out=out)


def softplus_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = 1 / (1 + e^-z)"""
    sigmoid(z, out)


# --- identity -------------------------------------------------------------------------------------------------------
def identity(z: Array, out: Array) -> None:
    """σ(z) = z"""
    np.copyto(out, z)


def identity_prime(z: Array, a: Array, out: Array) -> None:
    """σ'(z) = 1"""
    out.fill(1.0)


# --- softmax, over the neurons j of the output layer (axis 0) -------------------------------------------------------
def softmax(z: Array, out: Array) -> None:
    """a_j = e^{z_j} / Σ_k e^{z_k}; the largest z_j is subtracted first so that nothing overflows"""
    np.subtract(z, np.maximum.reduce(z, axis=0), out=out)
    np.exp(out, out=out)
    out /= np.add.reduce(out, axis=0)


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("sigmoid", sigmoid, sigmoid_prime, "glorot", is_probability=True),
        Activation("tanh", tanh, tanh_prime, "glorot"),
        Activation("relu", relu, relu_prime, "he", has_kink=True),
        Activation("leaky_relu", leaky_relu, leaky_relu_prime, "he", has_kink=True),
        Activation("gelu", gelu, gelu_prime, "he"),
        Activation("softplus", softplus, softplus_prime, "he"),
        Activation("identity", identity, identity_prime, "glorot"),
        Activation("softmax", softmax, None, "glorot", is_probability=True, is_over_classes=True),
    )
}
