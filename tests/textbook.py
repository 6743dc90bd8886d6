"""The slow twin: backpropagation straight from the text, with a loop for every index, in plain Python floats.

Nothing of distbp is used here.  Layers are l = 1 … F and w[l][j][k] leads from neuron k of layer l-1 to neuron j of
layer l; neurons are counted from 0, as Python does.  One sample at a time; no trick for stability, no shortcut for d^F.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Vector = list[float]
Layers = list  # [None, None, layer 2, …, layer F] of matrices or vectors

LEAK = 0.01


def logistic(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z > 0.0 else math.exp(z) / (1.0 + math.exp(z))


def gelu_u(z: float) -> float:
    return math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)


def gelu_prime(z: float) -> float:
    t = math.tanh(gelu_u(z))
    u_prime = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * z**2)
    return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t**2) * u_prime


SIGMA: dict[str, Callable[[float], float]] = {
    "sigmoid": logistic,
    "tanh": math.tanh,
    "relu": lambda z: z if z > 0.0 else 0.0,
    "leaky_relu": lambda z: z if z > 0.0 else LEAK * z,
    "gelu": lambda z: 0.5 * z * (1.0 + math.tanh(gelu_u(z))),
    "softplus": lambda z: math.log1p(math.exp(z)) if z < 0.0 else z + math.log1p(math.exp(-z)),
    "identity": lambda z: z,
}

SIGMA_PRIME: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda z: logistic(z) * (1.0 - logistic(z)),
    "tanh": lambda z: 1.0 - math.tanh(z) ** 2,
    "relu": lambda z: 1.0 if z > 0.0 else 0.0,
    "leaky_relu": lambda z: 1.0 if z > 0.0 else LEAK,
    "gelu": gelu_prime,
    "softplus": logistic,
    "identity": lambda z: 1.0,
}


def softmax(z: Vector) -> Vector:
    """a_j = e^{z_j} / Σ_k e^{z_k}"""
    total = sum(math.exp(z_k) for z_k in z)
    return [math.exp(z_j) / total for z_j in z]


def loss(name: str, y: Vector, a: Vector) -> float:
    """L_i = L(y_i, a_i^F)"""
    n_F = len(a)
    if name == "mse":
        return sum((a[j] - y[j]) ** 2 for j in range(n_F)) / n_F
    if name == "cross_entropy":
        return -sum(y[j] * math.log(a[j]) for j in range(n_F))
    assert name == "binary_cross_entropy"
    return -sum(y[j] * math.log(a[j]) + (1.0 - y[j]) * math.log(1.0 - a[j]) for j in range(n_F)) / n_F


def nabla_a(name: str, y: Vector, a: Vector) -> Vector:
    """∂L/∂a_j for every j"""
    n_F = len(a)
    if name == "mse":
        return [2.0 * (a[j] - y[j]) / n_F for j in range(n_F)]
    if name == "cross_entropy":
        return [-y[j] / a[j] for j in range(n_F)]
    assert name == "binary_cross_entropy"
    return [((1.0 - y[j]) / (1.0 - a[j]) - y[j] / a[j]) / n_F for j in range(n_F)]


def forward(w: Layers, b: Layers, x: Vector, hidden: str, output: str) -> tuple[Layers, Layers]:
    """z_j^l = Σ_k w_jk^l a_k^{l-1} + b_j^l and a_j^l = σ(z_j^l), for l = 2 … F; a^1 = x."""
    F = len(w) - 1
    z: Layers = [None, None]
    a: Layers = [None, x]
    for l in range(2, F + 1):
        z_l = []
        for j in range(len(w[l])):
            z_j = b[l][j]
            for k in range(len(a[l - 1])):
                z_j += w[l][j][k] * a[l - 1][k]
            z_l.append(z_j)
        z.append(z_l)
        name = output if l == F else hidden
        a.append(softmax(z_l) if name == "softmax" else [SIGMA[name](z_j) for z_j in z_l])
    return z, a


def errors(w: Layers, z: Layers, a: Layers, y: Vector, hidden: str, output: str, loss_name: str) -> Layers:
    """d_j^l = ∂L/∂z_j^l: d_j^F by the chain rule, then d_j^l = (Σ_i w_ij^{l+1} d_i^{l+1}) σ'(z_j^l)."""
    F = len(w) - 1
    d: Layers = [None] * (F + 1)
    dL_da = nabla_a(loss_name, y, a[F])
    d[F] = []
    for j in range(len(z[F])):
        if output == "softmax":  # every a_k depends on z_j: ∂a_k/∂z_j = a_k ([k = j] - a_j)
            d[F].append(sum(dL_da[k] * a[F][k] * ((k == j) - a[F][j]) for k in range(len(a[F]))))
        else:
            d[F].append(dL_da[j] * SIGMA_PRIME[output](z[F][j]))
    for l in range(F - 1, 1, -1):
        d[l] = []
        for j in range(len(z[l])):
            total = 0.0
            for i in range(len(z[l + 1])):
                total += w[l + 1][i][j] * d[l + 1][i]
            d[l].append(total * SIGMA_PRIME[hidden](z[l][j]))
    return d


def total_loss_and_gradient(
    w: Layers, b: Layers, xs: list[Vector], ys: list[Vector], hidden: str, output: str, loss_name: str
) -> tuple[float, Layers, Layers]:
    """L_T = (1/n) Σ_i L_i, ∂L_T/∂w_jk^l = (1/n) Σ_i a_k^{l-1} d_j^l and ∂L_T/∂b_j^l = (1/n) Σ_i d_j^l."""
    F, n = len(w) - 1, len(xs)
    L_T = 0.0
    dw: Layers = [None, None, *([[0.0] * len(row) for row in w[l]] for l in range(2, F + 1))]
    db: Layers = [None, None, *([0.0] * len(b[l]) for l in range(2, F + 1))]
    for x, y in zip(xs, ys, strict=True):
        z, a = forward(w, b, x, hidden, output)
        d = errors(w, z, a, y, hidden, output, loss_name)
        L_T += loss(loss_name, y, a[F]) / n
        for l in range(2, F + 1):
            for j in range(len(w[l])):
                for k in range(len(w[l][j])):
                    dw[l][j][k] += a[l - 1][k] * d[l][j] / n
                db[l][j] += d[l][j] / n
    return L_T, dw, db


def derivative(f: Callable[[float], float], x: float, h: float = 1e-3) -> float:
    """f'(x) by central differences with Richardson's extrapolation: the error is of the order h⁴."""
    wide = (f(x + h) - f(x - h)) / (2.0 * h)
    narrow = (f(x + h / 2.0) - f(x - h / 2.0)) / h
    return (4.0 * narrow - wide) / 3.0
