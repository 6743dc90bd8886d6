"""AdamW: Adam with weight decay that is no part of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.mathematics.activations import Array
from distbp.mathematics.optimizers.adam import Adam


@dataclass
class AdamW(Adam):
    """Loshchilov & Hutter 2019: as Adam without decay, but the weights shrink first, w ← w - η λ w."""

    name = "adamw"
    decay_help = "w shrinks by ηλ"

    def decay(self, w: Array, g: Array, s: Array, learning_rate: float) -> None:
        w *= 1.0 - learning_rate * self.weight_decay

    def reach_of_decay(self, w: float, g: float, learning_rate: float) -> tuple[float, float, float]:
        shrunk = abs(1.0 - learning_rate * self.weight_decay)
        return w * shrunk, g, max(shrunk, self.weight_decay)


OPTIMIZER = AdamW
