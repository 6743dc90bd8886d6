"""`distbp evaluate` and `predict`: one rank comes to harm, hangs, or is told to stop; nothing half-written is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, configuration, ranks_of, train_on, wait_for

ROWS = 70_000  # two blocks of predictions, and several rounds of an evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with data that take a moment to evaluate."""
    here = tmp_path_factory.mktemp("used")
    rng = np.random.default_rng(3)
    with h5py.File(here / "data.h5", "w") as file:
        for split, count in (("train", 60), ("test", ROWS)):
            file[f"{split}/x"] = rng.standard_normal((count, 4), dtype=np.float32)
            file[f"{split}/y"] = np.arange(count) % 3
    train_on(1, configuration(str(here / "data.h5"), here / "run", epochs=1, validation_split="train"))
    return str(here / "run")


def command(run: str, name: str) -> list[str]:
    """evaluate, or predict to a file of that name, which is there already."""
    return ["evaluate", run] if name == "evaluate" else ["predict", run, "--out", name, "--overwrite"]


def prepare(runner: Runner, name: str) -> None:
    if name != "evaluate":
        (runner.directory / name).write_text("mine")


def check_untouched(runner: Runner, name: str) -> None:
    """The old file is as it was, and there is no other."""
    there = {path.name: path.read_text() for path in runner.directory.iterdir() if path.name != "hangs"}
    assert there == ({} if name == "evaluate" else {name: "mine"})


def cases(*found: tuple[Any, ...]) -> list[Any]:
    """Of command, place, rank, ranks, what, words: without mpirun, or marked."""
    return [
        pytest.param(*case, id="{}-{}-{}-of-{}-{}".format(*case[:5]), marks=[pytest.mark.one_mpi] if case[3] else [])
        for case in found
    ]


@pytest.mark.parametrize(
    ("name", "place", "rank", "ranks", "how", "words"),
    cases(
        ("evaluate", "loading", 1, 3, "SIGKILL", ""),
        ("evaluate", "validation", 2, 3, "memory", "not enough memory on rank 2"),
        ("evaluate", "validation", 0, 1, "SIGSEGV", ""),
        ("p.csv", "loading", 0, 2, "bug", "internal error on rank 0 of 2"),
        ("p.h5", "prediction", 1, 2, "bug", "ZeroDivisionError: a bug"),
        ("p.h5", "prediction", 2, 3, "SIGKILL", ""),
        ("p.csv", "writing", 0, 2, "SIGKILL", ""),
        ("p.h5", "writing", 0, 0, "SIGKILL", ""),
        ("p.csv", "writing", 0, 0, "memory", "not enough memory"),
    ),
)
def test_one_rank_comes_to_harm(
    runner: Runner, run: str, name: str, place: str, rank: int, ranks: int, how: str, words: str
) -> None:
    prepare(runner, name)
    result = runner.faulty(place, rank, how, *command(run, name), ranks=ranks)
    assert result.returncode not in (0, 75)
    assert words in result.stderr
    said = result.stderr.count("distbp: error") + result.stderr.count("distbp: internal error")
    assert said == (0 if how.startswith("SIG") else 1), result.stderr
    assert result.stdout == "" or how.startswith("SIG")  # of which the launcher may speak
    check_untouched(runner, name)


@pytest.mark.parametrize(
    ("name", "place", "rank", "ranks", "how", "words"),
    cases(
        ("evaluate", "loading", 0, 0, "SIGTERM", "reading labels"),
        ("evaluate", "validation", 2, 3, "SIGUSR1", "evaluating test"),
        ("evaluate", "validation", 0, 0, "SIGINT", "evaluating test"),
        ("p.csv", "prediction", 1, 2, "SIGINT", "predicting, before p.csv was written"),
        ("p.h5", "prediction", "all", 3, "SIGTERM", "predicting, before p.h5 was written"),
        ("p.h5", "loading", 0, 0, "SIGUSR2", "predicting, before p.h5 was written"),
    ),
)
def test_a_signal_to_one_rank_stops_all(
    runner: Runner, run: str, name: str, place: str, rank: int | str, ranks: int, how: str, words: str
) -> None:
    """In the midst of the work; the others learn of it before they go on."""
    prepare(runner, name)
    result = runner.faulty(place, rank, how, *command(run, name), ranks=ranks, limit=10)
    assert result.returncode == 75, result.stderr
    assert result.stderr.count("stopped on request while ") == 1, result.stderr
    assert f"stopped on request while {words}; run the same command again" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    check_untouched(runner, name)


def check_stalled(result: Any, advice: str) -> list[str]:
    """The ranks that say they have not come on."""
    assert result.returncode not in (0, 75), result.stderr
    said = [line for line in result.stderr.splitlines() if "has not come on for " in line]
    assert all(f"(--stall-minutes); the job ends. {advice}. The rank" in line for line in said)
    return [line.split("error: ")[1].split(" (")[0] for line in said]


@pytest.mark.one_mpi
def test_a_rank_that_stops_responding_is_noticed(runner: Runner, run: str) -> None:
    prepare(runner, "p.h5")
    arguments = [*command(run, "p.h5"), "--stall-minutes", "0.03"]
    result = runner.faulty("prediction", 1, "SIGSTOP", *arguments, ranks=3, limit=20)
    spoke = check_stalled(result, "Nothing was written: run the same command again")
    assert {*spoke} in ({"rank 0"}, {"rank 2"}, {"rank 0", "rank 2"})
    assert "distbp/ranks/mpi.py" in result.stderr  # where they wait
    check_untouched(runner, "p.h5")


def test_a_file_that_cannot_be_read_to_its_end_is_noticed(runner: Runner, run: str) -> None:
    arguments = [*command(run, "evaluate"), "--stall-minutes", "0.02"]
    result = runner.faulty("loading", 0, "hang", *arguments, ranks=0, limit=20)
    assert check_stalled(result, "Run the same command again") == ["rank 0"]
    assert result.returncode == 1
    assert "while reading x (--stall-minutes)" in result.stderr
    assert "time.sleep(600)" in result.stderr  # the stack


def is_stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def interrupt_twice(process: int) -> None:
    os.kill(process, signal.SIGINT)
    time.sleep(0.8)
    os.kill(process, signal.SIGINT)


@pytest.mark.one_mpi
def test_a_second_ctrl_c_ends_at_once(runner: Runner, run: str) -> None:
    """Also where the other rank never comes."""
    prepare(runner, "p.h5")
    process: Any = runner.start_faulty("prediction", 1, "SIGSTOP", *command(run, "p.h5"), ranks=2)
    end = time.monotonic() + 20
    while len(ranks := ranks_of(process.pid)) < 2 or not is_stopped(ranks[1]):
        assert time.monotonic() < end
        time.sleep(0.05)
    interrupt_twice(ranks[0])
    result = runner.finish(process, 10)
    assert result.returncode not in (0, 75)
    assert "interrupted" in result.stderr
    check_untouched(runner, "p.h5")


def test_a_second_ctrl_c_ends_one_process(runner: Runner, run: str) -> None:
    prepare(runner, "p.h5")
    process = runner.start_faulty("prediction", 0, "hang", *command(run, "p.h5"), ranks=0)
    wait_for(runner.directory / "hangs")
    interrupt_twice(process.pid)
    result = runner.finish(process, 10)
    assert result.returncode == 130
    assert result.stderr.strip() == "distbp: interrupted"
    check_untouched(runner, "p.h5")
