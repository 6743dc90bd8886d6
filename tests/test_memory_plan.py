"""The memory a run is said to take: what the code takes, what a process has at its peak, and refusals in time."""

from __future__ import annotations

import json
import shutil
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import in_one_job
from runs import Runner, check_error, configuration, nodes_of, prepared, split_of, train_on, write_data

from distbp.data.loader import Batch
from distbp.data.problem import Problem, unscaled_output
from distbp.data.scaling import Scaling
from distbp.engine.choice import choose_engine, make_engine, make_evaluation
from distbp.engine.native.library import library
from distbp.engine.numpy_engine import NumpyEngine
from distbp.engine.planned_rank import PlannedRank
from distbp.engine.shared_memory import contents_of, step_memory
from distbp.engine.sums import Requests
from distbp.engine.work import Work, optimizer_of
from distbp.errors import CheckpointError, TooLargeError
from distbp.mathematics import grains
from distbp.mathematics.arena import ALIGNED, CACHE_LINE, PAGE, Aligned, Arena, CountingArena
from distbp.mathematics.backprop import Piece
from distbp.mathematics.network import Network
from distbp.mathematics.optimizers.adam import Adam
from distbp.mathematics.optimizers.sgd import SGD
from distbp.prediction.memory_plan import evaluation_terms, prediction_terms
from distbp.prediction.predict import _Outputs, room_for_outputs
from distbp.prediction.trained import Use, load
from distbp.ranks import memory_plan
from distbp.ranks.communicator import Communicator, OneProcess, run_threads
from distbp.ranks.memory_plan import MemoryPlan, RankPlan, Term
from distbp.ranks.node_memory import in_units
from distbp.training.checkpoint import outline, read, write_bytes

MIB = 2**20
SMALL = 16 * 2**10  # bytes of small arrays of a rank, as of the scaling

START = """
import json, os, sys, threading
from distbp.ranks.launch import Launch
from distbp.ranks.node_memory import taken_bytes
comm = Launch(os.environ).connect()
peak, done = [0], threading.Event()
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], taken_bytes())
thread = threading.Thread(target=watch, daemon=True)
thread.start()
"""
END = """
done.set()
thread.join()
peaks = comm.gather(peak[0])
"""
MEASURED = f"""{START}
from distbp.settings.merged import merge
from distbp.training.prepare import Start
from distbp.training.train import train
run = train(comm, merge(json.loads(sys.argv[1]), "test"), Start(resume_with=json.loads(sys.argv[2])))
{END}if comm.rank == 0:
    print(json.dumps([run.plan.nodes[0].needed, sum(peaks), run.training.in_memory]))
"""

MEASURED_IN_USE = f"""{START}
from pathlib import Path
from distbp.prediction.finite_scores import finite_scores
from distbp.prediction.memory_plan import evaluation_terms, prediction_terms
from distbp.prediction.predict import predict
from distbp.prediction.trained import Use, load
name, checkpoint, split, memory = sys.argv[1:]
is_evaluated = name == "evaluate"
work = evaluation_terms if is_evaluated else prediction_terms
used = load(comm, checkpoint, Use((), split, targets=is_evaluated, work=work, memory=float(memory)))
if is_evaluated:
    finite_scores(comm, used)
else:
    predict(comm, used.state, used.data, Path(name), overwrite=True)
{END}if comm.rank == 0:
    print(json.dumps([used.plan.nodes[0].needed, sum(peaks), used.data.in_memory]))
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pieces_and_optimizers(dtype: str) -> None:
    """By hand: a^1, and a, z, d of layers 2 and 3, their s, five arrays for the outputs, and a vector of ones."""
    network, counted = Network.of([7, 5, 9, 2], "relu", "identity", "mse"), CountingArena()
    Piece(network, 11, dtype, counted)
    assert counted.bytes == 11 * (7 + 3 * (5 + 9) + 9 + 5 * 2 + 1) * int(dtype[5:]) // 8
    for optimizer in (SGD(), SGD(0.9), Adam()):
        assert list(optimizer.init(np.zeros(3))) == list(optimizer.vectors)
    assert write_bytes(network, has_vectors=False) == 5 * 9
    assert write_bytes(network, has_vectors=True) == 7 * 5 + 5 + 5 * 9 + 9 + 9 * 2 + 2


class Kept(Aligned):
    """Makes arrays, and keeps account of them."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def take(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        array = super().take(shape, dtype)
        self.arrays.append(array)
        return array

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


