"""One rank comes to harm, or is told to stop: the job ends in seconds, once, and goes on to the same result.

The runs go on in this process, on threads; `test_mpirun.py` has real ranks that go on with what others have left.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import (
    BIN,
    Notes,
    Runner,
    configuration,
    mpirun_command,
    ranks_of,
    resumed,
    train_on,
    wait_for,
    wait_for_its_end,
    write_data,
)

from distbp.engine.native.library import library
from distbp.errors import Stopped, UsageError
from distbp.settings.merged import merge
from distbp.training.checkpoint import read
from distbp.training.comparison import digest
from distbp.training.run import Run

PLAIN: dict[str, Any] = {"hidden": [5], "batch_size": 200, "epochs": 4, "drift_steps": 5}
NUMPY = {**PLAIN, "engine": "numpy"}
SMALL = {**PLAIN, "reproducible": True, "grain": 64, "checkpoint_every": 1}
STREAMED = {**SMALL, "memory": 0.0007}  # GiB: half of the data

pytestmark = pytest.mark.mpi


def words_of(options: dict[str, Any]) -> list[str]:
    """The same options on the command line."""
    words = []
    for name, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
    return words


def checkpoints(runner: Runner) -> list[Path]:
    return sorted((runner.directory / "run").glob("checkpoint-*.h5"))


def goes_on(runner: Runner, ranks: int, notes: Notes | None = None, **options: Any) -> Run:
    """The run in this directory is continued, by so many threads."""
    wait_for_its_end(runner.directory / "run")
    config = merge({"out": str(runner.directory / "run")}, "test")
    return train_on(ranks, config, resume_with=options, listener=notes)


def begins(data: Path, out: Path, ranks: int, options: dict[str, Any]) -> Run:
    """A run by so many threads, which nobody disturbs."""
    wait_for_its_end(out)
    return train_on(ranks, merge({**options, "data": [str(data)], "out": str(out)}, "test"))


def digest_of(run: Run) -> str:
    """Of the parameters in its newest checkpoint."""
    return digest(read(run.directory.checkpoints()[-1]).parameters)


# where, which rank of how many, what, words of the message, options
FAULTS = [
    ("reading", 1, 2, "bug", "ZeroDivisionError: a bug", SMALL),
    ("measuring", 1, 2, "memory", "not enough memory on rank 1", SMALL),
    ("step", 0, 2, "bug", "internal error on rank 0 of 2", NUMPY),
    ("step", 1, 2, "SIGKILL", "", NUMPY),
    ("call", 0, 2, "bug", "internal error on rank 0 of 2", PLAIN),
    ("call", 2, 3, "memory", "not enough memory on rank 2", PLAIN),
    ("call", 1, 2, "SIGKILL", "", PLAIN),
    ("update", 1, 2, "SIGKILL", "", {**SMALL, "engine": "numpy"}),
    ("stepped", 1, 2, "SIGKILL", "", SMALL),
    ("stepped", 0, 3, "SIGSEGV", "", SMALL),
    ("stepped", 0, 1, "SIGKILL", "", SMALL),
    ("validation", 1, 2, "bug", "internal error on rank 1 of 2", SMALL),
    ("checkpoint", 0, 2, "bug", "internal error on rank 0 of 2", SMALL),
    ("checkpoint", 0, 2, "SIGKILL", "", SMALL),
    ("prefetch", 1, 2, "bug", "internal error on rank 1 of 2", STREAMED),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data, and the digest of the run that nobody disturbs."""
    here = tmp_path_factory.mktemp("undisturbed")
    data = Path(write_data(here / "data.h5", train=2000, test=100, inputs=64))
    return data, digest_of(begins(data, here / "run", 1, SMALL))


@pytest.mark.parametrize(
    ("place", "rank", "ranks", "how", "words", "options"),
    FAULTS,
    ids=[f"{f[0]}-{f[1]}-of-{f[2]}-{f[3]}" for f in FAULTS],
)
def test_one_rank_comes_to_harm(
    runner: Runner,
    undisturbed: tuple[Path, str],
    place: str,
    rank: int,
    ranks: int,
    how: str,
    words: str,
    options: dict[str, Any],
) -> None:
    data, expected = undisturbed
    if place == "call" and isinstance(library(), str):
        pytest.skip(f"no compiled step: {library()}")
    result = runner.faulty(place, rank, how, "train", str(data), *words_of(options), "--out", "run", ranks=ranks)
    assert result.returncode != 0
    assert result.returncode != 75
    assert words in result.stderr
    said = result.stderr.count("distbp: error") + result.stderr.count("distbp: internal error")
    assert said == (0 if how.startswith("SIG") else 1), result.stderr
    others = 3 - ranks % 2
    is_begun = bool(checkpoints(runner))
    again = goes_on(runner, others) if is_begun else begins(data, runner.directory / "run", others, options)
    assert again.state.progress.epoch == 4
    if "reproducible" in options and "engine" not in options:
        assert digest_of(again) == expected
    assert sorted(path.suffix for path in (runner.directory / "run").iterdir() if path.suffix == ".tmp") == []


