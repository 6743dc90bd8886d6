"""How the order of an epoch is cut into batches, shards and pieces: nothing is lost, nothing comes twice."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distbp.data.lots import lots
from distbp.mathematics.batches import pieces, shard, steps_per_epoch


@pytest.mark.parametrize(
    ("samples", "batch", "steps"), [(100, 10, 10), (101, 10, 11), (99, 10, 10), (5, 10, 1), (1, 1, 1), (0, 10, 0)]
)
def test_steps_per_epoch(samples, batch, steps):
    assert steps_per_epoch(samples, batch) == steps
    assert len(list(pieces(0, samples, batch))) == steps


@given(n=st.integers(0, 10**12), size=st.integers(1, 400))
@example(n=3, size=64)
@example(n=0, size=2)
@example(n=64, size=64)
def test_shards_partition_the_batch(n, size):
    shards = [shard(n, rank, size) for rank in range(size)]
    assert shards[0][0] == 0
    assert shards[-1][1] == n
    assert all(left[1] == right[0] for left, right in pairwise(shards))
    lengths = [end - start for start, end in shards]
    assert min(lengths) >= 0
    assert max(lengths) - min(lengths) <= 1


@given(start=st.integers(0, 1000), length=st.integers(0, 500), longest=st.integers(1, 600))
def test_pieces_cover_a_shard_in_order(start, length, longest):
    parts = list(pieces(start, start + length, longest))
    assert [i for first, end in parts for i in range(first, end)] == list(range(start, start + length))
    assert all(0 < end - first <= longest for first, end in parts)
    assert all(end - first == longest for first, end in parts[:-1])


@given(
    n=st.integers(1, 200),
    batch=st.integers(1, 250),
    size=st.integers(1, 9),
    longest=st.integers(1, 50),
    seed=st.integers(0, 9),
)
def test_an_epoch_sees_every_sample_once_for_any_number_of_ranks(n, batch, size, longest, seed):
    order = lots(seed).samples(n, 0, None)
    seen = []
    for batch_start, batch_end in pieces(0, n, batch):
        for rank in range(size):
            start, end = shard(batch_end - batch_start, rank, size)
            for first, last in pieces(batch_start + start, batch_start + end, longest):
                seen += order[first:last].tolist()
    assert seen == order.tolist()