def arrays_of_numpy() -> int:
    """Bytes of all arrays that were made since tracing began, and are there.

    Without what threads share and have sent each other, and a block of the optimizer, whose size is always the same.
    """
    filters: list[tracemalloc.BaseFilter] = [
        tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain),
        *(
            tracemalloc.Filter(inclusive=False, filename_pattern=f"*{name}.py")
            for name in ("communicator", "optimizer")
        ),
    ]
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(filters).traces)


MODES: list[dict[str, Any]] = [
    {},
    {"overlap": False, "wire": "bfloat16"},
    {"wire": "float16"},
    {"reproducible": True, "grain": 3},
    {"reproducible": True, "grain": 16},
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layers=st.lists(st.integers(1, 70), min_size=2, max_size=4),
    head=st.sampled_from([("mse", "identity"), ("cross_entropy", "softmax")]),
    mode=st.sampled_from(MODES),
    form=st.sampled_from([(1, 1), (2, 1), (3, 2), (4, 2), (3, 3)]),
    n=st.integers(1, 120),
    last=st.integers(1, 120),
    small=st.sampled_from([(1024, 2**28), (4, 1)]),
    dtype=st.sampled_from(["float32", "float64"]),
    optimizer=st.sampled_from(["sgd", "adam"]),
    compiled=st.booleans(),
)
def test_what_is_counted_is_what_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    layers: list[int],
    head: tuple[str, str],
    mode: dict[str, Any],
    form: tuple[int, int],
    n: int,
    last: int,
    small: tuple[int, int],
    dtype: str,
    optimizer: str,
    compiled: bool,
) -> None:
    """Of an engine of any kind: by NumPy's own account of its arrays, after batches of both sizes and an evaluation.

    Also where a shard, or the grains of a rank, do not go through the network together.
    """
    monkeypatch.setattr("distbp.mathematics.backprop.PIECE_SAMPLES", small[0])
    monkeypatch.setattr("distbp.engine.grain_sums.ROOM_BYTES", small[1])
    monkeypatch.setattr("distbp.engine.step_memory.BUCKET_BYTES", 256)
    config = configuration("none.h5", "run", dtype=dtype, loss=head[0], optimizer=optimizer, **mode)
    network, classes = Network.of(layers, "tanh", head[1], head[0]), head[0] == "cross_entropy"
    x = np.zeros((150, layers[0]), np.int16)
    y = np.arange(150) % layers[-1] if classes else np.zeros((150, layers[-1]), np.float32)
    labels = tuple(range(layers[-1])) if classes else None
    data = split_of(x, y, labels)
    problem = Problem(network, Scaling.none(layers[0]), Scaling.none(layers[-1]), labels)
    sizes, (ranks, nodes) = (max(n, last), min(n, last)), form
    is_compiled = compiled and not isinstance(library(), str)
    one = Work(OneProcess(), config, problem, data, sizes, is_compiled=is_compiled)
    here = nodes_of(ranks, nodes)

    def planned(rank: int) -> tuple[int, int, int]:
        """In the memory of a node: what its ranks share, and what is this rank's own; and the rest."""
        counted = CountingArena()
        work = replace(one, comm=PlannedRank(rank, here), arena=counted)
        memory = step_memory(work)
        shared, own = (
            sum(size for name, size in counted.terms.items() if (name in counted.shared) == is_shared)
            for is_shared in (True, False)
        )
        make_engine(work, memory=memory).evaluation(data)
        return shared, own, counted.in_all - shared - own

    def on_rank(comm: Communicator) -> tuple[int, int, int]:
        kept = Kept()
        engine = make_engine(replace(one, comm=comm, arena=kept))
        evaluation = engine.evaluation(data)
        made = len(kept.arrays)
        for size in (*sizes, *sizes):
            engine.step([Batch(np.arange(size), 0, 0)], [0.1], 0, lambda step: Requests())
        evaluation(engine.parameters)
        assert len(kept.arrays) == made, "a step took memory"
        comm.allgather(None)
        there = arrays_of_numpy() if comm.rank == 0 else 0
        comm.allgather(None)
        engine.close()
        return there, kept.bytes, len(kept.arrays)

    tracemalloc.start()
    try:
        found = run_threads(ranks, on_rank, here)
    finally:
        tracemalloc.stop()
    plans = [planned(rank) for rank in range(ranks)]
    assert [kept for _, kept, _ in found] == [rest for *_, rest in plans]
    taken = sum(kept + CACHE_LINE * arrays for _, kept, arrays in found)
    assert taken <= found[0][0] <= taken + SMALL * ranks
    contents = contents_of(replace(one, comm=PlannedRank(0, here)))
    for node in here:
        needed = plans[node[0]][0] + sum(plans[rank][1] for rank in node)
        arrays = 5 + len(contents.names) + len(node) * contents.sums
        assert needed <= contents.bytes(len(node)) <= needed + (arrays + 1) * PAGE