TRAINING = r"(in epoch \d+, step \d+|evaluating test|writing a checkpoint)"  # what a rank was at, when it was stopped
LONG = {**SMALL, "epochs": 100000, "checkpoint_minutes": 0, "checkpoint_every": 100000}


def start(runner: Runner, data: Path, *options: str, ranks: int) -> Any:
    """A run that would go on for hours; it has taken its first step."""
    process = runner.fork(
        str(BIN / "distbp"), "train", str(data), *words_of(LONG), "--out", "run", *options, ranks=ranks
    )
    wait_for(runner.directory / "run" / "config.toml")
    time.sleep(0.3)
    return process


def check_stopped(runner: Runner, process: Any, ranks: int) -> None:
    """Exit code 75 with a checkpoint, from which it goes on; but Open MPI's mpirun says 1 after INT and TERM."""
    result = runner.finish(process, 10)
    assert len(checkpoints(runner)) == 2, result.stderr
    assert result.returncode == 75, result.stderr
    assert result.stderr.count("stopped on request at epoch") == 1
    step = int(result.stderr.split(", step ")[1].split(";")[0])
    again = goes_on(runner, max(1, ranks), epochs=step // 10 + 1)
    assert again.state.progress.step == 10 * (step // 10 + 1)
    assert [start["step"] for start in starts(runner)] == ["0", str(step)]


def starts(runner: Runner) -> list[dict[str, str]]:
    with open(runner.directory / "run" / "starts.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.one_mpi
@pytest.mark.parametrize("name", ["INT", "TERM", "USR1", "USR2"])
def test_a_signal_stops_one_process(runner: Runner, undisturbed: tuple[Path, str], name: str) -> None:
    process = start(runner, undisturbed[0], ranks=0)
    process.send_signal(signal.Signals[f"SIG{name}"])
    check_stopped(runner, process, 0)


@pytest.mark.parametrize("name", ["INT", "TERM", "USR1", "USR2"])
def test_a_signal_to_one_rank_stops_all(runner: Runner, undisturbed: tuple[Path, str], name: str) -> None:
    process = start(runner, undisturbed[0], ranks=2)
    os.kill(ranks_of(process.pid)[-1], signal.Signals[f"SIG{name}"])
    check_stopped(runner, process, 2)


@pytest.mark.parametrize(("name", "ranks"), [("INT", 2), ("TERM", 3), ("USR1", 4), ("USR2", 2), ("HUP", 3)])
def test_a_signal_to_mpirun(runner: Runner, undisturbed: tuple[Path, str], name: str, ranks: int) -> None:
    """The launchers differ in what they pass on (slurm/README.md, "Which launcher"); nothing is lost with any.

    Open MPI's ends the ranks half a second after INT, TERM and HUP, which may be enough for a checkpoint; MPICH's at
    once after USR2 and HUP.
    """
    process = start(runner, undisturbed[0], "--stop-signals", "INT,TERM,USR1,USR2,HUP", ranks=ranks)
    process.send_signal(signal.Signals[f"SIG{name}"])
    result = runner.finish(process, 10)
    is_open_mpi = "--oversubscribe" in mpirun_command()
    is_passed_on = name in (("USR1", "USR2") if is_open_mpi else ("INT", "TERM", "USR1"))
    assert (result.returncode == 75) if is_passed_on else (result.returncode not in (0, 75)), result.stderr
    assert result.stderr.count("stopped on request at epoch") == int(is_passed_on), result.stderr
    found = checkpoints(runner)
    step = int(found[-1].name[-13:-3])
    if is_passed_on or not is_open_mpi:
        assert (step > 0) == is_passed_on

    notes, epochs = Notes(), step // 10 + 1
    again = goes_on(runner, 3, notes, epochs=epochs)
    if step == 0:
        assert len(notes.about("taking over")) == 1
    alone = begins(undisturbed[0], runner.directory / "alone", 1, {**SMALL, "epochs": epochs})
    assert digest_of(again) == digest_of(alone)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_signal_while_a_checkpoint_is_written(runner: Runner, undisturbed: tuple[Path, str], ranks: int) -> None:
    """The checkpoint is finished, and the next step is the last one."""
    data, expected = undisturbed
    command = ("train", str(data), *words_of(SMALL), "--out", "run")
    stopped = runner.faulty("checkpoint", 0, "SIGTERM", *command, ranks=ranks)
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stderr.count("stopped on request at epoch") == 1
    assert digest_of(goes_on(runner, 2)) == expected


@pytest.mark.one_mpi
def test_the_signals_are_an_option(runner: Runner, undisturbed: tuple[Path, str]) -> None:
    process = start(runner, undisturbed[0], "--stop-signals", "HUP", ranks=2)
    os.kill(ranks_of(process.pid)[0], signal.SIGHUP)
    check_stopped(runner, process, 2)
    with pytest.raises(UsageError, match="--stop-signals: expected some of INT,TERM"):
        merge({"stop_signals": "KILL"}, "command line")


def test_a_second_ctrl_c_ends_at_once(runner: Runner, undisturbed: tuple[Path, str]) -> None:
    """Also where the main thread is busy for long: here the other rank is stopped, and never comes to the Allreduce."""
    process = start(runner, undisturbed[0], ranks=2)
    first, second = ranks_of(process.pid)
    os.kill(second, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(first, signal.SIGINT)
    time.sleep(0.8)
    os.kill(first, signal.SIGINT)
    result = runner.finish(process, 10)
    assert result.returncode not in (0, 75)
    assert "interrupted" in result.stderr


def test_grace_ends_what_does_not_come_to_its_step(runner: Runner, undisturbed: tuple[Path, str]) -> None:
    process = start(runner, undisturbed[0], "--grace", "1", ranks=2)
    first, second = ranks_of(process.pid)
    os.kill(second, signal.SIGSTOP)
    os.kill(first, signal.SIGUSR1)
    result = runner.finish(process, 10)
    assert result.returncode != 0
    assert re.search(rf"was asked to stop 1 s ago and is still {TRAINING}; ", result.stderr), result.stderr
    assert len(checkpoints(runner)) == 1


def test_a_rank_that_stops_responding_is_noticed(runner: Runner, undisturbed: tuple[Path, str]) -> None:
    process = start(runner, undisturbed[0], "--stall-minutes", "0.03", ranks=3)
    ranks = ranks_of(process.pid)
    assert len(ranks) == 3
    os.kill(ranks[1], signal.SIGSTOP)
    result = runner.finish(process, 15)
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if "has not come on for" in line]
    assert len(said) >= 1, result.stderr
    assert re.search(rf"while {TRAINING} ", said[0]), said[0]
    assert re.search(r"distbp/(ranks/mpi|engine/compiled_net)\.py", result.stderr)  # the stack
    assert goes_on(runner, 1, epochs=1).state.progress.epoch == 1


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data that take a while to read."""
    path = tmp_path_factory.mktemp("large") / "large.h5"
    chunk = zlib.compress(np.tile(np.arange(200, dtype="f4"), 1000).tobytes())
    with h5py.File(path, "w") as file:
        x = file.create_dataset("train/x", (400_000, 200), "f4", chunks=(1000, 200), compression="gzip")
        for row in range(0, 100_000, 1000):
            x.id.write_direct_chunk((row, 0), chunk)
        assert x[99_999].tolist() == list(range(200))
        file["train/y"] = np.arange(400_000) % 2
    return path


@pytest.mark.parametrize("ranks", [pytest.param(0, marks=pytest.mark.one_mpi), 2])
def test_a_signal_while_data_are_read(runner: Runner, large: Path, ranks: int) -> None:
    """Nothing was done, so the same command starts again."""
    process = runner.fork(str(BIN / "distbp"), "train", str(large), "--epochs", "1", ranks=ranks)
    wait_for(runner.directory / "run")
    time.sleep(0.1)
    for rank in ranks_of(process.pid) if ranks else [process.pid]:
        os.kill(rank, signal.SIGUSR1)
    result = runner.finish(process, 10)
    assert result.returncode == 75, result.stderr
    assert result.stderr.count("stopped on request while") == 1, result.stderr
    assert "before the first step; run the same command again" in result.stderr


@pytest.mark.one_mpi
def test_a_signal_while_it_validates(tmp_path: Path) -> None:
    """The checkpoint before the validation is one that a resume goes on from, to the same result."""
    data = write_data(tmp_path / "data.h5")
    whole = train_on(1, configuration(data, tmp_path / "whole"))
    for ranks in (1, 3):
        asked: list[str] = []
        config = configuration(data, tmp_path / f"{ranks}")

        def beat(phase: str, asked: list[str] = asked) -> None:
            if phase == "evaluating test":
                asked.append(phase)

        with pytest.raises(Stopped, match="stopped on request at epoch 1, step 4") as error:
            train_on(ranks, config, why_stop=lambda asked=asked: "on request" * bool(asked), beat=beat)
        assert error.value.agreed
        run = resumed(1, config)
        assert [path.name for path in sorted(Path(config.out).glob("*.csv"))] == ["metrics.csv", "starts.csv"]
        assert run.state.history["validation_loss"] == pytest.approx(whole.state.history["validation_loss"], rel=1e-12)
        assert run.state.progress.epoch == 3
