"""Which samples make a batch, and which of them are a rank's.

Batches are cut from the order of the samples of an epoch (see `distbp.data.sample_order`) one after another, the last
one may be short; a rank's shard is a contiguous part of the batch.  So the batch of n samples is the same set for
any number of ranks, and no sample is dropped or repeated.
"""

from __future__ import annotations

from collections.abc import Iterator


def batch_sizes(N: int, n: int) -> tuple[int, int]:
    """How many samples the batches of an epoch of N samples have: n, and the last one, which may have fewer."""
    return n, N % n or n


def steps_per_epoch(sample_count: int, batch_size: int) -> int:
    """How many batches an epoch has; the last one may be short."""
    return -(-sample_count // batch_size)


def batch_samples(batch_size: int | str, sample_count: int) -> int:
    """n, for a batch size that is a number or "all"."""
    return sample_count if batch_size == "all" else min(sample_count, int(batch_size))


def shard(n: int, rank: int, size: int) -> tuple[int, int]:
    """The part [start, end) of n things that is this rank's: sizes differ by at most one, and may be zero."""
    return n * rank // size, n * (rank + 1) // size


def pieces(start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    """[start, end) cut into pieces of at most `longest`."""
    for first in range(start, end, longest):
        yield first, min(first + longest, end)


def aligned_pieces(start: int, end: int, longest: int, unit: int) -> Iterator[tuple[int, int]]:
    """Likewise, cut at multiples of `unit` only, which is not above `longest`."""
    while start < end:
        cut = min((start + longest) // unit * unit, end)
        yield start, cut
        start = cut