@pytest.mark.parametrize("room", [2**28, 1])
@pytest.mark.parametrize(("ranks", "n", "grain"), [(1, 96, 4), (2, 100, 4), (3, 100, 4), (5, 64, 3), (8, 6, 3)])
def test_sums_on_the_way_are_those_that_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, n: int, grain: int, room: int
) -> None:
    """In the reproducible mode, on every rank, by whole batches and a short one."""
    used: dict[int, set[int]] = {rank: set() for rank in range(ranks)}
    monkeypatch.setattr("distbp.engine.grain_sums.ROOM_BYTES", room)
    options = {"reproducible": True, "grain": grain, "batch_size": n, "hidden": [6, 5], "dtype": "float32"}
    data = write_data(tmp_path / "d.h5", train=223)
    config = configuration(data, tmp_path / "run", engine="numpy", **options)

    class Noted(list[Any]):
        rank = 0

        def __getitem__(self, at: Any) -> Any:
            used[self.rank].add(at)
            return super().__getitem__(at)

    def on_rank(comm: Communicator) -> int:
        run = prepared(comm, config)
        gradient = run.engine._gradient._node_sums  # type: ignore[attr-defined]
        gradient._above = Noted(gradient._above)
        gradient._above.rank = comm.rank
        for batch in run.loader.batches(0, 0):
            run.engine.gradient(batch, Requests())
        return len(gradient._above)

    assert run_threads(ranks, on_rank) == [max(used[rank], default=-1) + 1 for rank in range(ranks)]


