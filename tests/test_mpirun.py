"""Under the real mpirun: training, messages said once, and a job that ends when one rank fails."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from jobs import in_one_job
from runs import BIN, Runner, check_error, write_data

from distbp.training import checkpoint
from distbp.training.comparison import digest

pytestmark = pytest.mark.mpi
SMALL = ("--hidden", "6", "--epochs", "3", "--batch-size", "7", "--dtype", "float64")

FAILING = """
import os, sys
from distbp.ranks.launch import Launch, guard
from distbp.errors import DataError
import numpy as np
launch = Launch(os.environ)
def command():
    comm = launch.connect()
    if comm.rank == 1:
        {action}
    comm.allreduce(np.zeros(3))
sys.exit(guard(launch, command))
"""


def only_checkpoint(run: Path) -> checkpoint.Checkpoint:
    return checkpoint.read(sorted(run.glob("checkpoint-*.h5"))[-1])


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.one_mpi)])
def test_train_resume_evaluate_predict(runner: Runner, data_file: str, ranks: int) -> None:
    trained = runner.afresh("train", data_file, *SMALL, "--epochs", "2", ranks=ranks)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count(f"{ranks} ranks (") == 1
    assert trained.stdout.count("epoch 2/2") == 1
    whole = ("train", data_file, *SMALL, "--out")
    uses: list[tuple[str, ...]] = [("evaluate", "run")]
    uses += [("predict", "run", "--out", f"{{}}.{ending}") for ending in ("h5", "csv")]
    resumed, _, *many = in_one_job(
        runner, ranks, ("train", "--resume", "--epochs", "3"), (*whole, "whole"), *with_name("many", uses)
    )
    assert resumed.returncode == 0, resumed.stderr
    _, *one = in_one_job(runner, 0, (*whole, "alone"), *with_name("one", uses))
    run, without_resume, alone = (only_checkpoint(runner.directory / name) for name in ("run", "whole", "alone"))
    assert run.vector.tobytes() == without_resume.vector.tobytes()
    np.testing.assert_allclose(run.vector, alone.vector, rtol=1e-9, atol=1e-11)

    assert many[0].stdout.startswith("test: 11 samples")
    assert many[0].stdout == one[0].stdout
    for ending, by_many, by_one in zip(("h5", "csv"), many[1:], one[1:], strict=True):
        for name, predicted in (("many", by_many), ("one", by_one)):
            assert predicted.stdout == f"{name}.{ending}: predictions for 11 samples of test\n"
        assert (runner.directory / f"many.{ending}").read_bytes() == (runner.directory / f"one.{ending}").read_bytes()


def with_name(name: str, commands: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(word.format(name) for word in command) for command in commands]


def check_mistake(runner: Runner, result: Any, *words: str) -> None:
    assert result.returncode != 0, result.args
    check_error(result, result.returncode, *words)
    assert "internal error" not in result.stderr
    assert not (runner.directory / "run" / "metrics.csv").exists()


def test_a_mistake_is_said_once(runner: Runner, data_file: str) -> None:
    result = runner.distbp("train", data_file, "--hidden", "4,x", ranks=3)
    check_mistake(runner, result, "--hidden: expected whole numbers")


def test_mistakes_of_all_ranks_are_said_once(runner: Runner, data_file: str) -> None:
    mistakes = {
        ("--no-such-option", data_file): ["No such option", "--help"],
        ("--loss", "hinge", data_file): ["hinge"],
        ("none.h5",): ["none.h5: no such file"],
        ("--y", "labels", data_file): ["those in train are: x, y"],
        ("--out", "/proc/nothing", data_file): ["cannot write the results here"],
    }
    results = in_one_job(runner, 3, *(("train", *arguments) for arguments in mistakes))
    for result, words in zip(results, mistakes.values(), strict=True):
        check_mistake(runner, result, *words)


def test_help_and_inspect_speak_once(runner: Runner, data_file: str) -> None:
    shown, inspected = in_one_job(runner, 2, ("train", "--help"), ("inspect", data_file))
    assert shown.stdout.count("Usage:") == 1
    assert inspected.stdout.count("data set with the splits") == 1


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("raise DataError('a bad disk')", "distbp: error on rank 1: a bad disk"),
        ("sys.exit(3)", ""),
        ("raise KeyboardInterrupt", "interrupted"),
        ("import click; raise click.UsageError('odd')", "distbp: error on rank 1: odd"),
    ],
)
def test_one_failing_rank_ends_the_job(runner: Runner, action: str, message: str) -> None:
    result = runner.run_fork(sys.executable, "-c", FAILING.format(action=action), ranks=3, limit=30)
    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.parametrize("ranks", [2, 3])
def test_usr1_to_mpirun_stops_all_ranks_at_the_same_step(runner: Runner, data_file: str, ranks: int) -> None:
    options = (*SMALL[:2], "--batch-size", "2", "--dtype", "float64", "--epochs", "100000", "--keep", "1")
    process = runner.fork(str(BIN / "distbp"), "train", data_file, *options, "--checkpoint-every", "1", ranks=ranks)
    metrics = runner.directory / "run" / "metrics.csv"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    stopped = runner.finish(process)
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stderr.count("stopped on request") == 1
    assert len(list((runner.directory / "run").glob("checkpoint-*"))) == 1
    assert only_checkpoint(runner.directory / "run").progress.step > 0


def digest_of(runner: Runner, file: str) -> str:
    return digest(checkpoint.read(runner.directory / file).parameters)


def test_reproducible_runs_have_the_same_digest(runner: Runner) -> None:
    """On one process, threads, and ranks of this MPI; together with the tests on the other MPI: on both."""
    data, dtypes = write_data(runner.directory / "d.h5", train=300, test=100), ("float32", "float64")
    options = ("--reproducible", "--hidden", "20,10", "--epochs", "2", "--batch-size", "64")

    def commands(name: str, *more: str) -> list[tuple[str, ...]]:
        how = [("--dtype", dtype, "--out", f"{name}-{dtype}") for dtype in dtypes]
        return [("train", data, *options, *more, *words) for words in how]

    evaluations = [("evaluate", f"one-{dtype}") for dtype in dtypes]
    said: dict[str, Any] = {}
    evaluated: dict[str, set[str]] = {dtype: set() for dtype in dtypes}
    for names, ranks in ((("one", "threads"), 0), (("two",), 2), (("three",), 3), (("four",), 4)):
        trained = [commands(name, *(("--simulate-ranks", "8") if name == "threads" else ())) for name in names]
        results = in_one_job(runner, ranks, *itertools.chain(*trained), *evaluations)
        runs = [f"{name}-{dtype}" for name in names for dtype in dtypes]
        said.update(zip(runs, results[: len(runs)], strict=True))
        for dtype, result in zip(dtypes, results[len(runs) :], strict=True):
            evaluated[dtype].add(result.stdout)
    newest = {run: f"{run}/checkpoint-0000000010.h5" for run in said}
    digests = {run: digest_of(runner, file) for run, file in newest.items()}
    for run, result in said.items():
        assert result.returncode == 0, result.stderr
        assert f"digest    {digests[run]}" in result.stdout
    for dtype in dtypes:
        assert len({found for run, found in digests.items() if run.endswith(dtype)}) == 1
        assert len(evaluated[dtype]) == 1
        assert evaluated[dtype].pop().startswith("test: 100 samples")
    pairs = [(newest[f"one-{run.split('-')[1]}"], file) for run, file in newest.items() if not run.startswith("one")]
    for compared in in_one_job(runner, 0, *(("inspect", "--diff", *pair) for pair in pairs)):
        assert compared.returncode == 0, compared.stdout


@pytest.mark.one_mpi  # most of its time is the start of 64 Pythons on a few cores
@pytest.mark.timeout(180)
def test_64_ranks_have_the_same_digest(runner: Runner) -> None:
    options = ("--reproducible", "--grain", "4", "--batch-size", "256", "--hidden", "20", "--epochs", "1")
    for name, ranks in {"one": 0, "many": 64}.items():
        command = (str(BIN / "distbp"), "train", *options, "--out", name)
        trained = runner.run_fork(*command, ranks=ranks, limit=150)
        assert trained.returncode == 0, trained.stderr
        assert "64 grains of 4 samples" in trained.stdout
    newest = {name: only_checkpoint(runner.directory / name) for name in ("one", "many")}
    assert len({digest(one.parameters) for one in newest.values()}) == 1
    assert {one.progress.step for one in newest.values()} == {6}


def kill_all(directory: Path) -> None:
    """SIGKILL to everything that runs in this directory: launcher, its helpers, and ranks."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == directory:
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):  # gone, or another user's
            continue


