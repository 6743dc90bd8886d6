"""The memory a run is said to take: what the code takes, what a process has at its peak, and refusals in time."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, check_error, configuration, prepared, train_on, write_data

from distbp.data.problem import unscaled_output
from distbp.engine.evaluate import evaluation_bytes
from distbp.engine.feed import Feed, feed_bytes
from distbp.engine.reproducible import reproducible_bytes
from distbp.engine.shard_gradient import shard_gradient_bytes
from distbp.engine.sums import Requests
from distbp.engine.work import optimizer_of
from distbp.errors import CheckpointError, TooLargeError
from distbp.mathematics.backprop import CACHE_LINE, Piece, piece_bytes
from distbp.mathematics.network import Network, parameter_bytes
from distbp.mathematics.optimizers.adam import Adam
from distbp.mathematics.optimizers.sgd import SGD
from distbp.prediction.predict import _Outputs, prediction_bytes
from distbp.prediction.trained import Use, load
from distbp.ranks import memory_plan
from distbp.ranks.communicator import Communicator, OneProcess, run_threads
from distbp.ranks.memory_plan import MemoryPlan, RankPlan, Term
from distbp.ranks.node_memory import in_units
from distbp.training.checkpoint import outline, read, write_bytes

MIB = 2**20

START = """
import json, os, sys, threading
from distbp.ranks.launch import Launch
from distbp.ranks.node_memory import taken_bytes
comm = Launch(os.environ).connect()
peak, done = [0], threading.Event()
def watch():
    while not done.wait(0.005):
        peak[0] = max(peak[0], taken_bytes())
thread = threading.Thread(target=watch)
thread.start()
"""
END = """
done.set()
thread.join()
peaks = comm.gather(peak[0])
"""
MEASURED = f"""{START}
from distbp.config import merge
from distbp.training.train import train
run = train(comm, merge(json.loads(sys.argv[1]), "test"))
{END}if comm.rank == 0:
    print(json.dumps([run.plan.nodes[0].needed, sum(peaks), run.training.in_memory]))
"""

MEASURED_IN_USE = f"""{START}
from pathlib import Path
from distbp.engine.evaluate import Evaluation
from distbp.prediction.memory_plan import evaluation_terms, prediction_terms
from distbp.prediction.predict import predict
from distbp.prediction.trained import Use, load
name, checkpoint, split, memory = sys.argv[1:]
is_evaluated = name == "evaluate"
work = evaluation_terms if is_evaluated else prediction_terms
used = load(comm, checkpoint, Use((), split, targets=is_evaluated, work=work, memory=float(memory)))
if is_evaluated:
    Evaluation(comm, used.state.problem, used.data, used.state.config.dtype)(used.state.parameters)
else:
    predict(comm, used.state, used.data, Path(name))
{END}if comm.rank == 0:
    print(json.dumps([used.plan.nodes[0].needed, sum(peaks), used.data.in_memory]))
