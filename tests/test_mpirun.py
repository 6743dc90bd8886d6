"""Under the real mpirun: training, messages said once, and a job that ends when one rank fails."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import BIN, Runner, check_error, write_data

from distbp.training import checkpoint

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
    trained = runner.distbp("train", data_file, *SMALL, "--epochs", "2", ranks=ranks)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count(f"{ranks} ranks (") == 1
    assert trained.stdout.count("epoch 2/2") == 1
    resumed = runner.distbp("train", "--resume", "--epochs", "3", ranks=ranks)
    assert resumed.returncode == 0, resumed.stderr
    runner.distbp("train", data_file, *SMALL, "--out", "whole", ranks=ranks)
    runner.distbp("train", data_file, *SMALL, "--out", "alone")
    run, whole, alone = (only_checkpoint(runner.directory / name) for name in ("run", "whole", "alone"))
    assert run.vector.tobytes() == whole.vector.tobytes()
    np.testing.assert_allclose(run.vector, alone.vector, rtol=1e-9, atol=1e-11)

    evaluated = runner.distbp("evaluate", "run", ranks=ranks)
    assert evaluated.stdout == runner.distbp("evaluate", "run").stdout
    for ending in ("h5", "csv"):
        for name, count in (("many", ranks), ("one", 0)):
            predicted = runner.distbp("predict", "run", "--out", f"{name}.{ending}", ranks=count)
            assert predicted.stdout == f"{name}.{ending}: predictions for 11 samples of test\n"
        many, one = (runner.directory / f"{name}.{ending}" for name in ("many", "one"))
        assert many.read_bytes() == one.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hidden", "4,x"], ["--hidden: expected whole numbers"]),
        (["--no-such-option"], ["No such option", "--help"]),
        (["--loss", "hinge"], ["hinge"]),
        (["none.h5"], ["none.h5: no such file"]),
        (["--y", "labels"], ["those in train are: x, y"]),
        (["--out", "/proc/nothing"], ["cannot write the results here"]),
    ],
)
def test_mistakes_of_all_ranks_are_said_once(
    runner: Runner, data_file: str, arguments: list[str], words: list[str]
) -> None:
    data = [] if "none.h5" in arguments else [data_file]
    result = runner.distbp("train", *data, *arguments, ranks=3)
    assert result.returncode != 0
    check_error(result, result.returncode, *words)
    assert "internal error" not in result.stderr
    assert not (runner.directory / "run" / "metrics.csv").exists()


def test_help_and_inspect_speak_once(runner: Runner, data_file: str) -> None:
    assert runner.distbp("train", "--help", ranks=2).stdout.count("Usage:") == 1
    assert runner.distbp("inspect", data_file, ranks=2).stdout.count("data set with the splits") == 1


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
    result = runner.run(sys.executable, "-c", FAILING.format(action=action), ranks=3, limit=30)
    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.parametrize("ranks", [2, 3])
def test_usr1_to_mpirun_stops_all_ranks_at_the_same_step(runner: Runner, data_file: str, ranks: int) -> None:
    options = (*SMALL[:2], "--batch-size", "2", "--dtype", "float64", "--epochs", "400", "--keep", "1")
    process = runner.start(str(BIN / "distbp"), "train", data_file, *options, ranks=ranks)
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


def digests(runner: Runner, *runs: str) -> list[str]:
    lines = runner.distbp("inspect", "--digest", *runs).stdout.splitlines()
    return [line.split()[0] for line in lines]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.one_mpi)])
def test_reproducible_runs_have_the_same_digest(runner: Runner, dtype: str) -> None:
    """On one process, threads, and ranks of this MPI; together with the tests on the other MPI: on both."""
    data = write_data(runner.directory / "d.h5", train=300, test=100)
    options = ("--reproducible", "--hidden", "20,10", "--epochs", "2", "--batch-size", "64", "--dtype", dtype)
    newest = []
    for name, ranks in {"one": 0, "two": 2, "three": 3, "four": 4, "threads": 0}.items():
        more = ("--simulate-ranks", "8") if name == "threads" else ()
        trained = runner.distbp("train", data, *options, *more, "--out", name, ranks=ranks)
        assert trained.returncode == 0, trained.stderr
        newest.append(f"{name}/checkpoint-0000000010.h5")
        assert f"digest    {digests(runner, newest[-1])[0]}" in trained.stdout
    assert len(set(digests(runner, *newest))) == 1
    for name in newest[1:]:
        compared = runner.distbp("inspect", "--diff", newest[0], name)
        assert compared.returncode == 0, compared.stdout
    evaluated = {runner.distbp("evaluate", "one", ranks=ranks).stdout for ranks in (0, 2, 3)}
    assert len(evaluated) == 1


@pytest.mark.one_mpi  # most of its time is the start of 64 Pythons on a few cores
@pytest.mark.timeout(180)
def test_64_ranks_have_the_same_digest(runner: Runner) -> None:
    options = ("--reproducible", "--grain", "4", "--batch-size", "256", "--hidden", "20", "--epochs", "1")
    for name, ranks in {"one": 0, "many": 64}.items():
        command = (str(BIN / "distbp"), "train", *options, "--out", name)
        trained = runner.run(*command, ranks=ranks, limit=150)
        assert trained.returncode == 0, trained.stderr
        assert "64 grains of 4 samples" in trained.stdout
    assert len(set(digests(runner, "one", "many"))) == 1


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
        process = runner.start(str(BIN / "distbp"), *command, ranks=ranks)
        while process.poll() is None and (not metrics.exists() or len(metrics.read_text().splitlines()) <= epochs):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        killed += process.poll() is None
        kill_all(runner.directory)
        runner.finish(process)
    assert killed == 5
    finished = runner.distbp("train", "--resume", "--out", "run", ranks=3)
    assert finished.returncode == 0, finished.stderr

    for of in ("best.h5", "checkpoint-0000001500.h5"):
        one, other = digests(runner, f"whole/{of}", f"run/{of}")
        assert one == other
        compared = runner.distbp("inspect", "--diff", f"whole/{of}", f"run/{of}")
        assert compared.returncode == 0, compared.stdout
    rows = []
    for name in ("whole", "run"):
        with open(runner.directory / name / "metrics.csv") as file:
            rows.append([{c: v for c, v in row.items() if "second" not in c} for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
    assert [row["epoch"] for row in rows[0]] == [str(epoch) for epoch in range(1, 31)]


@pytest.mark.parametrize("damage", ["a chunk", "the end"])
def test_damage_that_one_rank_meets_ends_the_job(runner: Runner, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        packed: dict[str, Any] = {"chunks": (10, 4), "compression": "gzip"} if damage == "a chunk" else {}
        file["train/y"] = np.arange(300) % 3
        x = file.create_dataset("train/x", data=rng.standard_normal((300, 4)), **packed)
        where = x.id.get_chunk_info(29).byte_offset if damage == "a chunk" else x.id.get_offset()
    with open(path, "rb+") as raw:
        if damage == "a chunk":
            raw.seek(where)
            raw.write(b"\xff" * 40)
        else:
            raw.truncate(where + 300 * 32 - 100)
    result = runner.distbp("train", str(path), "--validation-split", "", "--epochs", "1", ranks=3)
    check_error(result, 1, "damaged.h5: ")
    assert not (runner.directory / "run" / "metrics.csv").exists()