def test_products_that_are_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine says of them before its first step is the most that they take in it."""
    taken: list[int] = []

    def trial(arena: Arena, *words: Any) -> Any:
        counted = CountingArena()
        real(counted, *words)
        taken.append(counted.bytes if arena is ALIGNED else 0)
        return real(arena, *words)

    real = grains._trial
    network, data = Network.of([30, 50, 4], "tanh", "identity", "mse"), split_of(np.zeros((90, 30)), np.zeros((90, 4)))
    config = configuration("none.h5", "run", loss="mse", reproducible=True, grain=16)
    problem = Problem(network, Scaling.none(30), Scaling.none(4), None)
    counted = CountingArena()
    planned = Work(PlannedRank(0, [[0]]), config, problem, data, (90, 64), counted)
    NumpyEngine(planned)
    engine = NumpyEngine(replace(planned, comm=OneProcess(), arena=ALIGNED))
    monkeypatch.setattr(grains, "_trial", trial)
    for n in (64, 90):
        engine.gradient(Batch(np.arange(n), 0, 0), Requests())
    assert max(taken) <= counted.moments["trying out products"] <= 96 / 80 * max(taken)


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
ALONE = pytest.mark.one_mpi  # one process, which has no MPI


def check_estimate(runner: Runner, ranks: int, is_in_memory: bool, program: str, *words: str) -> None:
    """Runs a program that prints the estimate, the peak, and whether the data are in memory.

    Again where they are far apart: a library counts less while other processes share it, and a short peak can fall
    between two looks of a thread that does not come to run.
    """
    for _ in range(3):
        result = runner.run(sys.executable, "-c", program, *words, ranks=ranks)
        assert result.returncode == 0, result.stderr
        estimate, peak, in_memory = json.loads(result.stdout.splitlines()[-1])
        assert in_memory == is_in_memory
        print(f"{ranks} {words}: estimate {estimate / MIB:.0f} MiB, measured {peak / MIB:.0f} MiB")
        if 0.9 * peak < estimate < 1.25 * peak + 10 * MIB * max(1, ranks):
            return
    pytest.fail("the estimate is not near the peak")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        pytest.param(0, {**WIDE, "optimizer": "adam"}, marks=ALONE),
        pytest.param(0, {**WIDE, "optimizer": "sgd", "reproducible": True, "grain": 8}, marks=ALONE),
        (2, {**WIDE, "optimizer": "adam", "reproducible": True}),
        (2, {**WIDE, "optimizer": "sgd"}),
        pytest.param(0, {**WIDE, "optimizer": "adam", "epochs": 2}, marks=ALONE),
        (2, LONG),
        pytest.param(0, {**WINDOWS, "memory": 0.07}, marks=ALONE),
        (2, {**WINDOWS, "memory": 0.07}),
    ],
)
def test_the_estimate_is_near_the_measured_peak(
    runner: Runner, samples: Path, ranks: int, options: dict[str, Any]
) -> None:
    """Where there are two epochs, the second one is that of a resumed run."""
    config, again = {**options, "data": [str(samples)], "out": "run"}, None
    if options["epochs"] > 1:
        train_on(
            1, configuration(str(samples), runner.directory / "run", **{**options, "epochs": 1, "dtype": "float32"})
        )
        again = {"epochs": options["epochs"]}
    check_estimate(runner, ranks, "memory" not in options, MEASURED, json.dumps(config), json.dumps(again))


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


@pytest.mark.slow
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
    check_estimate(runner, ranks, not memory, MEASURED_IN_USE, name, trained[checkpoint], split, str(memory))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("checkpoint", ["small", "outputs"])
def test_what_predictions_and_an_evaluation_take(trained: dict[str, str], checkpoint: str, ranks: int) -> None:
    def on_rank(comm: Communicator) -> None:
        used = load(comm, trained[checkpoint], Use((), "train", targets=False))
        problem = used.state.problem
        terms = prediction_terms(comm, outline(Path(trained[checkpoint])), used.data)
        said = {term.name: term.bytes for term in terms}
        outputs, room = _Outputs(comm, used.state, used.data, 1, lambda phase: None), Kept()
        room_for_outputs(comm, problem, used.state.parameters, used.state.config, len(used.data), arena=room)
        assert said["activations"] == room.bytes - outputs._found.nbytes
        N = len(used.data)
        held = len(outputs._found) * problem.network.sizes[-1] * outputs._found.itemsize
        assert held == outputs._found.nbytes == -(-N // ranks) * problem.network.sizes[-1] * outputs._found.itemsize
        block = outputs(0, N)
        assert block.dtype == unscaled_output(problem, np.zeros((1, 1), used.state.config.dtype)).dtype
        blocks = comm.gather(block)
        sent = 0 if ranks == 1 else 2 * sum(one.nbytes for one in blocks) if blocks else held
        assert said["predictions of a block"] == held + sent

        kept = Kept()
        config, data = used.state.config, used.data
        is_compiled = choose_engine(comm, config, problem, data).is_compiled
        work = Work(comm, config, problem, data, (), is_compiled=is_compiled)
        make_evaluation(work, used.state.parameters, kept)
        (term,) = evaluation_terms(comm, outline(Path(trained[checkpoint])), used.data)
        assert term.bytes == kept.bytes

    run_threads(ranks, on_rank)


@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.one_mpi)])
def test_data_that_cannot_fit_are_refused_before_they_are_read(
    runner: Runner, trained: dict[str, str], ranks: int
) -> None:
    for name, y in (("d.h5", np.int8), ("e.h5", np.float32)):
        with h5py.File(runner.directory / name, "w") as file:  # 12 TiB and 36 TiB, of which nothing is written
            file.create_dataset("test/x", (2**37, 8), np.float32, fillvalue=0)
            file.create_dataset("test/y", (2**37, 64), y, fillvalue=0)
    predict = ("predict", trained["outputs"], "d.h5", "--memory", "1e6", "--out", "p.h5")
    evaluate = ("evaluate", trained["outputs"], "e.h5", "--memory", "1e6")
    result, other = in_one_job(runner, ranks, predict, evaluate)
    words = ("not enough memory: this run needs", "of memory on", "test data 4 TiB", "less --memory")
    check_error(result, 1, *words)
    assert "--hidden" not in result.stderr
    assert "--dry-run" not in result.stderr
    check_error(other, 1, "not enough memory", "test data 36 TiB")
    assert sorted(path.name for path in runner.directory.iterdir()) == ["d.h5", "e.h5"]


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
    ways = ((), ("--reproducible", "--simulate-ranks", "2") if not ranks else ("--reproducible",), ("--dry-run",))
    commands = [("train", data_file, "--hidden", "1000000,1000000", *more) for more in ways]
    for more, result in zip(ways, in_one_job(runner, ranks, *commands), strict=True):
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
    dry = ("train", data_file, "--dry-run", "--out")
    for ranks in (0, 2):
        result, other = in_one_job(runner, ranks, (*dry, "new/run"), (*dry, f"{data_file}/run"))
        assert result.returncode == 0, result.stderr
        for words in ("4-128-3", "23 samples", "in all", "training data", "Python, MPI, libraries", "free", "dry run"):
            assert words in result.stdout
        assert result.stdout.count("node      ") == 1
        check_error(other, 1, "cannot write")
        assert sorted(runner.directory.iterdir()) == before
    train_on(1, configuration(data_file, runner.directory / "run", epochs=1))
    files = {path: path.stat().st_mtime_ns for path in (runner.directory / "run").iterdir()}
    again, resumed = in_one_job(runner, 2, (*dry, "run"), ("train", "--resume", "--epochs", "3", "--dry-run"))
    check_error(again, 1, "run: already holds a run")
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