"""


def piece_size(piece: Piece) -> int:
    return memory_of(*piece.a, *piece.z, *piece.d, *piece.s, piece.y, piece.ones)


def memory_of(*arrays: Any) -> int:
    """Bytes of the memory that arrays are views of, each once; not what aligns them to cache lines."""
    memory = {}
    for array in arrays:
        while array is not None and array.base is not None:
            array = array.base
        if array is not None:
            memory[array.ctypes.data] = array.nbytes - CACHE_LINE
    return sum(memory.values())


def feed_size(feed: Feed) -> int:
    """Bytes of what grows with the samples."""
    columns = [one._raw for one in (feed._x, feed._y) if one is not None and one._raw is not None]
    labels = [feed._taken, feed._numbers] if feed._is_labelled else []
    return sum(array.nbytes for array in (*columns, *labels))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pieces_and_optimizers(dtype: str) -> None:
    network = Network.of([7, 5, 9, 2], "relu", "identity", "mse")
    assert piece_bytes(network, 11, dtype) == piece_size(Piece(network, 11, dtype))
    assert parameter_bytes(network, dtype) == (7 * 5 + 5 + 5 * 9 + 9 + 9 * 2 + 2) * int(dtype[5:]) // 8
    for optimizer in (SGD(), SGD(0.9), Adam()):
        assert list(optimizer.init(np.zeros(3))) == list(optimizer.vectors)
    assert write_bytes(network, has_vectors=False) == 5 * 9
    assert write_bytes(network, has_vectors=True) == 7 * 5 + 5 + 5 * 9 + 9 + 9 * 2 + 2


@pytest.mark.parametrize("kind", ["classes", "targets"])
@pytest.mark.parametrize("most", [1024, 4])
def test_gradient_and_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, most: int) -> None:
    """With a shard in one piece, or in several."""
    monkeypatch.setattr("distbp.mathematics.backprop.PIECE_SAMPLES", most)
    config = configuration(write_data(tmp_path / "d.h5", kind=kind), tmp_path / "run", dtype="float32")
    run = prepared(OneProcess(), config)
    network = run.problem.network
    assert run.validation is not None
    evaluation = run.engine.evaluation(run.validation)
    shard = run.engine._gradient._shard_gradient  # type: ignore[attr-defined]
    assert shard_gradient_bytes(network, run.training, 7, 1, "float32") == {
        "activations": piece_size(shard._room),
        "feed": feed_size(shard._feed),
        "sums": shard._more.vector.nbytes if shard._more else 0,
    }
    assert (shard._more is not None) == (most == 4)
    assert feed_bytes(run.training, shard._room.m, "float32") > 0
    assert run.validation is not None
    held = piece_size(evaluation._piece) + feed_size(evaluation._feed) + 3 * 8 * evaluation._blocks
    assert evaluation_bytes(network, run.validation, "float32") == held


@pytest.mark.parametrize("room", [2**28, 1])
@pytest.mark.parametrize(("ranks", "n", "grain"), [(1, 96, 4), (2, 100, 4), (3, 100, 4), (5, 64, 3), (8, 6, 3)])
def test_reproducible_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, n: int, grain: int, room: int
) -> None:
    """The vectors that are really there after whole batches and a short one, on every rank."""
    monkeypatch.setattr("distbp.engine.reproducible.ROOM_BYTES", room)
    options = {"reproducible": True, "grain": grain, "batch_size": n, "hidden": [6, 5], "dtype": "float32"}
    config = configuration(write_data(tmp_path / "d.h5", train=223), tmp_path / "run", **options)

    def on_rank(comm: Communicator) -> tuple[dict[str, int], dict[str, int]]:
        run = prepared(comm, config)
        gradient = run.engine._gradient  # type: ignore[attr-defined]
        for batch in run.loader.batches(0, 0):
            run.engine.gradient(batch, Requests())
        network = run.problem.network
        said = reproducible_bytes(network, run.training, n, grain, comm.rank, comm.size, "float32")
        own = [parameters.vector for (_, at), parameters in gradient._sums.items() if at] + gradient._spare
        return said, {
            "activations": piece_size(gradient._room),
            "feed": feed_size(gradient._feed),
            "sums": sum(array.nbytes for array in own),
            "trial": said["trial"],
        }

    for said, there in run_threads(ranks, on_rank):
        assert said == there


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "d.h5"
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for split, count in (("few", 200), ("train", 24000), ("test", 100)):
            file[f"{split}/x"] = rng.standard_normal((count, 784), dtype=np.float32)
            file[f"{split}/y"] = np.arange(count) % 10
    return path


WIDE = {"split": "few", "hidden": [1800, 1800], "batch_size": 100, "epochs": 1}
LONG = {"hidden": [32], "batch_size": 512, "epochs": 1}
WINDOWS = {**LONG, "memory": 0.12, "shuffle_window": 8000}


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        (0, {**WIDE, "optimizer": "adam"}),
        (0, {**WIDE, "optimizer": "sgd", "reproducible": True, "grain": 8}),
        (2, {**WIDE, "optimizer": "adam", "reproducible": True}),
        (2, {**WIDE, "optimizer": "sgd"}),
        (2, LONG),
        (0, {**WINDOWS, "memory": 0.07}),
        (2, {**WINDOWS, "memory": 0.07}),
    ],
)
def test_the_estimate_is_near_the_measured_peak(
    runner: Runner, samples: Path, ranks: int, options: dict[str, Any]
) -> None:
    config = {**options, "data": [str(samples)], "out": "run"}
    result = runner.run(sys.executable, "-c", MEASURED, json.dumps(config), ranks=ranks)
    assert result.returncode == 0, result.stderr
    estimate, peak, in_memory = json.loads(result.stdout.splitlines()[-1])
    assert in_memory == ("memory" not in options)
    print(f"{ranks} {options}: estimate {estimate / MIB:.0f} MiB, measured {peak / MIB:.0f} MiB")
    assert 0.9 * peak < estimate < 1.25 * peak + 10 * MIB * max(1, ranks)


@pytest.fixture(scope="module")
def trained(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints: a wide network, with the vectors of adam; a small one; one with many outputs and data of its own."""
    here = tmp_path_factory.mktemp("trained")
    with h5py.File(here / "targets.h5", "w") as file:
        for split, count in (("train", 50), ("test", 70_000)):
            x = np.random.default_rng(2).standard_normal((count, 8), dtype=np.float32)
            file[f"{split}/x"], file[f"{split}/y"] = x, np.tile(x, 8)
    options: dict[str, Any] = {"epochs": 0, "validation_split": "", "dtype": "float32"}
    train_on(1, configuration(str(samples), here / "wide", **options, split="few", hidden=[2000, 2000]))
    train_on(1, configuration(str(samples), here / "small", **options, split="few", hidden=[32]))
    train_on(1, configuration(str(here / "targets.h5"), here / "outputs", **options))
    return {name: str(here / name / "checkpoint-0000000000.h5") for name in ("wide", "small", "outputs")}


