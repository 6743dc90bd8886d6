"""Sums over nodes: exact, or with 16 bits a number on the wire, where nothing is lost over the steps."""

from __future__ import annotations

import math
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from runs import Runner, configuration, train_on, write_data

from distbp.engine import exchange as module
from distbp.engine.exchange import Exchange, RoundedExchange
from distbp.engine.planned_rank import PlannedRank
from distbp.errors import UsageError
from distbp.mathematics.arena import CountingArena
from distbp.mathematics.rounding import HEAD, ROUNDINGS
from distbp.ranks.background import Background
from distbp.ranks.communicator import Communicator, OneProcess, run_threads

BITS = {"float16": 11, "bfloat16": 8}
rng = np.random.default_rng(5)


def rounded(numbers: np.ndarray, bits: int, floor: int) -> np.ndarray:
    """To the nearest with so many bits, ties to even; never finer than 2^floor."""
    exact = numbers.astype(np.float64)
    _, exponents = np.frexp(exact)
    unit = np.ldexp(1.0, np.maximum(exponents - bits, floor))
    return np.rint(exact / unit) * unit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1.0, 3e38])
@pytest.mark.parametrize("name", BITS)
def test_rounding_is_to_nearest_at_any_scale(name: str, scale: float, dtype: type) -> None:
    numbers = (rng.uniform(-1, 1, 70_000) * 10.0 ** rng.integers(-8, 1, 70_000) * scale).astype(dtype)
    numbers[:5] = 0.0, scale, -scale, scale * (1 + 2**-9), scale * (1 + 2**-12)  # ties, and the largest
    message = np.empty(len(numbers) + HEAD, np.uint16)
    ROUNDINGS[name].encode(numbers, message)
    found = np.empty_like(numbers)
    ROUNDINGS[name].decode(message, found)
    _, top = math.frexp(float(np.abs(numbers).max()))
    floor = top - 39 if name == "float16" else -2000  # float16 has no finer numbers, at this scale
    expected = rounded(numbers, BITS[name], floor)
    if dtype == np.float64:  # by way of float32
        np.testing.assert_allclose(found, expected, rtol=2.0 ** (1 - BITS[name]), atol=2.0 ** (top - 39))
    else:
        assert found.astype(np.float64).tolist() == expected.tolist()
    if scale < 1e38:
        once = found.copy()
        ROUNDINGS[name].decode(message, found, add=True)
        np.testing.assert_array_equal(found, 2 * once)


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_so(name: str, value: float) -> None:
    numbers = np.array([1.0, value, 0.0], np.float32)
    message = np.zeros(3 + HEAD, np.uint16)
    ROUNDINGS[name].encode(numbers, message)
    ROUNDINGS[name].decode(message, numbers)
    assert not np.isfinite(numbers).any()


