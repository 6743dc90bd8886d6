"""Ranks that were started with other options, or see other files, are found before anything is done."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from jobs import in_one_job
from runs import BIN, Runner, check_error, configuration, distbp_of_shell, in_fork, mpirun_command, train_on, write_data

from distbp.errors import DataError, LaunchError, UsageError
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import Communicator, OneProcess, run_threads
from distbp.ranks.same_everywhere import check_alike, check_command, check_version, compare_files


class Second(OneProcess):
    """A rank that hears from another rank 0."""

    def __init__(self, first: Any) -> None:
        self._first = first

    def broadcast(self, value: Any) -> Any:
        return self._first


def test_versions() -> None:
    run_threads(3, check_version)
    with pytest.raises(LaunchError, match=r"runs distbp .*, and rank 0 distbp 9\.9; all nodes need the same") as error:
        check_version(Second("9.9"))
    assert error.value.agreed


def test_commands() -> None:
    run_threads(3, lambda comm: check_command(comm, "train"))
    words = r"rank 1 \(.*\): runs distbp evaluate, and rank 0 distbp train; the ranks of a job work on one command"
    with pytest.raises(UsageError, match=words) as error:
        run_threads(2, lambda comm: check_command(comm, "evaluate" if comm.rank else "train"))
    assert error.value.agreed


@pytest.mark.mpi
def test_two_commands_in_one_job(runner: Runner, data_file: str) -> None:
    """mpirun takes several, with a colon between them."""
    distbp = in_fork(str(BIN / "distbp"))
    train = (*mpirun_command(), "-n", "1", *distbp, "train", data_file)
    result = runner.run(*train, ":", "-n", "1", *distbp, "evaluate", "run")
    check_error(result, 2, "runs distbp evaluate, and rank 0 distbp train")
    assert not (runner.directory / "run").exists()


def test_options(tmp_path: Path) -> None:
    def work(comm: Communicator) -> None:
        odd = {"learning_rate": 0.5} if comm.rank == 2 else {}
        check_alike(comm, configuration("d.h5", tmp_path, **odd), None)

    run_threads(2, work)
    with pytest.raises(UsageError, match=r"rank 2 \(.*\): --learning-rate is 0\.5, and on rank 0 0\.001") as error:
        run_threads(4, work)
    assert error.value.agreed
    with pytest.raises(UsageError, match="--resume is True, and on rank 0 False"):
        run_threads(2, lambda comm: check_alike(comm, configuration("d", tmp_path), {} if comm.rank else None))
    with pytest.raises(UsageError, match="--epochs is 9, and on rank 0 4"):
        run_threads(2, lambda comm: check_alike(comm, configuration("d", tmp_path), {"epochs": 9 if comm.rank else 4}))


def test_files(tmp_path: Path) -> None:
    path = write_data(tmp_path / "d.h5")
    size, changed = os.path.getsize(path), os.stat(path).st_mtime_ns
    notes: list[str] = []
    compare_files(Second([(size, changed)]), [path], notes.append)
    assert notes == []
    compare_files(Second([(size, changed - 5)]), [path], notes.append)
    assert notes == ["note      rank 0 sees data files with other times of change than rank 0: copies, it is hoped"]
    for there, message in (
        ([(7, changed)], rf"d\.h5: has {size} bytes, and on rank 0 it has 7 bytes; data must be the same"),
        ([(None, 0)], rf"d\.h5: has {size} bytes, and on rank 0 it is not there"),
    ):
        with pytest.raises(DataError, match=message) as error:
            compare_files(Second(there), [path], notes.append)
        assert error.value.agreed
    run_threads(3, lambda comm: compare_files(comm, [path, "nowhere.h5"], notes.append))


@pytest.mark.mpi
def test_real_ranks_with_other_options(runner: Runner, data_file: str) -> None:
    first = [*in_fork(str(BIN / "distbp")), "train", data_file, "--out", "run", "--epochs", "2"]
    result = runner.run(*mpirun_command(), "-n", "1", *first, ":", "-n", "1", *first[:-1], "3")
    check_error(result, 2, "rank 1 (", "--epochs is 3, and on rank 0 2; all ranks need the same options")
    assert not (runner.directory / "run").exists()


@pytest.mark.mpi
def test_a_configuration_that_only_one_rank_could_read(runner: Runner) -> None:
    """A pipe kept the ranks waiting, before MPI; stdin is rank 0's alone."""
    os.mkfifo(runner.directory / "pipe")
    names = ("pipe", "/dev/stdin", "/proc/self/fd/0")
    results = in_one_job(runner, 2, *(("train", "--config", name, "--out", "run") for name in names))
    for name, result in zip(names, results, strict=True):
        words = f"--config {name}: a pipe, a descriptor or a device is not the same for all ranks; write"
        check_error(result, 2, words)
    assert not (runner.directory / "run").exists()


def test_a_configuration_from_a_pipe(runner: Runner) -> None:
    """For one process it is like any other file."""
    command = f"echo 'epochs = 0' | {distbp_of_shell()} train --config /dev/stdin --out run"
    result = runner.run("sh", "-c", command)
    assert result.returncode == 0, result.stderr
    assert "epochs = 0" in (runner.directory / "run" / "config.toml").read_text()


@pytest.mark.mpi
def test_a_configuration_that_one_rank_does_not_find(runner: Runner) -> None:
    """Of a node that does not see the file; nobody waits for it."""
    (runner.directory / "c.toml").write_text("epochs = 0\n")
    first = [*in_fork(str(BIN / "distbp")), "train", "--out", "run", "--config"]
    result = runner.run(*mpirun_command(), "-n", "1", *first, "c.toml", ":", "-n", "1", *first, "none.toml")
    check_error(result, 2, "rank 1 (", "none.toml: cannot read this configuration file: No such file")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("options", "others", "words"),
    [
        (["--memory", "1"], ["--memory", "1e-7"], "--memory is 1e-07, and on rank 0 1.0"),
        (["--split", "train"], ["--split", "test"], "--split is 'test', and on rank 0 'train'"),
    ],
)
def test_real_ranks_that_evaluate_with_other_options(
    runner: Runner, data_file: str, options: list[str], others: list[str], words: str
) -> None:
    """With other memory they waited for each other for ever, with another split they said nothing."""
    train_on(1, configuration(data_file, runner.directory / "run", epochs=1))
    first = [*in_fork(str(BIN / "distbp")), "evaluate", "run"]
    result = runner.run(*mpirun_command(), "-n", "1", *first, *options, ":", "-n", "1", *first, *others)
    check_error(result, 2, "rank 1 (", words)


def test_data_of_other_ranks_to_evaluate_on(tmp_path: Path) -> None:
    """A node with another file of the same name has an error or, where that might be a copy, a note."""
    path = write_data(tmp_path / "d.h5")
    train_on(1, configuration(path, tmp_path / "run", epochs=1))
    size, changed = os.path.getsize(path), os.stat(path).st_mtime_ns
    notes: list[str] = []

    class Other(OneProcess):
        def broadcast(self, value: Any) -> Any:
            return [(size + there, changed - 5)] if value == [(size, changed)] else value

    for there in (0, 7):
        with pytest.raises(DataError, match="data must be the same on all nodes") if there else nullcontext():
            load(Other(), str(tmp_path / "run"), Use((), "test", targets=True), note=notes.append)
    assert notes == ["note      rank 0 sees data files with other times of change than rank 0: copies, it is hoped"]