@pytest.mark.parametrize(
    ("ranks", "name", "checkpoint", "split", "memory"),
    [
        (0, "evaluate", "wide", "few", 0),
        (0, "evaluate", "small", "train", 0),
        (0, "evaluate", "small", "train", 0.01),
        (0, "p.csv", "outputs", "test", 0),
        pytest.param(2, "evaluate", "wide", "few", 0, marks=pytest.mark.one_mpi),
        pytest.param(2, "p.h5", "outputs", "test", 0.001, marks=pytest.mark.one_mpi),
    ],
)
def test_the_estimate_is_near_the_measured_peak_in_use(
    runner: Runner, trained: dict[str, str], ranks: int, name: str, checkpoint: str, split: str, memory: float
) -> None:
    words = [name, trained[checkpoint], split, str(memory)]
    result = runner.run(sys.executable, "-c", MEASURED_IN_USE, *words, ranks=ranks)
    assert result.returncode == 0, result.stderr
    estimate, peak, in_memory = json.loads(result.stdout.splitlines()[-1])
    assert in_memory == (not memory)
    print(f"{ranks} {words}: estimate {estimate / MIB:.0f} MiB, measured {peak / MIB:.0f} MiB")
    assert 0.9 * peak < estimate < 1.25 * peak + 10 * MIB * max(1, ranks)


