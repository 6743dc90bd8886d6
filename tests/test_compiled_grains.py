"""The compiled engine's reproducible mode: its sums are those of the tree, with the same bits whoever works on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compiled_cases import Case, Guarded, check_near, engine_of, found, kinds
from engine_tests import rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbp.engine.sums import Requests
from distbp.mathematics import backprop
from distbp.mathematics.exact_sum import total
from distbp.mathematics.grain_tree import Node, add_up, root
from distbp.ranks.communicator import OneProcess

pytestmark = pytest.mark.skipif(not kinds(), reason="there is no compiled step")

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
kind = pytest.mark.parametrize("kind", kinds())


@pytest.fixture(autouse=True)
def threads_for_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks have threads here, too."""
    monkeypatch.setattr("distbp.engine.compiled_net.LEAST_WORK", 0)


def case_of(grain: int, dtype: str, sizes: tuple[int, ...] = (13, 37, 18, 3), **options: Any) -> Case:
    return Case(sizes, dtype=dtype, options={"reproducible": True, "grain": grain, **options}, N=80)


@kind
@dtypes
@pytest.mark.parametrize("m", [1, 40, 1024])
@pytest.mark.parametrize(
    ("n", "grain"), [(1, 1), (2, 1), (7, 1), (16, 4), (36, 4), (64, 16), (80, 16), (72, 8), (34, 32)]
)
def test_the_gradient_is_the_sum_of_those_of_the_grains_along_the_tree(
    n: int, grain: int, m: int, dtype: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit.  The plain mode gives the mean over a grain; times a power of 2 it is the sum, without rounding.

    `m`: samples that are worked on together.
    """
    lib, case = kinds()[kind], case_of(grain, dtype)
    plain = replace(case, options={})
    engine = engine_of(plain.work(OneProcess(), grain), lib)
    case.begin(engine)
    of_grains: list[np.ndarray] = []
    sums = []
    for first in range(0, n, grain):
        some = range(first, min(n, first + grain))
        assert len(some).bit_count() == 1
        stepped = engine.gradient(rows(*some), Requests())
        of_grains.append(engine.g[0] * len(some))
        sums.append(stepped.part.values)
    engine.close()

    def known(node: Node) -> np.ndarray | None:
        return of_grains[node[1]].copy() if node[0] == 0 else None

    count = len(of_grains)
    expected = add_up(root(count), count, known) / np.dtype(dtype).type(n)
    monkeypatch.setattr(backprop, "PIECE_SAMPLES", m)
    engine = engine_of(case.work(OneProcess(), n), lib)
    case.begin(engine)
    stepped = engine.gradient(rows(*range(n)), Requests())
    assert engine.g[0].tobytes() == expected.tobytes()
    assert stepped.part.values == [total(values) for values in zip(*sums, strict=True)]
    engine.close()


@dtypes
@pytest.mark.parametrize("grain", [1, 3, 5, 16, 17, 40])
def test_the_same_bits_for_any_threads_cpus_ranks_and_rooms(
    grain: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grains begin anywhere in a panel, and their number is no power of 2; nothing is written outside of an array."""
    case = case_of(grain, dtype, optimizer="adam", clip_norm=0.1)
    batches = [rows(*range(40)), rows(*range(7)), rows(79), rows(*range(41, 80))]
    truth = found(replace(case, dtype="float64"), None, batches)
    bits: dict[Any, list[bytes]] = {}
    for m in (1024, 16):
        monkeypatch.setattr(backprop, "PIECE_SAMPLES", m)
        for name, lib in kinds().items():
            for threads in (1, 3):
                arena = Guarded()
                one = found(case, lib, batches, threads=threads, arena=arena)
                arena.check()
                check_near(one, truth, dtype, 4e4)
                bits[m, name, threads] = one.bits
            for ranks, nodes in ((2, 1), (5, 1), (2, 2), (8, 3)):
                bits[m, name, ranks, nodes] = found(case, lib, batches, ranks=ranks, nodes=nodes).bits
    for is_fused in (True, False):
        alike = [one for (_, name, *_), one in bits.items() if kinds()[name].is_fused == is_fused]
        assert all(one == alike[0] for one in alike)


@given(
    ranks=st.integers(2, 9),
    nodes=st.integers(1, 3),
    n=st.integers(1, 80),
    grain=st.integers(1, 50),
    m=st.sampled_from([1, 16, 64, 1024]),
    hidden=st.lists(st.integers(1, 40), max_size=3),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_batch_on_any_ranks(
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
    nodes: int,
    n: int,
    grain: int,
    m: int,
    hidden: list[int],
    dtype: str,
    threads: int,
) -> None:
    case = case_of(grain, dtype, (11, *hidden, 3), clip_norm=0.2, momentum=0.5)
    lib, batches = next(iter(kinds().values())), [rows(*range(n)), rows(*range(min(n, 3)))]
    monkeypatch.setattr(backprop, "PIECE_SAMPLES", 1024)
    alone = found(case, lib, batches)
    monkeypatch.setattr(backprop, "PIECE_SAMPLES", m)
    together = found(case, lib, batches, ranks=ranks, nodes=min(nodes, ranks), threads=threads)
    assert together.bits == alone.bits
    assert together.sums == alone.sums


@kind
@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (2, 1), (2, 2)])
def test_rows_out_of_range_are_refused(ranks: int, nodes: int, kind: str) -> None:
    for row in (-1, 80, 2**62, -(2**63)):
        with pytest.raises(AssertionError, match="out of range"):
            found(case_of(4, "float32"), kinds()[kind], [rows(*range(30), row)], ranks=ranks, nodes=nodes)
