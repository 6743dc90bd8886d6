"""Outputs computed in C are those of NumPy, and their bits depend neither on the other rows nor on the threads."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import threading
from typing import Any

import numpy as np
import pytest
from compiled_cases import Guarded, kinds
from engine_tests import settings

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.engine.compiled_outputs import CompiledOutputs, why_no_compiled_outputs
from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.network import Network, Parameters, initialize
from distbp.model import model as of_model
from distbp.model.model import Model
from distbp.prediction.network_outputs import NumpyOutputs
from distbp.training.state import Checkpoint

pytestmark = pytest.mark.skipif(not kinds(), reason="the compiled step was not built")

HIDDEN = sorted(name for name, sigma in ACTIVATIONS.items() if not sigma.is_over_classes)
HEADS = [
    ("softmax", "cross_entropy", 3),
    ("sigmoid", "binary_cross_entropy", 1),
    ("sigmoid", "mse", 3),
    ("identity", "mse", 2),
]
TYPES = ["f2", "f4", "f8", "g", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", ">f2", ">f4", ">f8", ">i2", ">u4"]
NEAR = {"float32": 1e-6, "float64": 1e-12}
SECONDS = 60

kind = pytest.mark.parametrize("kind", kinds())
dtypes = pytest.mark.parametrize("dtype", NEAR)


def problem_of(sizes: list[int], activation: str, output: str, loss: str, *, is_scaled: bool = False) -> Problem:
    rng, n, n_F = np.random.default_rng(2), sizes[0], sizes[-1]
    network = Network.of(sizes, activation, output, loss)
    if not is_scaled:
        return Problem(network, Scaling.none(n), Scaling.none(n_F), None)
    target = Scaling(rng.random(n_F), 0.5 + rng.random(n_F)) if output == "identity" else Scaling.none(n_F)
    return Problem(network, Scaling(rng.random(n), 0.5 + rng.random(n)), target, None)


def parameters_of(problem: Problem, dtype: str) -> Parameters:
    parameters = Parameters.zeros(problem.network, dtype)
    initialize(parameters, problem.network, 3, "glorot")
    for b in parameters.b[2:]:
        b += np.linspace(-0.5, 0.5, len(b)).astype(b.dtype)
    return parameters


def rows(count: int, n: int, dtype: str = "float32") -> np.ndarray:
    x = np.random.default_rng(5).standard_normal((count, n)) * 3
    return (np.abs(x) if np.dtype(dtype).kind in "u" else x).astype(dtype)


def room_for(problem: Problem, dtype: str, N: int) -> np.ndarray:
    return np.full((N, problem.network.sizes[-1]), np.nan, dtype if problem.target.is_none else np.float64)


def compute(outputs: Any, problem: Problem, dtype: str, x: np.ndarray, threads: int = 1) -> np.ndarray:
    out = room_for(problem, dtype, len(x))
    assert outputs(x, out, threads)
    outputs.close()
    return out


def check_near(found: np.ndarray, truth: np.ndarray, dtype: str) -> None:
    assert found.dtype == truth.dtype
    assert abs(found - truth).max() <= NEAR[dtype] * max(1.0, abs(truth).max())


@kind
@dtypes
@pytest.mark.parametrize(
    ("activation", "head", "is_scaled"),
    [(activation, HEADS[i % 4], i % 3 > 0) for i, activation in enumerate(HIDDEN)]
    + [("tanh", head, is_scaled) for head in HEADS for is_scaled in (False, True)],
)
def test_every_network_has_the_outputs_of_numpy(
    kind: str, dtype: str, activation: str, head: tuple[str, str, int], is_scaled: bool
) -> None:
    output, loss, n_F = head
    problem = problem_of([5, 7, 4, n_F], activation, output, loss, is_scaled=is_scaled)
    parameters, x = parameters_of(problem, dtype), rows(67, 5)
    truth = compute(NumpyOutputs(problem, parameters, dtype), problem, dtype, x)
    check_near(compute(CompiledOutputs(kinds()[kind], problem, parameters), problem, dtype, x), truth, dtype)


@dtypes
@pytest.mark.parametrize("is_scaled", [False, True])
@pytest.mark.parametrize("source", TYPES)
def test_rows_of_any_type(source: str, is_scaled: bool, dtype: str) -> None:
    problem = problem_of([6, 5, 3], "tanh", "softmax", "cross_entropy", is_scaled=is_scaled)
    parameters, x = parameters_of(problem, dtype), rows(41, 6, source)
    outputs = CompiledOutputs(next(iter(kinds().values())), problem, parameters)
    truth = compute(NumpyOutputs(problem, parameters, dtype), problem, dtype, x)
    for N in (1, 4, 5, 41):
        check_near(compute(outputs, problem, dtype, x[:N]), truth[:N], dtype)


@dtypes
@pytest.mark.parametrize("source", ["float32", "float64", "int16"])
def test_the_bits_of_a_row_are_its_own(source: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They depend neither on the other rows, nor on where these lie, on threads, or on pieces."""
    monkeypatch.setattr("distbp.engine.compiled_outputs.LEAST_WORK", 0)
    problem = problem_of([21, 9, 3], "gelu", "softmax", "cross_entropy", is_scaled=True)
    parameters, x = parameters_of(problem, dtype), rows(600, 21, source)
    lib = next(iter(kinds().values()))
    truth = compute(CompiledOutputs(lib, problem, parameters), problem, dtype, x)
    monkeypatch.setattr("distbp.engine.compiled_outputs.CACHED", 1)
    outputs = CompiledOutputs(lib, problem, parameters)
    assert compute(outputs, problem, dtype, x).tobytes() == truth.tobytes()
    for N, threads in ((1, 1), (2, 3), (5, 1), (31, 2), (33, 1), (130, 3), (600, 2)):
        assert compute(outputs, problem, dtype, x[-N:], threads).tobytes() == truth[-N:].tobytes()
    wide = np.zeros((600, 50), source)
    wide[:, 3:45:2] = x
    shifted = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    shifted[:] = x
    for same in (
        wide[:, 3:45:2],
        np.asfortranarray(x),
        x[::-1].copy()[::-1],
        x.astype(x.dtype.newbyteorder()),
        shifted,
    ):
        assert compute(outputs, problem, dtype, same).tobytes() == truth.tobytes()
        assert compute(outputs, problem, dtype, same[:2]).tobytes() == truth[:2].tobytes()


