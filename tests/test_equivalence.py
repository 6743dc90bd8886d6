"""Any number of ranks computes what one computes: ∂L_T/∂w, whole runs, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import configuration, nodes_of, sums_of, train_on, whole_gradient, write_data
from steps import steps_on

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.data.split import read_split
from distbp.engine import shard_gradient as shard_gradient_module
from distbp.engine.evaluate import Evaluation
from distbp.engine.reduction import Reduction
from distbp.engine.step_memory import Contents, StepMemory
from distbp.engine.sums import Requests, Stepped, Sums
from distbp.mathematics.backprop import Piece, backward, forward, loss_sum
from distbp.mathematics.network import Network, Parameters, initialize
from distbp.ranks.communicator import Communicator, run_threads
from distbp.training.train import train

RANKS = (2, 3, 5, 8)
NETWORK = Network.of([4, 5, 3], "tanh", "softmax", "cross_entropy")


def shard_gradient(reduction: Reduction, x: np.ndarray, y: np.ndarray, n: int) -> Stepped:
    """∂L_T/∂w over all ranks from this rank's columns of x and y, of n in all."""
    parameters = Parameters.zeros(NETWORK, np.float64)
    initialize(parameters, NETWORK, seed=3)
    part = Sums([0.0], x.shape[1])
    if x.shape[1] == 0:
        reduction.gradient.vector.fill(0)
    else:
        piece = Piece(NETWORK, x.shape[1], np.float64)
        piece.a[1][...], piece.y[...] = x, y
        forward(NETWORK, parameters, piece)
        part.values[0] = loss_sum(NETWORK, piece)
        backward(NETWORK, parameters, piece, reduction.gradient)
    return reduction.reduce(part, Requests(), n)


@pytest.mark.parametrize("nodes", [1, 2, 5])
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("n", [1, 2, 7, 13])
def test_gradient_is_that_of_the_whole_batch_also_for_uneven_and_empty_shards(ranks: int, n: int, nodes: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((4, n)), np.eye(3)[:, rng.integers(0, 3, n)]

    def on_rank(comm: Communicator) -> tuple[np.ndarray, Sums]:
        mine = slice(n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size)
        memory = StepMemory(comm, Contents(NETWORK, np.float64))
        stepped = shard_gradient(Reduction(memory, NETWORK), x[:, mine], y[:, mine], n)
        return whole_gradient(memory), sums_of(comm, stepped)

    ((alone, total),) = run_threads(1, on_rank)
    for gradient, sums in run_threads(ranks, on_rank, nodes_of(ranks, nodes)):
        np.testing.assert_allclose(gradient, alone, rtol=1e-12, atol=1e-15)
        assert sums.samples == n
        assert sums.values == pytest.approx(total.values, rel=1e-12)


CASES = {
    "nobody divides 7": dict(batch_size=7),
    "a last batch of one sample": dict(batch_size=22),
    "n smaller than the ranks": dict(batch_size=2),
    "gradient descent": dict(batch_size="all"),
    "sgd with momentum and decay": dict(
        optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=1e-3, learning_rate=0.1, schedule="cosine"
    ),
    "no scaling, warm-up": dict(scale="none", warmup_epochs=1.0, optimizer="adamw", weight_decay=0.1),
}


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", CASES)
def test_steps_end_with_the_same_parameters_on_any_number_of_ranks(ranks: int, case: str) -> None:
    config = configuration("d.h5", "run", **CASES[case])
    alone, several = steps_on(1, config), steps_on(ranks, config)
    np.testing.assert_allclose(several.w, alone.w, rtol=1e-9, atol=1e-11)
    for column in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"):
        assert several.history[column] == pytest.approx(alone.history[column], rel=1e-9)
    assert several.samples == 3 * 23


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "case"), [(RANKS[i % len(RANKS)], case) for i, case in enumerate(CASES)])
def test_a_run_ends_with_the_same_parameters_on_any_number_of_ranks(
    data_file: str, tmp_path: Path, ranks: int, case: str
) -> None:
    alone = train_on(1, configuration(data_file, tmp_path / "alone", **CASES[case]))
    several = train_on(ranks, configuration(data_file, tmp_path / "several", **CASES[case]))
    np.testing.assert_allclose(several.state.vector, alone.state.vector, rtol=1e-9, atol=1e-11)
    for column in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"):
        assert several.state.history[column] == pytest.approx(alone.state.history[column], rel=1e-9)
    assert several.state.progress.samples == 3 * 23


