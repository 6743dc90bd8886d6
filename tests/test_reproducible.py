"""`--reproducible`: the same bits on any number of ranks; and what happens to them when its parts are taken away."""

from __future__ import annotations

from math import fsum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import Notes, StopAt, configuration, resumed, split_of, train_on, write_data
from steps import steps_on

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.engine import grain_sums, reproducible
from distbp.engine.batch_gradient import PlainGradient
from distbp.engine.reproducible import ReproducibleGradient
from distbp.engine.step_memory import Contents, StepMemory
from distbp.engine.sums import Requests
from distbp.engine.work import Work
from distbp.errors import DivergedError, Stopped, UsageError
from distbp.mathematics.backprop import Piece, errors, forward, sample_bytes
from distbp.mathematics.grains import Grains, stride
from distbp.mathematics.network import Network, Parameters, initialize
from distbp.mathematics.numerics import NUMERICS
from distbp.ranks.communicator import Communicator, OneProcess
from distbp.ranks.machine_record import machine
from distbp.ranks.threads import Threads
from distbp.settings.merged import merge
from distbp.training.comparison import digest
from distbp.training.phases import columns
from distbp.training.run import Run
from distbp.training.train import train

RANKS = ((1, 2, 4, 7), (1, 3, 5, 8))  # for one case, and for the next
CLOCKS = ("samples_per_second", "seconds", *columns())
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": dict(optimizer="sgd", momentum=0.9, learning_rate=0.02, weight_decay=1e-3),
    "adam": dict(optimizer="adam", schedule="cosine", weight_decay=1e-3),
    "adamw": dict(optimizer="adamw", weight_decay=0.01, warmup_epochs=1.0),
}
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "mse": ("targets", dict(activation="tanh")),
    "cross-entropy": ("classes", dict(activation="relu")),
}
BATCHES = {  # of 23 samples
    "n divisible": dict(batch_size=8, grain=4),
    "n not divisible": dict(batch_size=7, grain=3),
    "n smaller than the ranks": dict(batch_size=3, grain=1),
    "a last batch of one sample": dict(batch_size=11, grain=4),
    "one grain": dict(batch_size=8, grain=16),
    "many grains": dict(batch_size="all", grain=1),
}


def results(run: Run) -> tuple[str, bytes, dict[str, list[float]]]:
    """All that must not depend on the ranks."""
    state = run.state
    history = {name: values.tolist() for name, values in state.history.items() if name not in CLOCKS}
    rest = b"".join(values.tobytes() for values in state.optimizer.values())
    scaling = [part.tobytes() for of in (state.problem.input, state.problem.target) for part in (of.shift, of.spread)]
    return digest(state.parameters), rest + b"".join(scaling), history