@pytest.mark.timeout(240)
def test_killed_five_times_and_resumed_on_other_numbers_of_ranks(runner: Runner) -> None:
    """30 epochs; killed without warning at random moments; it ends as if nothing had happened."""
    rng = np.random.default_rng(5)
    data = write_data(runner.directory / "d.h5", train=600, test=200)
    options = ("--reproducible", "--hidden", "24", "--epochs", "30", "--batch-size", "12", "--grain", "4")
    options += ("--optimizer", "adamw", "--schedule", "cosine", "--weight-decay", "0.01", "--learning-rate", "0.01")
    assert runner.distbp("train", data, *options, "--out", "whole").returncode == 0

    metrics = runner.directory / "run" / "metrics.csv"
    killed = 0
    for epochs in (3, 8, 13, 18, 23):
        ranks = int(rng.integers(1, 5))
        command = ("train", "--resume", "--out", "run") if metrics.exists() else ("train", data, *options)
        process = runner.fork(str(BIN / "distbp"), *command, ranks=ranks)
        while process.poll() is None and (not metrics.exists() or len(metrics.read_text().splitlines()) <= epochs):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        killed += process.poll() is None
        kill_all(runner.directory)
        runner.finish(process)
    assert killed == 5
    finished = runner.distbp("train", "--resume", "--out", "run", ranks=3)
    assert finished.returncode == 0, finished.stderr

    files = ("best.h5", "checkpoint-0000001500.h5")
    for compared in in_one_job(runner, 0, *(("inspect", "--diff", f"whole/{of}", f"run/{of}") for of in files)):
        assert compared.returncode == 0, compared.stdout
    for of in files:
        assert digest_of(runner, f"whole/{of}") == digest_of(runner, f"run/{of}")
    rows = []
    for name in ("whole", "run"):
        with open(runner.directory / name / "metrics.csv") as file:
            rows.append([{c: v for c, v in row.items() if "second" not in c} for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
    assert [row["epoch"] for row in rows[0]] == [str(epoch) for epoch in range(1, 31)]


def test_damage_that_one_rank_meets_ends_the_job(runner: Runner) -> None:
    x = np.random.default_rng(0).standard_normal((300, 4))
    places = {}
    for name, how in (("a chunk", {"chunks": (10, 4), "compression": "gzip"}), ("the end", {})):
        with h5py.File(runner.directory / f"{name}.h5", "w") as file:
            file["train/y"] = np.arange(300) % 3
            stored = file.create_dataset("train/x", data=x, **how).id
            places[name] = stored.get_chunk_info(29).byte_offset if how else stored.get_offset()
    with open(runner.directory / "a chunk.h5", "rb+") as raw:
        raw.seek(places["a chunk"])
        raw.write(b"\xff" * 40)
    os.truncate(runner.directory / "the end.h5", places["the end"] + 300 * 32 - 100)
    commands = [("train", f"{name}.h5", "--validation-split", "", "--epochs", "1") for name in places]
    for name, result in zip(places, in_one_job(runner, 3, *commands), strict=True):
        check_error(result, 1, f"{name}.h5: ")
    assert not (runner.directory / "run" / "metrics.csv").exists()
