"""Optimizers: init + update on flat vectors.

    state = optimizer.init(w)                        named vectors, all zero; part of every checkpoint
    optimizer.update(w, g, state, learning_rate, t)  w and state change in place; t = 1, 2, … counts the updates

g = ∂L_B/∂w is overwritten.  Every element is updated by itself, so an update of a slice is the slice of the update.
Weight decay leaves out what is in `biases`, slices of w in order: all b^l where only W^l is to be kept small.
The work is done in blocks that stay in the cache, with `scratch` as the only extra memory.

    after = optimizer.reach(largest, g, learning_rate, t)

says beforehand, from numbers alone, how large w and the state may become: see `distbp.engine.finite_update`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Protocol

import numpy as np

from distbp.mathematics.activations import Array

BLOCK = 32768  # elements: a few of these fit the L2 cache of most CPUs

ROUNDED = 1.0 + 1e-6  # more than rounding adds to any number in one update, in float32 too, above LEAST
LEAST = 2.0**-126  # what is less may be 0 in float32, and is rounded by more than its share

State = dict[str, Array]


class Optimizer(Protocol):
    """What all optimizers have in common."""

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the state's vectors, each as long as w."""

    def init(self, w: Array) -> State:
        """The state before the first update."""

    def update(
        self, w: Array, g: Array, state: State, learning_rate: float, t: int, biases: Sequence[slice] = ()
    ) -> None:
        """One update of w, in place."""

    def reach(self, largest: Mapping[str, float], g: float, learning_rate: float, t: int) -> dict[str, float]:
        """Bounds of |w| ("w"), of |vector| of the state, and of what is computed on the way (""), after an update.

        `largest`: the same before it, and `g`: a bound of the gradient.
        """