@pytest.mark.parametrize("chunk", [2**20, 100])
@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("peers", [2, 3, 8])
def test_full_width_is_the_sum(peers: int, length: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    arrays = rng.standard_normal((peers, length)).astype(np.float32)

    def on_rank(comm: Communicator) -> np.ndarray:
        array = arrays[comm.rank].copy()
        Exchange(comm, array)()
        return array

    for found in run_threads(peers, on_rank):
        assert found.tobytes() == reduce(np.add, arrays).tobytes()  # in the order of the peers


@pytest.mark.parametrize("chunk", [2**20, 100])
@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("peers", [pytest.param(2, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("name", BITS)
def test_nothing_is_lost_over_the_steps(
    name: str, peers: int, length: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum over the steps is off by what one step leaves, however many steps there are; without feedback by more."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    steps = 32
    gradients = rng.uniform(0.5, 1.0, (peers, length)).astype(np.float32)  # the same in each step: the worst case

    def on_rank(comm: Communicator) -> tuple[np.ndarray, np.ndarray]:
        array, plain = gradients[comm.rank].copy(), gradients[comm.rank].copy()
        exchange, total, first = RoundedExchange(comm, array, ROUNDINGS[name]), np.zeros(length), plain
        for step in range(steps):
            array[:] = gradients[comm.rank]
            exchange()
            if step == 0:
                first = array.copy()
            total += array
        return total, first

    exact = gradients.sum(axis=0, dtype=np.float64)
    found = run_threads(peers, on_rank)
    for total, first in found:
        assert total.tobytes() == found[0][0].tobytes()  # all peers have the same
        unit = 2.0 ** -BITS[name]
        assert np.abs(first - exact).max() <= 2 * unit * exact.max()
        assert np.abs(total - steps * exact).max() <= 4 * unit * exact.max()
        if length == 1000:
            assert np.abs(first * steps - steps * exact).max() > 4 * unit * exact.max()


@pytest.mark.parametrize("name", BITS)
def test_a_gradient_that_is_not_finite_does_not_spoil_the_next(name: str) -> None:
    def on_rank(comm: Communicator) -> tuple[bool, np.ndarray]:
        array = np.full(50, 1.0 + comm.rank, np.float32)
        exchange = RoundedExchange(comm, array, ROUNDINGS[name])
        if comm.rank == 1:
            array[40] = np.nan
        with np.errstate(all="ignore"):
            exchange()
        was_finite = bool(np.isfinite(array).all())
        array[:] = 1.0 + comm.rank
        exchange()
        return was_finite, array

    for was_finite, array in run_threads(3, on_rank):
        assert not was_finite
        assert array.tolist() == [6.0] * 50


def test_memory_is_as_foreseen() -> None:
    for peers in (2, 5):
        for length in (10, 3 * 2**20 + 5):

            def on_rank(comm: Communicator, length: int = length) -> tuple[int, int]:
                array = np.zeros(length, np.float32)
                full, small = Exchange(comm, array), RoundedExchange(comm, array, ROUNDINGS["float16"])
                return sum(b.nbytes for b in full._buffers), small._left.nbytes + sum(
                    b.nbytes for bs in small._buffers for b in bs
                )

            for full, small in run_threads(peers, on_rank):
                counted, of_small = CountingArena(), CountingArena()
                planned, array = PlannedRank(0, [[peer] for peer in range(peers)]), np.zeros(length, np.float32)
                Exchange(planned, array, counted)
                RoundedExchange(planned, array, ROUNDINGS["float16"], of_small)
                assert (full, small) == (counted.bytes, of_small.bytes)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("wire", BITS)
def test_training_goes_as_without(wire: str, overlap: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbp.engine.step_memory.BUCKET_BYTES", 4)
    data = write_data(tmp_path / "d.h5", train=150, inputs=70)
    options = dict(hidden=[80, 40], batch_size=60, epochs=6, optimizer="sgd", momentum=0.9, learning_rate=0.05)
    runs = {
        name: train_on(5, configuration(data, tmp_path / name, wire=name, overlap=overlap, drift_steps=1, **options), 2)
        for name in ("full", wire)
    }
    losses = [run.state.history["train_loss"].tolist() for run in runs.values()]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[1] != losses[0]
    assert losses[0][-1] < losses[0][0] / 2


def test_16_bits_and_the_same_bits_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--wire float16 does not go with --reproducible"):
        configuration("d.h5", tmp_path, wire="float16", reproducible=True)


def test_the_user_is_told_where_there_is_one_node(tmp_path: Path, runner: Runner) -> None:
    data = write_data(tmp_path / "d.h5")
    done = runner.distbp("train", data, "--wire", "bfloat16", "--epochs", "1", "--out", "run")
    assert done.returncode == 0
    assert "--wire bfloat16 changes nothing: all ranks are on one node" in done.stdout


@pytest.mark.parallel
def test_in_the_background_on_real_ranks(comm: Communicator) -> None:
    background = Background(comm)
    array = np.empty(300_000, np.float32)
    exchange = Exchange(background.comm, array)
    good = True
    for step in range(20):
        array[:] = comm.rank + step
        background.start(exchange)
        total = np.ones(1)
        comm.allreduce(total)  # meanwhile, by another thread
        background.wait()
        good &= total[0] == comm.size and bool((array == sum(range(comm.size)) + step * comm.size).all())
    background.close()
    assert all(comm.allgather(good))


def test_numbers_overflow_in_the_background_as_they_do_here() -> None:
    large = np.full(3, 3e38, np.float32)

    def overflow() -> None:
        np.add(large, large)

    background = Background(OneProcess())
    with np.errstate(over="ignore"):
        background.start(overflow)
    background.wait()
    with np.errstate(over="raise"):
        background.start(overflow)
    with pytest.raises(FloatingPointError):
        background.wait()
    background.close()


def test_an_error_in_the_background_is_raised_where_it_is_waited_for() -> None:
    background = Background(OneProcess())
    done = []
    background.start(lambda: done.append("before"))
    background.start(lambda: [][1])
    background.start(lambda: done.append("after"))  # would wait for ranks that are elsewhere, or break what they do
    with pytest.raises(IndexError):
        background.wait()
    background.wait()
    background.close()
    assert done == ["before"]


def test_a_collective_that_nobody_waits_for_ends() -> None:
    class Alone(OneProcess):
        def patiently(self, pause):  # type: ignore[no-untyped-def]
            self.pause = pause
            return self

    alone = Alone()
    background = Background(alone)

    def for_ever() -> None:
        while True:
            alone.pause()

    background.start(for_ever)
    waiting = background._under_way[0]
    background.close()
    with pytest.raises(RuntimeError, match="nobody waits"):
        waiting.result(timeout=10)