@pytest.mark.parametrize("mode", [{}, {"reproducible": True, "grain": 3}], ids=["plain", "reproducible"])
@pytest.mark.parametrize("kind", ["classes", "targets", "binary"])
def test_steps_without_a_run_are_those_of_a_run(tmp_path: Path, kind: str, mode: dict[str, Any]) -> None:
    """To the last bit: what tests find out with `steps_on` is true of runs."""
    options = {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 1.0, "weight_decay": 0.1, **mode}
    config = configuration(write_data(tmp_path / "d.h5", kind=kind), tmp_path / "run", **options)
    run, steps = train_on(2, config).state, steps_on(2, config, kind=kind)
    assert steps.w.tobytes() == run.vector.tobytes()
    for name, vector in run.optimizer.items():
        assert steps.vectors[name].tobytes() == vector.tobytes()
    assert {name: run.history[name].tolist() for name in steps.history} == steps.history


@pytest.mark.parametrize("kind", ["targets", "binary"])
def test_regression_and_binary_too(tmp_path: Path, kind: str) -> None:
    data = write_data(tmp_path / "d.h5", kind=kind)
    loss = "mse" if kind == "targets" else "binary_cross_entropy"
    alone, several = (train_on(r, configuration(data, tmp_path / str(r), loss=loss, batch_size=5)) for r in (1, 3))
    np.testing.assert_allclose(several.state.vector, alone.state.vector, rtol=1e-9, atol=1e-11)


def test_pieces_of_bounded_size_change_nothing(data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_on(1, configuration(data_file, tmp_path / "whole", batch_size="all"))
    monkeypatch.setattr(shard_gradient_module, "piece_samples", lambda network, dtype: 3)
    cut = train_on(2, configuration(data_file, tmp_path / "cut", batch_size="all"))
    np.testing.assert_allclose(cut.state.vector, whole.state.vector, rtol=1e-9, atol=1e-11)


def test_float32_agrees_up_to_rounding(data_file: str, tmp_path: Path) -> None:
    alone, several = (train_on(r, configuration(data_file, tmp_path / str(r), dtype="float32")) for r in (1, 3))
    np.testing.assert_allclose(several.state.vector, alone.state.vector, rtol=1e-3, atol=1e-4)


def test_counts_of_samples_are_exact_beyond_float32() -> None:
    samples = 2**24 + 1  # float32 alone would lose the 1

    def on_rank(comm: Communicator) -> Stepped:
        reduction = Reduction(StepMemory(comm, Contents(NETWORK, np.float32)), NETWORK)
        return reduction.reduce(Sums([1.0], samples), Requests(stop=comm.rank == 1), 3 * samples)

    steps = run_threads(3, on_rank)
    assert [stepped.samples for stepped in steps] == [3 * samples] * 3
    assert [stepped.requests for stepped in steps] == [Requests(stop=1)] * 3


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 16])
def test_evaluation_counts_each_sample_once(data_file: str, ranks: int) -> None:
    problem = Problem(NETWORK, Scaling.none(4), Scaling.none(3), (0, 1, 2))
    parameters = Parameters.zeros(NETWORK, np.float64)
    initialize(parameters, NETWORK, seed=1)

    def on_rank(comm: Communicator) -> tuple[float, float, int]:
        data = read_split(comm, [data_file], "test", "x", "y")
        scores = Evaluation(comm, problem, data, "float64")(parameters)
        return scores.loss, scores.metrics["accuracy"], scores.samples

    ((loss, accuracy, _),) = run_threads(1, on_rank)
    for scores in run_threads(ranks, on_rank):
        assert scores == (pytest.approx(loss, rel=1e-13), accuracy, 11)


@pytest.mark.parallel
def test_real_ranks_train_as_one_process_does(comm: Communicator, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = tmp_path_factory.mktemp("own")  # this rank's own, for the run of one process
    shared = Path(comm.broadcast(str(here)))
    data = str(shared / "data.h5")
    if comm.rank == 0:
        write_data(Path(data), kind="targets")
    comm.allgather(None)
    together = train(comm, configuration(data, shared / "together"))
    alone = train_on(1, configuration(data, here / "alone"))
    np.testing.assert_allclose(together.state.vector, alone.state.vector, rtol=1e-9, atol=1e-11)
    states = comm.allgather(together.state.vector.tobytes())
    assert len(set(states)) == 1, "the ranks do not hold the same parameters"


@pytest.mark.parallel
def test_collectives(comm: Communicator) -> None:
    numbers = np.array([comm.rank, -comm.rank, 1.5])
    for operation, expected in {
        "sum": [sum(range(comm.size)), -sum(range(comm.size)), 1.5 * comm.size],
        "max": [comm.size - 1, 0, 1.5],
        "min": [0, 1 - comm.size, 1.5],
    }.items():
        mine = numbers.copy()
        comm.allreduce(mine, operation)
        assert mine.tolist() == expected
    assert comm.allgather(comm.rank) == list(range(comm.size))
    assert comm.broadcast("first" if comm.rank == 0 else "other") == "first"
    assert comm.gather(comm.rank) == (list(range(comm.size)) if comm.rank == 0 else None)
    assert comm.node_ranks() == list(range(comm.size))