@dataclass
class SGD:
    """w ← w - η v,  v ← μ v + g;  with Nesterov's momentum w ← w - η (g + μ v).

    As PyTorch's SGD: g + λ w takes the place of g with weight decay λ, and the first v is g.
    Plain gradient descent is μ = 0.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    _scratch: Array | None = field(default=None, repr=False)

    @property
    def vectors(self) -> tuple[str, ...]:
        """v, where there is momentum."""
        return ("v",) if self.momentum else ()

    def init(self, w: Array) -> State:
        """v = 0, where there is momentum."""
        return {name: np.zeros_like(w) for name in self.vectors}

    def update(
        self, w: Array, g: Array, state: State, learning_rate: float, t: int, biases: Sequence[slice] = ()
    ) -> None:
        """One update of w, in place."""
        self._scratch = _scratch(self._scratch, w)
        for i in _blocks(w):
            w_, g_, s = w[i], g[i], self._scratch[: len(w[i])]
            if self.weight_decay:
                for j in _without(biases, i):
                    np.multiply(w_[j], self.weight_decay, out=s[j])
                    g_[j] += s[j]
            if self.momentum:
                v = state["v"][i]
                v *= self.momentum
                v += g_
                if self.nesterov:
                    np.multiply(v, self.momentum, out=s)
                    g_ += s
                else:
                    g_ = v
            np.multiply(g_, learning_rate, out=s)
            w_ -= s

    def reach(self, largest: Mapping[str, float], g: float, learning_rate: float, t: int) -> dict[str, float]:
        """The same formulas with |w|, |v|, |g|, and no sign."""
        w, after = largest["w"], {}
        step = _rounded(g + self.weight_decay * w)
        if self.momentum:
            after["v"] = v = _rounded(self.momentum * largest["v"] + step)
            step = _rounded(step + self.momentum * v) if self.nesterov else v
        factors = max(learning_rate, self.weight_decay)  # infinite in float32, they make NaN of 0
        return {"w": _rounded(w + learning_rate * step), **after, "": max(step, factors)}


@dataclass
class Adam:
    """Kingma & Ba 2015: m ← β₁ m + (1-β₁) g,  v ← β₂ v + (1-β₂) g²,  w ← w - η m̂ / (√v̂ + ε)

    with m̂ = m / (1 - β₁^t), v̂ = v / (1 - β₂^t).  Weight decay λ is added to the gradient (g + λ w); with `decoupled`
    it shrinks the weights instead, w ← w - η λ w, which is AdamW (Loshchilov & Hutter 2019).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    _scratch: Array | None = field(default=None, repr=False)

    vectors = ("m", "v")

    def init(self, w: Array) -> State:
        """m = v = 0"""
        return {name: np.zeros_like(w) for name in self.vectors}

    def update(
        self, w: Array, g: Array, state: State, learning_rate: float, t: int, biases: Sequence[slice] = ()
    ) -> None:
        """One update of w, in place."""
        self._scratch = _scratch(self._scratch, w)
        step_size = learning_rate / (1.0 - self.beta1**t)
        root = sqrt(1.0 - self.beta2**t)
        for i in _blocks(w):
            w_, g_, m, v, s = w[i], g[i], state["m"][i], state["v"][i], self._scratch[: len(w[i])]
            for j in _without(biases, i) if self.weight_decay else ():
                if self.decoupled:
                    w_[j] *= 1.0 - learning_rate * self.weight_decay
                else:
                    np.multiply(w_[j], self.weight_decay, out=s[j])
                    g_[j] += s[j]
            m *= self.beta1
            np.multiply(g_, 1.0 - self.beta1, out=s)
            m += s
            v *= self.beta2
            np.square(g_, out=g_)
            g_ *= 1.0 - self.beta2
            v += g_
            np.sqrt(v, out=s)
            s /= root
            s += self.epsilon
            np.divide(m, s, out=s)
            s *= step_size
            w_ -= s

    def reach(self, largest: Mapping[str, float], g: float, learning_rate: float, t: int) -> dict[str, float]:
        """The same formulas with |w|, |m|, v, |g|, and no sign; √v̂ + ε is at least ε."""
        w, shrunk, rate = largest["w"], 1.0, learning_rate / (1.0 - self.beta1**t)
        if self.weight_decay and self.decoupled:
            shrunk = abs(1.0 - learning_rate * self.weight_decay)
            w *= shrunk
        elif self.weight_decay:
            g = _rounded(g + self.weight_decay * w)
        m = _rounded(self.beta1 * largest["m"] + (1.0 - self.beta1) * g)
        v = _rounded(self.beta2 * largest["v"] + (1.0 - self.beta2) * g * g)
        ratio = _rounded(m / self.epsilon) if self.epsilon >= LEAST else inf
        factors = max(rate, shrunk, self.weight_decay)  # infinite in float32, they make NaN of 0
        return {"w": _rounded(w + rate * ratio), "m": m, "v": v, "": max(g * g, ratio, factors)}


def _rounded(bound: float) -> float:
    """A bound of what is computed in float32 and has this bound without rounding."""
    return bound * ROUNDED + LEAST


def make_optimizer(
    name: str, *, momentum: float, nesterov: bool, beta1: float, beta2: float, epsilon: float, weight_decay: float
) -> Optimizer:
    """The optimizer of this name: "sgd", "adam" or "adamw"."""
    if name == "sgd":
        return SGD(momentum, nesterov, weight_decay)
    return Adam(beta1, beta2, epsilon, weight_decay, decoupled=name == "adamw")


def _blocks(w: Array) -> Iterator[slice]:
    for start in range(0, len(w), BLOCK):
        yield slice(start, start + BLOCK)


def _without(left_out: Sequence[slice], block: slice) -> Iterator[slice]:
    """The parts of a block that are in none of these slices, counted from its start."""
    start = block.start
    for one in left_out:
        if one.stop > start and one.start < block.stop:
            if one.start > start:
                yield slice(start - block.start, one.start - block.start)
            start = one.stop
    if start < block.stop:
        yield slice(start - block.start, block.stop - block.start)


def _scratch(scratch: Array | None, w: Array) -> Array:
    if scratch is None or scratch.dtype != w.dtype:
        return np.empty(BLOCK, w.dtype)
    return scratch
