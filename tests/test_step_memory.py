"""What the ranks of a node share while they train: nodes of any shape compute what one process computes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import configuration, nodes_of, resumed, sums_of, train_on, whole_gradient, write_data
from steps import steps_on

from distbp.engine.reduction import Reduction
from distbp.engine.step_memory import Contents, StepMemory, bucket_limits
from distbp.engine.sums import Requests, Stepped, Sums
from distbp.mathematics.clipping import BLOCK
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator, OneProcess, run_threads
from distbp.training.comparison import digest
from distbp.training.run import Run

WIDE = Network.of([90, 100, 50], "tanh", "identity", "mse")  # 14,150 parameters: four blocks, the last one short
SHAPES = [(2, 1), (3, 1), (8, 1), (2, 2), (5, 2), (6, 3), (8, 3), (5, 5)]
RUNS = [(3, 1), (5, 2), (2, 2)]


def made(comm: Communicator, dtype: str = "float32", sums: int = 1, **forms: bool) -> StepMemory:
    return StepMemory(comm, Contents(WIDE, dtype, ("m", "v"), sums), **forms)


@pytest.fixture(params=["one bucket", "several"])
def overlap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the layers of the small network are buckets of their own."""
    monkeypatch.setattr("distbp.engine.step_memory.BUCKET_BYTES", 4)
    return bool(request.param == "several")


@pytest.mark.parametrize(("ranks", "nodes"), SHAPES)
def test_slices_are_whole_blocks_and_make_up_w(ranks: int, nodes: int, overlap: bool) -> None:
    def on_rank(comm: Communicator) -> StepMemory:
        memory = made(comm, overlap=overlap)
        assert not memory.w.any()
        assert not any(vector.any() for vector in memory.vectors.values())
        return memory

    for memory in (found := run_threads(ranks, on_rank, nodes_of(ranks, nodes))):
        assert memory.nodes == sorted(map(sorted, nodes_of(ranks, nodes)))
        assert memory.owners == min(map(len, memory.nodes))
        assert len(memory.buckets) == (2 if overlap and nodes > 1 else 1)
        here = [found[rank].buckets for rank in memory.ranks]
        slices = [buckets[i].mine for i in range(len(memory.buckets))[::-1] for buckets in here]
        edges = [(one.start, one.stop) for one in slices if one.stop > one.start]
        assert edges[0][0] == 0
        assert edges[-1][1] == WIDE.parameter_count
        assert [stop for _, stop in edges[:-1]] == [start for start, _ in edges[1:]]
        assert all(start % BLOCK == 0 for start, _ in edges)
        for i, bucket in enumerate(memory.buckets):
            assert [buckets[i].mine for buckets in here][: memory.owners] == bucket.slices


@settings(max_examples=200, deadline=None)
@given(layers=st.lists(st.integers(1, 120), min_size=2, max_size=7), least=st.integers(1, 30_000))
def test_a_bucket_has_only_what_is_made_when_it_is_sent(layers: list[int], least: int) -> None:
    network = Network.of(layers, "relu", "identity", "mse")
    starts = {l: 0 for l in range(2, network.F + 1)}  # of the gradient of layer l, in w
    for l in range(3, network.F + 1):
        starts[l] = starts[l - 1] + layers[l - 2] * layers[l - 3] + layers[l - 2]
    limits = bucket_limits(network, least)
    assert [start for _, start, _ in limits] == [stop for *_, stop in limits[1:]] + [0]
    assert limits[0][2] == network.parameter_count
    assert [l for l, *_ in limits] == sorted({l for l, *_ in limits}, reverse=True)
    for l, start, stop in limits:
        assert start >= starts[l]
        assert start % BLOCK == 0
        assert l == 2 or stop - start >= least