def test_an_outline_is_that_of_the_checkpoint(trained: dict[str, str], tmp_path: Path) -> None:
    for name, path in trained.items():
        found, whole = outline(Path(path)), read(Path(path))
        assert (found.config, found.network) == (whole.config, whole.problem.network)
        assert found.target.is_none == whole.problem.target.is_none == (name != "outputs")
        vectors = [whole.vector, *whole.optimizer.values()]
        assert sum(vector.nbytes for vector in vectors) < found.bytes == Path(path).stat().st_size
    shutil.copy(trained["outputs"], tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        config = json.loads(file.attrs["config"])
        file.attrs["config"] = np.bytes_(json.dumps({**config, "hidden": [10**9]}))
    with pytest.raises(CheckpointError, match=r"the parameters of 8-1000000000-64, .* alone are \d+ bytes"):
        outline(tmp_path / "c.h5")


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("checkpoint", ["small", "outputs"])
def test_what_predictions_take(trained: dict[str, str], checkpoint: str, ranks: int) -> None:
    def on_rank(comm: Communicator) -> None:
        used = load(comm, trained[checkpoint], Use((), "train", targets=False))
        problem, config = used.state.problem, used.state.config
        said = prediction_bytes(problem.network, used.data, config.dtype, problem.target, comm)
        outputs = _Outputs(comm, used.state, used.data, lambda phase: None)
        assert said["activations"] == memory_of(*outputs._room.a, *outputs._room.z)
        N = len(used.data)
        held = len(outputs._found) * problem.network.sizes[-1] * outputs._found.itemsize
        assert held == outputs._found.nbytes == -(-N // ranks) * problem.network.sizes[-1] * outputs._found.itemsize
        block = outputs(0, N)
        assert block.dtype == unscaled_output(problem, outputs._room.a[-1]).dtype
        blocks = comm.gather(block)
        sent = 0 if ranks == 1 else 2 * sum(one.nbytes for one in blocks) if blocks else held
        assert said["predictions"] == held + sent

    run_threads(ranks, on_rank)


@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.one_mpi)])
def test_data_that_cannot_fit_are_refused_before_they_are_read(
    runner: Runner, trained: dict[str, str], ranks: int
) -> None:
    with h5py.File(runner.directory / "d.h5", "w") as file:  # 12 TiB, of which nothing is written
        file.create_dataset("test/x", (2**37, 8), np.float32, fillvalue=0)
        file.create_dataset("test/y", (2**37, 64), np.int8, fillvalue=0)
    arguments = (trained["outputs"], "d.h5", "--memory", "1e6")
    result = runner.distbp("predict", *arguments, "--out", "p.h5", ranks=ranks)
    words = ("not enough memory: this run needs", "of memory on", "test data 4 TiB", "less --memory")
    check_error(result, 1, *words)
    assert "--hidden" not in result.stderr
    assert "--dry-run" not in result.stderr
    with h5py.File(runner.directory / "d.h5", "a") as file:
        del file["test/y"]
        file.create_dataset("test/y", (2**37, 64), np.float32, fillvalue=0)
    check_error(runner.distbp("evaluate", *arguments, ranks=ranks), 1, "not enough memory", "test data 36 TiB")
    assert [path.name for path in runner.directory.iterdir()] == ["d.h5"]


@pytest.mark.one_mpi
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_network_that_cannot_fit_is_refused_at_once(runner: Runner, data_file: str, ranks: int) -> None:
    words = (
        "not enough memory: this run needs",
        "TiB of memory",
        "state of adam 7.28 TiB",
        "a smaller --hidden",
        "--dry-run",
    )
    words += ("fewer ranks on a node",) if ranks else ()
    for more in ((), ("--reproducible", "--simulate-ranks", "2") if not ranks else ("--reproducible",), ("--dry-run",)):
        result = runner.distbp("train", data_file, "--hidden", "1000000,1000000", *more, ranks=ranks)
        check_error(result, 1, *words[:3])
        assert ("  parameters   " in result.stdout) == (more == ("--dry-run",))
        assert more or all(word in result.stderr for word in words)
    assert not (runner.directory / "run" / "config.toml").exists()


def test_refused_before_the_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data alone are too much, because --memory allows more than there is."""
    monkeypatch.setattr(memory_plan, "free_bytes", lambda: -memory_plan.taken_bytes() + 150 * MIB)
    monkeypatch.setattr("distbp.training.prepare.read_layout", lambda *words, **more: pytest.fail("was read"))
    data = str(tmp_path / "d.h5")
    with h5py.File(data, "w") as file:
        for split in ("train", "test"):
            file.create_dataset(
                f"{split}/x", (40 * MIB, 4), np.float32, fillvalue=0
            )  # 640 MiB, of which none is written
            file.create_dataset(f"{split}/y", (40 * MIB,), np.int8, fillvalue=0)
    config = configuration(data, tmp_path / "run", memory=64.0)
    with pytest.raises(TooLargeError, match=r"order of the samples.*\n.*less --memory") as refused:
        prepared(OneProcess(), config, dry=False)
    assert refused.value.agreed


def test_classes_make_a_network_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known only when the labels are read is checked then."""
    data = str(tmp_path / "d.h5")
    with h5py.File(data, "w") as file:
        file["train/x"], file["train/y"] = np.zeros((4000, 3), np.float32), np.arange(4000) // 2
    config = configuration(data, tmp_path / "run", hidden=[4000], dtype="float32", task="classes")
    there = 150 * MIB + memory_plan.taken_bytes()
    monkeypatch.setattr(memory_plan, "free_bytes", lambda: there - memory_plan.taken_bytes())
    with pytest.raises(TooLargeError, match="state of adam 61"):
        prepared(OneProcess(), config, dry=False)


