"""Loss functions: each L beside its gradient.

A loss is a function of one sample, L_i = L(y_i, a_i^F).  Here m samples are worked on at once: arrays have the shape
(n_F, m), one sample a column, and `value` is the sum over the samples, so that any split of a batch into shards adds
up to the same Σ L_i, which divided by n is L_T.

    value(y, z, a, s) -> float   Σ_i L_i, added up in float64;  z = z^F, a = a^F;  s, of the same shape, is overwritten
    nabla_a(y, a, out)           out = ∇_a L
    delta(y, a, out)             out = d^F, for the losses that are paired with one output activation: there
                                 ∇_a L ⊙ σ'(z^F) becomes a^F - y, which neither overflows nor divides by zero

Class labels arrive as columns of zeros with a one at the class ("one-hot"), so that every loss reads alike.

Each L has one entry in `LOSSES`, with its facts; importing this module does not load NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distbp.mathematics import deferred_numpy as np
from distbp.mathematics.activations import Activation, Array

TINY = {"f": 2.0**-126, "d": 2.0**-1022}  # the smallest number with all its digits
SMALL = 1e-30  # a mean of squares to which those without all their digits add nothing


@dataclass(frozen=True)
class Loss:
    """L under the name that a user gives, and the facts that others need to know.

    `nabla_a` is None where `delta` takes its place, and the other way round.
    """

    name: str
    value: Callable[[Array, Array, Array, Array], float]
    nabla_a: Callable[[Array, Array, Array], None] | None
    delta: Callable[[Array, Array, Array], None] | None
    output_activation: str  # the default; the only one allowed where `delta` is given
    takes_targets: bool = True  # False: y must be the labels of classes
    is_binary: bool = False  # y is between 0 and 1: two classes share one output, and targets are probabilities
    target_metric: str = "accuracy"  # the measure beside the loss for targets; for labels it is always accuracy
    default_for: str = ""  # "classes" or "targets": the task whose loss it is unless a user names one

    @property
    def scales_targets(self) -> bool:
        """Whether targets may be any numbers; they are then scaled."""
        return self.takes_targets and not self.is_binary

    def allows(self, output: Activation) -> bool:
        """Whether the output layer can have this activation."""
        return output.sigma_prime is not None if self.delta is None else output.name == self.output_activation

    def outputs(self, classes: int) -> int:
        """Neurons of the output layer for so many classes."""
        return 1 if self.is_binary else classes


# --- mean squared error ---------------------------------------------------------------------------------------------
def mse(y: Array, z: Array, a: Array, s: Array) -> float:
    """L_i = (1/n_F) Σ_j (a_j - y_j)²

    The factor is 1/n_F, so that L_T is literally the mean of all squared errors: the number that PyTorch's MSELoss and
    scikit-learn's mean_squared_error print.  Books that write ½ Σ_j (a_j - y_j)² (Nielsen, Bishop) have gradients
    that are n_F / 2 times as large; a learning rate taken from there is to be multiplied by n_F / 2.
    """
    np.subtract(a, y, out=s)
    np.square(s, out=s)
    total = _sum(s)
    return (total if has_digits(total, s) else _sum(wide_squares(y, a))) / len(y)


def mse_nabla_a(y: Array, a: Array, out: Array) -> None:
    """∂L/∂a_j = (2/n_F) (a_j - y_j)"""
    np.subtract(a, y, out=out)
    out *= 2.0 / len(y)


# --- cross-entropy of a softmax output ------------------------------------------------------------------------------
def cross_entropy(y: Array, z: Array, a: Array, s: Array) -> float:
    """L_i = -Σ_j y_j ln a_j = -ln a_c for the class c

    Where an a_c is too small for a number, ln(Σ_k e^{z_k}) - z_c, in the form (max z - ln max a) - z_c, because
    max a = e^{max z} / Σ_k e^{z_k}: no exponential, no logarithm of 0.
    """
    np.multiply(y, a, out=s)
    a_c = np.add.reduce(s, axis=0)
    if np.minimum.reduce(a_c, initial=1.0) >= TINY[a_c.dtype.char]:
        return -float(np.add.reduce(np.log(a_c, out=a_c), dtype=np.float64))
    np.multiply(y, z, out=s)
    z_c = s.sum(axis=0, dtype=np.float64)
    return float((z.max(axis=0) - z_c - np.log(a.max(axis=0))).sum())


def cross_entropy_delta(y: Array, a: Array, out: Array) -> None:
    """d_j^F = ∂L/∂z_j = a_j - y_j"""
    np.subtract(a, y, out=out)


# --- binary cross-entropy of sigmoid outputs ------------------------------------------------------------------------
def binary_cross_entropy(y: Array, z: Array, a: Array, s: Array) -> float:
    """L_i = -(1/n_F) Σ_j [y_j ln a_j + (1 - y_j) ln(1 - a_j)] = (1/n_F) Σ_j [ln(1 + e^{z_j}) - y_j z_j]

    The second form takes z (the logits) and is stable for any of them.  The factor 1/n_F is PyTorch's.
    """
    np.logaddexp(z, 0.0, out=s)
    total = _sum(s)
    np.multiply(y, z, out=s)
    return (total - _sum(s)) / len(y)


def binary_cross_entropy_delta(y: Array, a: Array, out: Array) -> None:
    """d_j^F = ∂L/∂z_j = (a_j - y_j) / n_F"""
    np.subtract(a, y, out=out)
    if len(y) > 1:
        out /= len(y)


def _sum(s: Array) -> float:
    return float(s.sum(dtype=np.float64))


def has_digits(total: float, squares: Array) -> bool:
    """Whether the sum of squares has all its digits: those below 1e-38 lose theirs in float32."""
    return squares.dtype != np.float32 or total > SMALL * squares.size


def wide_squares(y: Array, a: Array) -> Array:
    """(a_j - y_j)² in float64, where those in float32 are too small; it takes memory."""
    return np.square(np.subtract(a, y, dtype=np.float64))


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("mse", mse, mse_nabla_a, None, "identity", target_metric="rmse", default_for="targets"),
        Loss(
            "cross_entropy",
            cross_entropy,
            None,
            cross_entropy_delta,
            "softmax",
            takes_targets=False,
            default_for="classes",
        ),
        Loss("binary_cross_entropy", binary_cross_entropy, None, binary_cross_entropy_delta, "sigmoid", is_binary=True),
    )
}


def default_loss(task: str) -> str:
    """The name of the loss for "classes" or "targets", unless a user names one."""
    return next(loss.name for loss in LOSSES.values() if loss.default_for == task)