@pytest.mark.parametrize("sums", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_do_not_overlap_and_begin_at_cache_lines(dtype: str, sums: int) -> None:
    memory = made(OneProcess(), dtype, sums)
    arrays = [
        memory.w,
        *memory.vectors.values(),
        *(one for own in memory.sums for one in own),
        memory.squares,
        memory.scaled,
    ]
    places = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
    assert all(start % 64 == 0 for start, _ in places)
    assert places[-1][1] - places[0][0] <= Contents(WIDE, dtype, ("m", "v"), sums).bytes(1)


@pytest.mark.parametrize(("ranks", "nodes"), SHAPES)
def test_the_reduction_of_any_nodes(ranks: int, nodes: int, overlap: bool) -> None:
    """Every rank's gradient is different, and so is each of its numbers; the square is that of the mean."""
    rng = np.random.default_rng(1)
    gradients = rng.standard_normal((ranks, WIDE.parameter_count)).astype(np.float32)
    totals = [Sums([])] * ranks

    def on_rank(comm: Communicator) -> tuple[np.ndarray, float, Stepped]:
        memory = made(comm, overlap=overlap)
        reduction = Reduction(memory, WIDE)
        for _ in range(3):  # nothing of an earlier step is left
            reduction.gradient.vector[:] = gradients[comm.rank]
            part = Sums([comm.rank + 0.5, 1.0], 10**7)
            stepped = reduction.reduce(part, Requests(stop=comm.rank == 1), n=12)
            whole, square = whole_gradient(memory), memory.length.value**2
            memory.fence()
        reduction.close()
        totals[comm.rank] = sums_of(comm, stepped)
        return whole, square, stepped

    exact = gradients.astype(np.float64).sum(axis=0) / 12
    for whole, square, stepped in run_threads(ranks, on_rank, nodes_of(ranks, nodes)):
        np.testing.assert_allclose(whole, exact, rtol=1e-5, atol=1e-6)
        assert square == pytest.approx(float(exact @ exact), rel=1e-5)
        assert (stepped.samples, stepped.requests, stepped.flaw) == (ranks * 10**7, Requests(stop=1), 0.0)
    assert totals == [Sums([sum(r + 0.5 for r in range(ranks)), ranks], ranks * 10**7)] * ranks


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("value", [1e30, np.inf, -np.inf, np.nan])
def test_a_gradient_is_finite_also_where_its_square_is_not_in_float32(value: float, exact: bool) -> None:
    memory = made(OneProcess(), exact=exact)
    reduction = Reduction(memory, WIDE)
    reduction.gradient.vector[5000] = value
    with np.errstate(all="ignore"):
        reduction.reduce(Sums([0.0], 1), Requests(), n=1)
    assert np.isfinite(memory.length.scaled) == np.isfinite(value)
    if np.isfinite(value):
        assert memory.length.value == pytest.approx(1e30, rel=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_data(tmp_path_factory.mktemp("data") / "d.h5", train=150, inputs=70)


def run_of(ranks: int, nodes: int, data: str, out: Path, **options: Any) -> Run:
    hidden = {"hidden": [80, 40], "batch_size": 60, "epochs": 2}
    return train_on(ranks, configuration(data, out, **hidden, **options), nodes)


@pytest.mark.parametrize(("ranks", "nodes"), SHAPES)
def test_reproducible_steps_on_any_nodes(ranks: int, nodes: int) -> None:
    """Also with a limit on the norm of the gradient, of which each node knows its slices only."""
    options = {"hidden": [80, 40], "batch_size": 60, "epochs": 2, "reproducible": True, "grain": 7, "dtype": "float32"}
    config = configuration("d.h5", "run", **options, clip_norm=0.05)
    alone = steps_on(1, config, train=150, inputs=70)
    assert steps_on(ranks, config, nodes, train=150, inputs=70).bits == alone.bits
    free = steps_on(1, configuration("d.h5", "run", **options), train=150, inputs=70)
    assert free.w.tobytes() != alone.w.tobytes()


@pytest.mark.parametrize(("ranks", "nodes"), SHAPES)
def test_plain_steps_on_any_nodes(ranks: int, nodes: int, overlap: bool) -> None:
    """Every node ends with the same parameters, up to rounding those of one process; and goes on so."""
    del overlap  # buckets are small now
    options = {"hidden": [80, 40], "batch_size": 60, "momentum": 0.9, "optimizer": "sgd", "learning_rate": 0.01}
    alone = several = None
    for epochs in (2, 3):
        config = configuration("d.h5", "run", **options, epochs=epochs)
        alone = steps_on(1, config, before=alone, train=150, inputs=70)
        several = steps_on(ranks, config, nodes, before=several, train=150, inputs=70)
        np.testing.assert_allclose(several.w, alone.w, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "nodes"), RUNS)
def test_reproducible_runs_on_any_nodes(data: str, tmp_path: Path, ranks: int, nodes: int) -> None:
    """Also with a limit on the norm of the gradient, of which each node knows its slices only."""
    options = {"reproducible": True, "grain": 7, "dtype": "float32", "clip_norm": 0.05}
    alone = run_of(1, 1, data, tmp_path / "alone", **options)
    several = run_of(ranks, nodes, data, tmp_path / "several", **options)
    assert digest(several.state.parameters) == digest(alone.state.parameters)
    for name, vector in alone.state.optimizer.items():
        assert several.state.optimizer[name].tobytes() == vector.tobytes()
    free = run_of(1, 1, data, tmp_path / "free", **{**options, "clip_norm": 0.0})
    assert digest(free.state.parameters) != digest(alone.state.parameters)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "nodes"), RUNS)