@pytest.mark.one_mpi
def test_dry_run_writes_nothing(runner: Runner, data_file: str) -> None:
    before = sorted(runner.directory.iterdir())
    for ranks in (0, 2):
        result = runner.distbp("train", data_file, "--dry-run", "--out", "new/run", ranks=ranks)
        assert result.returncode == 0, result.stderr
        for words in ("4-128-3", "23 samples", "in all", "training data", "Python, MPI, libraries", "free", "dry run"):
            assert words in result.stdout
        assert result.stdout.count("node      ") == 1
        assert sorted(runner.directory.iterdir()) == before
    assert runner.distbp("train", data_file, "--epochs", "1", "--hidden", "6").returncode == 0
    check_error(runner.distbp("train", data_file, "--dry-run"), 1, "run: already holds a run")
    check_error(runner.distbp("train", data_file, "--dry-run", "--out", f"{data_file}/run"), 1, "cannot write")
    files = {path: path.stat().st_mtime_ns for path in (runner.directory / "run").iterdir()}
    resumed = runner.distbp("train", "--resume", "--epochs", "3", "--dry-run", ranks=2)
    assert resumed.returncode == 0, resumed.stderr
    assert "3 epochs" in resumed.stdout
    assert {path: path.stat().st_mtime_ns for path in (runner.directory / "run").iterdir()} == files


def test_sums_over_nodes() -> None:
    shared, libraries = Term("training data", 100, shared=True), Term(memory_plan.LIBRARIES, 7)
    terms = [Term("parameters", 10), shared, libraries]

    def rank(node: int, process: int, free: int) -> RankPlan:
        return RankPlan(terms, node, f"host{node}", process, free, taken=5)

    plan = MemoryPlan([rank(0, 1, 300), rank(2, 1, 300), rank(0, 2, 299), rank(2, 2, 20)])
    assert [(node.ranks, node.needed, node.free, node.taken) for node in plan.nodes] == [
        ([0, 2], 2 * 17 + 100, 299, 10),
        ([1, 3], 2 * 17 + 100, 20, 10),
    ]
    with pytest.raises(TooLargeError, match=r"134 bytes of memory on host2, for ranks 1, 3, and 30 bytes are there"):
        plan.check()
    threads = MemoryPlan([rank(0, 1, 300), rank(0, 1, 300)])
    assert threads.nodes[0].needed == 2 * 10 + 100 + 7
    threads.check()
    assert "memory is tight" in MemoryPlan([rank(0, 1, 120)]).warning
    assert not threads.warning


def test_threads_and_resumed_runs_have_a_plan(tmp_path: Path) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", optimizer="adam")
    run = train_on(3, config)
    assert len(run.plan.ranks) == 3
    assert len(run.plan.nodes) == 1
    assert optimizer_of(run.config).vectors == tuple(run.state.optimizer)
    resumed = prepared(OneProcess(), config, resume_with={"epochs": 5})
    assert [term.name for term in resumed.plan.ranks[0].terms if "moment" in term.name]


def test_units() -> None:
    assert [in_units(size) for size in (0, 1023, 1024, 1.5 * 2**30, 1000 * MIB, 2**80)] == [
        "0 bytes",
        "1023 bytes",
        "1 KiB",
        "1.5 GiB",
        "1000 MiB",
        "1048576 EiB",
    ]