@kind
@dtypes
def test_nothing_is_written_outside(kind: str, dtype: str) -> None:
    for n, hidden, n_F in itertools.product((1, 7, 16, 70), ([], [1], [19, 33]), (1, 17)):
        problem = problem_of([n, *hidden, n_F], "relu", "identity", "mse", is_scaled=n == 7)
        parameters = parameters_of(problem, dtype)
        for N, threads in ((1, 1), (5, 2), (16, 1), (33, 3), (300, 2)):
            arena, x = Guarded(), rows(N, n)
            outputs = CompiledOutputs(kinds()[kind], problem, parameters, arena)
            outputs.take_room(N, threads)
            around = np.full((N + 2, n_F), 7.0, room_for(problem, dtype, 0).dtype)
            assert outputs(x, around[1:-1], threads)
            outputs.close()
            arena.check()
            assert (around[[0, -1]] == 7.0).all()
            truth = compute(NumpyOutputs(problem, parameters, dtype), problem, dtype, x)
            check_near(around[1:-1], truth, dtype)


@kind
@dtypes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_told(bad: float, dtype: str, kind: str) -> None:
    problem = problem_of([5, 7, 3], "relu", "softmax", "cross_entropy")
    parameters = parameters_of(problem, dtype)
    parameters.W[2][:, 3] = -1.0  # times ∞ it is -∞, of which relu makes 0
    parameters.W[2][:, 2] = 0.0
    outputs = CompiledOutputs(kinds()[kind], problem, parameters)
    for N, row, column in itertools.product((1, 3, 40, 400), (0, -1), (0, 2, 3)):
        x = rows(N, 5)
        x[row, column] = bad
        assert not outputs(x, room_for(problem, dtype, N))
        assert outputs(rows(N, 5), room_for(problem, dtype, N))  # nothing of that is left


def test_a_function_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network.of([5, 7, 3], "gelu", "softmax", "cross_entropy")
    assert why_no_compiled_outputs(network) == ""
    monkeypatch.setattr("distbp.engine.compiled_outputs.SIGMAS", ("relu", "softmax"))
    assert why_no_compiled_outputs(network) == "the compiled step has no activation gelu"


def model_of(*hidden: int, engine: str = "auto") -> Model:
    problem = problem_of([40, *hidden, 3], "tanh", "softmax", "cross_entropy", is_scaled=True)
    problem = Problem(problem.network, problem.input, problem.target, (0, 1, 2))
    config = settings("cross_entropy", dtype="float32", hidden=list(hidden), engine=engine)
    return Model(Checkpoint(config, problem, parameters_of(problem, "float32").vector))


def test_the_engine_of_the_run_is_kept() -> None:
    x, found = rows(20, 40), []
    for engine, type_ in (("auto", CompiledOutputs), ("compiled", CompiledOutputs), ("numpy", NumpyOutputs)):
        model = model_of(7, engine=engine)
        found.append(model.predict_proba(x))
        assert [type(room) for room in model._rooms] == [type_]
    check_near(found[0], found[2], "float32")
    assert found[0].tobytes() == found[1].tobytes()


def test_threads_and_forks_share_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads of their own in each call, and in children that were forked meanwhile."""
    monkeypatch.setattr(of_model, "MUCH_WORK", 2**16)
    monkeypatch.setattr(of_model, "blas_threads", lambda: 2)
    model, x, sizes = model_of(30), rows(900, 40), (1, 3, 900, 40, 256)
    truth = {N: model_of(30).predict_proba(x[:N]).tobytes() for N in sizes}

    def is_right(turns: int) -> bool:
        return all(model.predict_proba(x[:N]).tobytes() == truth[N] for _ in range(turns) for N in sizes)

    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(is_right(20)), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        child = os.fork()
        if not child:
            signal.alarm(SECONDS)
            os._exit(0 if is_right(3) and pickle.loads(pickle.dumps(model)).digest == model.digest else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for thread in threads:
        thread.join(SECONDS)
    assert found == [True] * 3
