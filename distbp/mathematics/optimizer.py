"""What all optimizers have in common: init + update on flat vectors.

    state = optimizer.init(w)                        named vectors, all zero; part of every checkpoint
    optimizer.update(w, g, state, learning_rate, t)  w and state change in place; t = 1, 2, … counts the updates

g = ∂L_B/∂w is overwritten.  Every element is updated by itself, so an update of a slice is the slice of the update.
Weight decay leaves out what is in `biases`, slices of w in order: all b^l where only W^l is to be kept small.
The work is done in blocks that stay in the cache, with `scratch` as the only extra memory.

    after = optimizer.reach(largest, g, learning_rate, t)

says beforehand, from numbers alone, how large w and the state may become: see `distbp.engine.finite_update`.

A member of `distbp.mathematics.optimizers` gives `vectors`, `step` and `reach_of_step`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

from distbp.mathematics import deferred_numpy as np
from distbp.mathematics.activations import Array

BLOCK = 32768  # elements: a few of these fit the L2 cache of most CPUs

ROUNDED = 1.0 + 1e-6  # more than rounding adds to any number in one update, in float32 too, above LEAST
LEAST = 2.0**-126  # what is less may be 0 in float32, and is rounded by more than its share

State = dict[str, Array]


@dataclass
class Optimizer:
    """A rule for the update of w.  The fields of a rule are its options, with the names that a user gives."""

    name: ClassVar[str]
    squares: ClassVar[tuple[str, ...]] = ()  # those of `vectors` that are means of squares, so never below 0
    decay_help: ClassVar[str] = "λw is added to the gradient"  # what this rule does with weight decay

    weight_decay: float = field(default=0.0, kw_only=True)
    _scratch: Array | None = field(default=None, repr=False, compare=False, kw_only=True)

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """The names of the options that this rule takes."""
        return tuple(one.name for one in fields(cls) if not one.name.startswith("_"))

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the state's vectors, each as long as w."""
        raise NotImplementedError

    def step(self, g: Array, state: State, s: Array, learning_rate: float, t: int) -> None:
        """Makes s what w is reduced by.  All are of one block; g and s may be overwritten, the state changes."""
        raise NotImplementedError

    def reach_of_step(
        self, largest: Mapping[str, float], g: float, learning_rate: float, t: int
    ) -> tuple[float, dict[str, float], float]:
        """Bounds of |s| and of |vector| of the state after `step`, and of what is computed on the way."""
        raise NotImplementedError

    def decay(self, w: Array, g: Array, s: Array, learning_rate: float) -> None:
        """Weight decay λ, before the step: λ w is added to the gradient."""
        np.multiply(w, self.weight_decay, out=s)
        g += s

    def reach_of_decay(self, w: float, g: float, learning_rate: float) -> tuple[float, float, float]:
        """Bounds of |w| and |g| after `decay`, and of its factors."""
        return w, rounded(g + self.weight_decay * w), self.weight_decay

    def init(self, w: Array) -> State:
        """The state before the first update."""
        return {name: np.zeros_like(w) for name in self.vectors}

    def update(
        self, w: Array, g: Array, state: State, learning_rate: float, t: int, biases: Sequence[slice] = ()
    ) -> None:
        """One update of w, in place."""
        if self._scratch is None or self._scratch.dtype != w.dtype:
            self._scratch = np.empty(BLOCK, w.dtype)
        names = self.vectors
        for i in _blocks(w):
            w_, g_ = w[i], g[i]
            s = self._scratch[: len(w_)]
            for j in _without(biases, i) if self.weight_decay else ():
                self.decay(w_[j], g_[j], s[j], learning_rate)
            self.step(g_, {name: state[name][i] for name in names}, s, learning_rate, t)
            w_ -= s

    def reach(self, largest: Mapping[str, float], g: float, learning_rate: float, t: int) -> dict[str, float]:
        """Bounds of |w| ("w"), of |vector| of the state, and of what is computed on the way (""), after an update.

        `largest`: the same before it, and `g`: a bound of the gradient.  They are the formulas of the update with
        |w|, |vector| and |g| in the place of w, vector and g, and with no sign.
        """
        w, factor = largest["w"], 0.0
        if self.weight_decay:
            w, g, factor = self.reach_of_decay(w, g, learning_rate)
        step, after, on_the_way = self.reach_of_step(largest, g, learning_rate, t)
        # an infinite factor makes NaN of 0
        return {"w": rounded(w + step), **after, "": max(on_the_way, factor)}


def rounded(bound: float) -> float:
    """A bound of what is computed in float32 and has this bound without rounding."""
    return bound * ROUNDED + LEAST


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
