"""What a rank updates: its slices of w, of the gradient and of the optimizer's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distbp.engine.step_memory import StepMemory
from distbp.mathematics.activations import Array
from distbp.mathematics.network import Network, bias_slices
from distbp.settings.config import Config


@dataclass(frozen=True)
class OwnSlice:
    """What a rank updates of a bucket: w, g and the optimizer's vectors; `biases`: those of w that do not decay."""

    w: Array
    g: Array
    vectors: dict[str, Array]
    biases: list[slice]


def slices_of_rank(memory: StepMemory, gradients: list[Array], left_out: list[slice]) -> list[OwnSlice]:
    """What a rank updates, of each bucket; `left_out`: the slices of w that weight decay leaves alone."""
    return [
        OwnSlice(
            memory.w[bucket.mine],
            g,
            {name: one[bucket.mine] for name, one in memory.vectors.items()},
            within(left_out, bucket.mine),
        )
        for bucket, g in zip(memory.buckets, gradients, strict=True)
    ]


def without_decay(config: Config, network: Network) -> list[slice]:
    """The slices of w that weight decay leaves alone: with --no-decay-bias all b^l."""
    return [] if config.decay_bias else bias_slices(network)


def within(slices: Sequence[slice], part: slice) -> list[slice]:
    """What of these slices lies in a part, counted from where it begins."""
    return [
        slice(max(0, one.start - part.start), min(one.stop, part.stop) - part.start)
        for one in slices
        if one.stop > part.start and one.start < part.stop
    ]


def decaying(part: slice, left_out: Sequence[slice]) -> list[tuple[int, int, bool]]:
    """A part of w, cut into (start, stop, whether weight decay applies), without those that are empty."""
    found, start = [], part.start
    for one in within(left_out, part):
        first, last = one.start + part.start, one.stop + part.start
        found += [(start, first, True), (first, last, False)]
        start = last
    return [cut for cut in (*found, (start, part.stop, True)) if cut[0] < cut[1]]