CASES = [  # each value of one with each value of another
    (optimizer, list(LOSSES)[(i + k) % 2], ("float32", "float64")[(i + k // 2) % 2], batches, RANKS[(i + k // 3) % 2])
    for i, optimizer in enumerate(OPTIMIZERS)
    for k, batches in enumerate(BATCHES)
]


@pytest.mark.parametrize("engine", ["auto", "numpy"])
@pytest.mark.parametrize(("optimizer", "loss", "dtype", "batches", "all_ranks"), CASES)
def test_steps_on_any_number_of_ranks(
    optimizer: str, loss: str, dtype: str, batches: str, all_ranks: tuple[int, ...], engine: str
) -> None:
    kind, options = LOSSES[loss]
    options = {**options, **OPTIMIZERS[optimizer], **BATCHES[batches], "dtype": dtype, "reproducible": True}
    config = configuration("d.h5", "run", hidden=[6, 5], epochs=2, engine=engine, **options)
    found = {ranks: steps_on(ranks, config, kind=kind).bits for ranks in all_ranks}
    for ranks in all_ranks:
        assert found[ranks] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "loss", "dtype", "batches", "all_ranks"), CASES[::5])
def test_runs_on_any_number_of_ranks(
    tmp_path: Path, optimizer: str, loss: str, dtype: str, batches: str, all_ranks: tuple[int, ...]
) -> None:
    kind, options = LOSSES[loss]
    data = write_data(tmp_path / "d.h5", kind=kind)
    options = {**options, **OPTIMIZERS[optimizer], **BATCHES[batches], "dtype": dtype, "reproducible": True}
    runs = {
        ranks: results(train_on(ranks, configuration(data, tmp_path / str(ranks), hidden=[6, 5], epochs=2, **options)))
        for ranks in all_ranks
    }
    for ranks in all_ranks:
        assert runs[ranks] == runs[1]


@pytest.mark.slow
@given(
    ranks=st.integers(2, 12),
    n=st.integers(1, 60),
    grain=st.integers(1, 40),
    samples=st.integers(2, 70),
    hidden=st.lists(st.integers(1, 40), max_size=3),
    activation=st.sampled_from(["relu", "gelu", "sigmoid", "leaky_relu", "softplus"]),
    scale=st.sampled_from(["standardize", "minmax", "none"]),
    dtype=st.sampled_from(["float32", "float64"]),
    kind=st.sampled_from(["classes", "targets"]),
    engine=st.sampled_from(["auto", "numpy"]),
)
@settings(max_examples=80)
def test_any_network_and_batch(ranks: int, kind: str, samples: int, n: int, **options: Any) -> None:
    options = {**options, "batch_size": n, "epochs": 1, "reproducible": True, "learning_rate": 0.05}
    config = configuration("d.h5", "run", **options)
    one, many = (steps_on(r, config, kind=kind, train=samples + 20) for r in (1, ranks))
    assert many.bits == one.bits


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "numpy"])
def test_64_ranks_and_grains_that_go_through_products_together(engine: str) -> None:
    options = dict(
        hidden=[64, 32], batch_size=256, grain=16, reproducible=True, dtype="float32", epochs=2, engine=engine
    )
    config = configuration("d.h5", "run", **options)
    found = [steps_on(r, config, train=700, test=300).bits for r in (1, 5, 16, 64)]
    assert all(one == found[0] for one in found)