def test_plain_runs_on_any_nodes(data: str, tmp_path: Path, ranks: int, nodes: int, overlap: bool) -> None:
    """Every node ends with the same parameters (--drift-steps compares them), up to rounding those of one process."""
    del overlap  # buckets are small now
    options = {"drift_steps": 1, "momentum": 0.9, "optimizer": "sgd", "learning_rate": 0.01}
    alone = run_of(1, 1, data, tmp_path / "alone", **options)
    several = run_of(ranks, nodes, data, tmp_path / "several", **options)
    np.testing.assert_allclose(several.state.vector, alone.state.vector, rtol=1e-9, atol=1e-12)
    again = resumed(ranks, several.config, epochs=3)
    whole = resumed(1, alone.config, epochs=3)
    np.testing.assert_allclose(again.state.vector, whole.state.vector, rtol=1e-9, atol=1e-12)


@pytest.mark.parallel
@pytest.mark.parametrize("how", ["shared", "own", "taken meanwhile"])
def test_real_ranks(comm: Communicator, monkeypatch: pytest.MonkeyPatch, how: str, overlap: bool) -> None:
    """With shared windows, and where there is too little memory to share: then each rank is a node."""
    if how != "shared" and comm.size > 1:
        monkeypatch.setattr("distbp.ranks.mpi.MARGIN_BYTES", 2**62)
    if how == "taken meanwhile":
        monkeypatch.setattr(type(comm), "node_copies", lambda self, size: 1)
    memory = made(comm, overlap=overlap)
    assert len(memory.nodes) == (1 if how == "shared" else comm.size)
    assert len(memory.buckets) == (2 if overlap and len(memory.nodes) > 1 else 1)
    reduction = Reduction(memory, WIDE)
    good = True
    for step in range(50):
        reduction.gradient.vector[:] = np.arange(WIDE.parameter_count) % 1000 + comm.rank + step
        stepped = reduction.reduce(Sums([1.0], 1), Requests(), n=comm.size)
        expected = np.arange(WIDE.parameter_count) % 1000 + (comm.size - 1) / 2 + step
        good &= stepped.samples == comm.size and np.allclose(whole_gradient(memory), expected, rtol=1e-6)
        for bucket in memory.buckets:
            memory.w[bucket.mine] = step
        memory.fence()
        good &= bool((memory.w == step).all())
    reduction.close()
    assert all(comm.allgather(good))