@pytest.mark.slow
def test_a_run_on_16_ranks(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.h5", train=300, test=60)
    options = dict(hidden=[64, 32], batch_size=256, grain=16, reproducible=True, dtype="float32", epochs=1)
    runs = [results(train_on(r, configuration(data, tmp_path / str(r), **options))) for r in (1, 16)]
    assert runs[0] == runs[1]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exchanged at a time is a matter of speed."""
    options = dict(hidden=[9, 7], batch_size="all", grain=8, reproducible=True, dtype="float32", engine="numpy")
    config = configuration("d.h5", "run", **options)
    whole = steps_on(3, config, train=90).bits
    monkeypatch.setattr(reproducible, "CHUNK", 10)
    assert steps_on(2, config, train=90).bits == whole


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("fit", "together"), [(1, {1}), (3, {2}), (4, {4}), (100, {4, 12})])
def test_small_memory_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, dtype: str, fit: int, together: set[int]
) -> None:
    """How many grains are worked on together is a matter of memory."""
    options = dict(hidden=[9, 7], batch_size="all", grain=8, reproducible=True, dtype=dtype, engine="numpy")
    config = configuration("d.h5", "run", **options)
    whole = steps_on(5, config, train=90).bits
    network, seen = Network.of([4, 9, 7, 3], "relu", "softmax", "cross_entropy"), set()
    monkeypatch.setattr(grain_sums, "ROOM_BYTES", fit * sample_bytes(network, dtype) * stride(8, dtype))

    class Watched(Grains):
        def __init__(self, network: Network, room: Piece, grain: int, lengths: list[int]) -> None:
            seen.add(len(lengths))
            super().__init__(network, room, grain, lengths)

    monkeypatch.setattr(grain_sums, "Grains", Watched)
    for ranks in (1, 3):  # 12 grains, and 4 of each rank
        assert steps_on(ranks, config, train=90).bits == whole
    assert seen == together


@pytest.mark.slow
def test_any_number_of_ranks_with_small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products go to parts of a matrix on one rank, and beside it on another."""
    monkeypatch.setattr(grain_sums, "TILE", (4, 3))
    for dtype in ("float32", "float64"):
        options = dict(hidden=[9, 7], batch_size=44, grain=4, reproducible=True, dtype=dtype, engine="numpy")
        config = configuration("d.h5", "run", **options)
        found = [steps_on(r, config, train=90).bits for r in sorted({*RANKS[0], *RANKS[1]})]
        assert all(one == found[0] for one in found)


def distinct(**options: Any) -> int:
    """How many different results 1, 2, 3, 5 ranks have."""
    config = configuration("d.h5", "run", **options)
    return len({steps_on(r, config, train=90).w.tobytes() for r in (1, 2, 3, 5)})


def test_with_an_allreduce_the_bits_depend_on_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    options = dict(batch_size=45, grain=5, reproducible=True, hidden=[20], activation="tanh", engine="numpy")
    assert distinct(**options) == 1

    def mean(exchange: Any, owned: Any, count: int, n: int) -> None:
        """Each rank's own sum, and then those of the ranks one after another: as an Allreduce may do it."""
        memory = exchange._memory
        memory.fence()
        own = [
            np.add.reduce([sums[i][memory.buckets[0].mine] for i in range(len(nodes))])
            for nodes, sums in zip(owned, memory.sums, strict=True)
            if nodes
        ]
        np.divide(np.add.reduce(own), n, out=exchange.g)
        if len(exchange.g):
            memory.measure(exchange.g, memory.buckets[0].mine.start)
        memory.fence()

    monkeypatch.setattr(reproducible._Exchange, "mean", mean)
    assert distinct(**options) > 1


def test_without_grains_the_bits_depend_on_the_ranks() -> None:
    options = dict(batch_size=45, hidden=[20], activation="tanh", dtype="float32")
    assert distinct(**options) > 1


@pytest.mark.parametrize("ranks", [(1, 3, 2, 8), (5, 1, 4, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stopped_and_resumed_on_other_numbers_of_ranks(tmp_path: Path, ranks: tuple[int, ...], dtype: str) -> None:
    data = write_data(tmp_path / "d.h5", kind="targets")
    options = dict(batch_size=6, grain=2, reproducible=True, dtype=dtype, optimizer="adamw", schedule="cosine")
    whole = train_on(1, configuration(data, tmp_path / "whole", epochs=6, **options))
    config = configuration(data, tmp_path / "parts", epochs=6, **options)
    for part, size in enumerate(ranks):
        stop_at = 6 if part < len(ranks) - 1 else 0  # inside an epoch: 4 steps each
        words = {**StopAt(stop_at).words, **({} if part == 0 else {"resume_with": {}})}
        if stop_at:
            with pytest.raises(Stopped):
                train_on(size, config, **words)
        else:
            assert results(train_on(size, config, **words)) == results(whole)


def test_mode_and_grain_belong_to_the_run(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run", reproducible=True, epochs=1)
    run = train_on(1, config)
    assert (run.config.grain, run.config.batch_size) == (16, 7)
    assert run.threads == Threads(1, "--reproducible")
    again = resumed(3, config, epochs=2)
    assert again.config.grain == 16
    for changes, words in (
        ({"reproducible": False}, "--reproducible: the run has True"),
        ({"grain": 4}, "--grain: the"),
    ):
        with pytest.raises(UsageError, match=words):
            resumed(1, config, epochs=3, **changes)
    with pytest.raises(UsageError, match="--grain 4 needs --reproducible"):
        merge({"grain": 4}, "test")


def notes_of(config: Any, ranks: int, **words: Any) -> str:
    notes = Notes()
    train_on(ranks, config, listener=notes, **words)
    return "\n".join(notes.lines)


def test_ranks_without_work_are_told_once(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run", reproducible=True, grain=4, epochs=1)
    text = notes_of(config, 5)
    assert text.count("2 of 5 ranks have work: batches of n = 7 have 2 grains of 4 samples") == 1
    config = configuration(data_file, tmp_path / "enough", reproducible=True, grain=4, epochs=1)
    assert "ranks have work" not in notes_of(config, 2)


def test_another_machine_is_told_and_recorded(data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine(1)
    config = configuration(data_file, tmp_path / "run", reproducible=True, epochs=1, engine="numpy")
    record = {"step": 0, **here, "engine": "numpy", "numerics": NUMERICS}
    assert train_on(2, config).state.machines == [record]
    assert "bits may differ" not in notes_of(config, 2, resume_with={"epochs": 2})
    monkeypatch.setattr("distbp.training.basis.machine", lambda threads: {**here, "blas": "another 1.0"})
    text = notes_of(config, 1, resume_with={"epochs": 3})
    assert "from here on the bits may differ" in text
    assert f"blas: {here['blas']}, now another 1.0" in text
    again = resumed(1, config, epochs=4)
    assert [one["step"] for one in again.state.machines] == [0, 8]
    assert "# blas: another 1.0" in (tmp_path / "run" / "config.toml").read_text()


def test_another_c_library_is_told(data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With glibc 2.41 softplus has other bits than with 2.36; an older record that did not name it is no difference."""
    here, run = machine(1), tmp_path / "run"
    config = configuration(data_file, run, reproducible=True, epochs=1, engine="numpy")
    old = {name: fact for name, fact in here.items() if name not in ("c_library", "function_bits", "distbp")}
    monkeypatch.setattr("distbp.training.basis.machine", lambda threads: old)
    train_on(1, config)
    monkeypatch.setattr("distbp.training.basis.machine", lambda threads: here)
    text = notes_of(config, 2, resume_with={"epochs": 2})
    assert "bits may differ" not in text
    words = "note      an older version began this run; what it has not recorded is not compared"
    assert text.count(f"{words}: c library, distbp, function bits") == 1
    monkeypatch.setattr("distbp.training.basis.machine", lambda threads: {**here, "c_library": "glibc 2.99"})
    text = notes_of(config, 1, resume_with={"epochs": 3})
    assert f"          c library: {here['c_library']}, now glibc 2.99" in text
    assert "older version" not in text
    assert "# c library: glibc 2.99" in (run / "config.toml").read_text()
    machines = resumed(1, config, epochs=4).state.machines
    assert [(one["step"], one.get("c_library")) for one in machines] == [
        (0, None),
        (4, here["c_library"]),
        (8, "glibc 2.99"),
    ]


def test_ranks_that_are_not_alike_are_told(data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    here = machine(1)

    def by_rank(threads: int) -> dict[str, Any]:
        return {**here, "cpu": "old" if threading.current_thread().name == "rank 2" else "new"}

    monkeypatch.setattr("distbp.training.basis.machine", by_rank)
    text = notes_of(configuration(data_file, tmp_path / "run", reproducible=True, epochs=1, engine="numpy"), 3)
    assert "the ranks are not alike" in text
    assert "cpu: new, now old" in text


@pytest.mark.parametrize("learning_rate", [1e20, 1e38])
def test_a_gradient_that_is_not_finite_is_seen_by_all(tmp_path: Path, learning_rate: float) -> None:
    data = write_data(tmp_path / "d.h5", kind="targets")
    config = configuration(
        data,
        tmp_path / "run",
        reproducible=True,
        dtype="float32",
        optimizer="sgd",
        learning_rate=learning_rate,
        grain=2,
    )
    with pytest.raises(DivergedError, match=r"is not finite|the loss is|would not be finite") as error:
        train_on(3, config)
    assert error.value.agreed


# --- accuracy: the products are compared with sums of exact products --------------------------------------------------
def gradient_of(kind: Any, network: Network, x: np.ndarray, y: np.ndarray, grain: int, dtype: str) -> Parameters:
    """∂L_T/∂w by one of the two ways."""
    problem = Problem(network, Scaling.none(x.shape[1]), Scaling.none(y.shape[1]), None)
    parameters = Parameters.zeros(network, dtype)
    initialize(parameters, network, 0)
    config = SimpleNamespace(dtype=dtype, grain=grain, wire="full")
    data = split_of(x, y)
    work = Work(OneProcess(), config, problem, data, (len(x),))
    memory = StepMemory(OneProcess(), Contents(network, dtype))
    gradient = kind(work, memory, parameters, lambda phase: None)
    gradient(np.arange(len(x)), Requests())
    assert np.isfinite(memory.length.scaled)
    return Parameters(network, gradient.g[0].copy())


def true_gradient(network: Network, x: np.ndarray, y: np.ndarray, grain: int, dtype: str) -> list[Any]:
    """∂L_T/∂W^l from the same d and a, with exact products (of float32, they have 48 bits) and exact sums."""
    parameters = Parameters.zeros(network, dtype)
    initialize(parameters, network, 0)
    d: list[Any] = [[] for _ in range(network.F + 1)]
    a: list[Any] = [[] for _ in range(network.F + 1)]
    for start in range(0, len(x), grain):
        piece = Piece(network, len(x[start : start + grain]), dtype)
        piece.a[1][...], piece.y[...] = x[start : start + grain].T, y[start : start + grain].T
        forward(network, parameters, piece)
        errors(network, parameters, piece)
        for l in range(1, network.F + 1):
            a[l].append(piece.a[l].astype(np.float64))
            if l > 1:
                d[l].append(piece.d[l].astype(np.float64))
    gradient: list[Any] = [None, None]
    for l in range(2, network.F + 1):
        dl, al = np.hstack(d[l]), np.hstack(a[l - 1])
        gradient.append(np.array([[fsum(row * column) / len(x) for column in al] for row in dl]))
    return gradient


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0, 12], ids=["alike", "samples of very different size"])
@pytest.mark.parametrize(("grain", "noise"), [(64, 1.0), (128, 1.0), (256, 1.02)])
def test_at_least_as_accurate_as_the_plain_mode(grain: int, noise: float, spread: int) -> None:
    """Mean over some data sets.  (A BLAS that itself adds up 256 samples at a time has the same error at G = 256.)"""
    network = Network.of([30, 20, 8], "tanh", "identity", "mse")
    measured = np.zeros((4, 2, 2))
    for seed, by_layer in enumerate(measured):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((512, 30)).astype(np.float32)
        y = (rng.standard_normal((512, 8)) * 2.0 ** rng.uniform(-spread, spread, (512, 1))).astype(np.float32)
        for way, (kind, size) in enumerate(((PlainGradient, 512), (ReproducibleGradient, grain))):
            gradient = gradient_of(kind, network, x, y, grain, "float32")
            true = true_gradient(network, x, y, size, "float32")
            for l in (2, 3):
                by_layer[l - 2, way] = np.linalg.norm(gradient.W[l] - true[l]) / np.linalg.norm(true[l])
    for plain, exact in measured.mean(axis=0):
        assert exact <= plain * noise
        assert exact < 1e-6


def test_float64_keeps_the_digits_of_float64() -> None:
    rng = np.random.default_rng(3)
    network = Network.of([30, 20, 8], "tanh", "identity", "mse")
    x, y = rng.standard_normal((512, 30)), rng.standard_normal((512, 8))
    plain = gradient_of(PlainGradient, network, x, y, 512, "float64")
    exact = gradient_of(ReproducibleGradient, network, x, y, 128, "float64")
    np.testing.assert_allclose(exact.vector, plain.vector, rtol=1e-12, atol=1e-15)


def test_the_gradient_is_that_of_the_plain_mode(data_file: str, tmp_path: Path) -> None:
    """Up to rounding, over a whole run, on any number of ranks."""
    options = dict(batch_size=7, learning_rate=0.01, optimizer="sgd", hidden=[6, 5])
    plain = train_on(2, configuration(data_file, tmp_path / "plain", **options))
    exact = train_on(3, configuration(data_file, tmp_path / "exact", reproducible=True, grain=2, **options))
    np.testing.assert_allclose(exact.state.vector, plain.state.vector, rtol=1e-11, atol=1e-13)
    assert exact.state.history["train_loss"] == pytest.approx(plain.state.history["train_loss"], rel=1e-12)


def test_dead_layers_give_zero(tmp_path: Path) -> None:
    """All relu neurons off: d^2 = 0, and its gradient is 0, not a number of a wrong size."""
    network = Network.of([4, 5, 3], "relu", "identity", "mse")
    x, y = -np.ones((20, 4), np.float32), np.ones((20, 3), np.float32)
    problem = Problem(network, Scaling.none(4), Scaling.none(3), None)
    parameters = Parameters.zeros(network, "float32")
    parameters.W[2].fill(1.0)
    parameters.W[3].fill(1e-30)
    config: Any = SimpleNamespace(dtype="float32", grain=8)
    work = Work(OneProcess(), config, problem, split_of(x, y), (20,))
    memory = StepMemory(OneProcess(), Contents(network, "float32"))
    gradient = ReproducibleGradient(work, memory, parameters, lambda phase: None)
    gradient(np.arange(20), Requests())
    g = Parameters(network, gradient.g[0])
    assert not g.W[2].any()
    np.testing.assert_allclose(g.b[3], np.full(3, -2 / 3), rtol=1e-6)


@pytest.mark.parametrize("way", [False, True], ids=["plain", "reproducible"])
def test_losses_too_large_for_float64(tmp_path: Path, way: bool) -> None:
    data = str(tmp_path / "d.h5")
    rng = np.random.default_rng(0)
    with h5py.File(data, "w") as file:
        for split, size in (("train", 1.0), ("test", 2e153)):
            file[f"{split}/x"] = rng.standard_normal((100, 3))
            file[f"{split}/y"] = rng.standard_normal((100, 2)) * size
    run = train_on(2, configuration(data, tmp_path / "run", hidden=[5], epochs=1, scale="none", reproducible=way))
    assert run.state.history["validation_loss"] == [np.inf]


def test_a_grain_larger_than_the_batch_takes_no_memory(data_file: str, tmp_path: Path) -> None:
    runs = [
        train_on(r, configuration(data_file, tmp_path / f"{r}-{grain}", reproducible=True, grain=grain))
        for r in (1, 2)
        for grain in (7, 2**53)
    ]
    assert len({digest(run.state.parameters) for run in runs}) == 1


@pytest.mark.parallel
def test_real_ranks_have_the_bits_of_one_process(
    comm: Communicator, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproducible, "CHUNK", 300)  # several, the last one short
    here = tmp_path_factory.mktemp("own")
    shared = Path(comm.broadcast(str(here)))
    data = str(shared / "data.h5")
    if comm.rank == 0:
        write_data(Path(data), train=150, kind="targets")
    comm.allgather(None)
    for dtype in ("float32", "float64"):
        options = dict(hidden=[33, 20], batch_size=64, grain=8, reproducible=True, dtype=dtype)
        together = train(comm, configuration(data, shared / f"together-{dtype}", **options))
        alone = train_on(1, configuration(data, here / f"alone-{dtype}", **options))
        assert results(together) == results(alone)
