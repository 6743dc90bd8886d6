"""--stage-to: the data files copied once for each node."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import in_one_job
from runs import Runner, check_error, configuration, nodes_of, resumed, train_on, write_data

from distbp.data import staging
from distbp.data.staging import Staging
from distbp.errors import DistbpError, Stopped
from distbp.ranks.communicator import Communicator, run_threads


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "CHUNK", 1000)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Of several chunks, a whole one, and nothing; two of the same name."""
    paths = [tmp_path / "a" / "d.h5", tmp_path / "b" / "d.h5", tmp_path / "c.h5"]
    for path, size in zip(paths, (2345, 1000, 0), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size))
    return [str(path) for path in paths]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    (tmp_path / "local").mkdir()
    return tmp_path / "local"


def staged(parent: Path, files: list[str], comm: Communicator, **words: Any) -> tuple[list[str], list[bytes]]:
    with Staging(comm, str(parent)) as one:
        copies = one.stage(files, words.get("note", lambda text: None), words.get("pulse", lambda phase: None))
        found = copies, [Path(copy).read_bytes() for copy in copies]
        comm.allgather(None)  # nobody leaves before all have looked
    return found


@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (3, 1), (5, 2), (3, 3)])
def test_a_copy_for_each_node(
    parent: Path, files: list[str], ranks: int, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    class Counted(staging._Source):
        def __init__(self, path: str) -> None:
            read.append(path)
            super().__init__(path)

    monkeypatch.setattr(staging, "_Source", Counted)
    notes: list[str] = []
    found = run_threads(ranks, lambda comm: staged(parent, files, comm, note=notes.append), nodes_of(ranks, nodes))
    contents = [Path(file).read_bytes() for file in files]
    assert [content for _, content in found] == [contents] * ranks
    assert {tuple(copies) for copies, _ in found} == {tuple(found[node[0]][0]) for node in nodes_of(ranks, nodes)}
    assert len({copies[0] for copies, _ in found}) == nodes
    assert read == files  # by rank 0 alone
    assert notes == [f"staging   3.27 KiB to {f'{nodes} nodes, there in ' * (nodes > 1)}{parent}"]
    assert list(parent.iterdir()) == []


def fails(parent: Path, files: list[str], **words: Any) -> DistbpError:
    """On 4 ranks of 2 nodes: all raise the same, and nothing stays."""

    def attempt(comm: Communicator) -> DistbpError:
        with pytest.raises(DistbpError) as error:
            staged(parent, files, comm, **words)
        assert error.value.agreed
        return error.value

    found = run_threads(4, attempt, nodes_of(4, 2))
    assert len({str(error) for error in found}) == 1
    return found[0]


def test_what_cannot_be_copied(parent: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none: expected a directory that is there on every node" in str(fails(parent / "none", files))
    assert "gone.h5: cannot be read: No such file" in str(fails(parent, [*files, str(parent / "gone.h5")]))
    pipe = str(parent.parent / "pipe")
    os.mkfifo(pipe)
    assert "is a pipe or a device" in str(fails(parent, [pipe]))
    usage = shutil.disk_usage(parent)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: usage._replace(free=staging.SPARE + 3000))
    assert "has 64 MiB free; the data need 3.27 KiB, and 64 MiB are to stay free; choose" in str(fails(parent, files))
    assert list(parent.iterdir()) == []


def test_a_copy_that_is_wrong(parent: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(staging._Target):
        def write(self, chunk: bytes) -> None:
            super().write(bytes([chunk[0] ^ 1]) + chunk[1:])

    monkeypatch.setattr(staging, "_Target", Wrong)
    assert f"{files[0]}: does not hold what was written to it" in str(fails(parent, files))
    assert list(parent.iterdir()) == []


def test_a_file_that_changes_meanwhile(parent: Path, files: list[str]) -> None:
    def touch(phase: str) -> None:
        os.utime(files[0], (1, 1))

    assert "d.h5: has changed while it was copied" in str(fails(parent, files, pulse=touch))

    def cut(phase: str) -> None:
        os.truncate(files[0], 1500)

    assert "d.h5: has become shorter while it was copied" in str(fails(parent, files, pulse=cut))
    assert list(parent.iterdir()) == []


def test_a_stop_meanwhile(parent: Path, files: list[str]) -> None:
    def stop(phase: str) -> None:
        raise Stopped(f"stopped while {phase}")

    assert str(fails(parent, files, pulse=stop)).endswith(f"stopped while staging {files[0]}")
    assert list(parent.iterdir()) == []


def test_what_killed_runs_have_left_is_removed(parent: Path, files: list[str]) -> None:
    host = socket.gethostname()
    dead, half, alive, elsewhere, mine = (
        parent / name
        for name in (
            f"distbp-staged-{host}-dead",
            f"distbp-staged-{host}-half",
            f"distbp-staged-{host}-live",
            f"distbp-staged-not{host}-x",
            "mine",
        )
    )
    for directory in (dead, half, alive, elsewhere, mine):
        directory.mkdir()
        (directory / "0.h5").touch()
    for directory in (dead, alive, elsewhere):
        (directory / staging.LOCK).touch()
    with open(alive / staging.LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_threads(1, lambda comm: staged(parent, files, comm))
    assert sorted(parent.iterdir()) == sorted([alive, elsewhere, mine])


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_training_from_copies(tmp_path: Path, parent: Path, ranks: int) -> None:
    """The run knows its files under their own names; where they were copied to is not of the run."""
    data = write_data(tmp_path / "d.h5", train=20000)
    config = configuration(
        data, tmp_path / "run", stage_to=str(parent), memory=6e-4 if ranks == 1 else 0, batch_size=500
    )
    run = train_on(ranks, config, nodes=2)
    assert run.training.in_memory == (ranks > 1)
    assert run.config.data == [data]
    assert f'"{parent}' not in (tmp_path / "run" / "config.toml").read_text()
    assert list(parent.iterdir()) == []
    whole = train_on(ranks, replace(config, out=str(tmp_path / "whole"), stage_to="", epochs=4), nodes=2)
    again = resumed(ranks, config, epochs=4, stage_to=str(parent))
    assert again.state.history["train_loss"] == pytest.approx(whole.state.history["train_loss"], rel=1e-12)
    shutil.rmtree(parent)
    assert resumed(1, replace(config, stage_to=""), epochs=5).state.progress.epoch == 5


def test_a_dry_run_looks_at_the_directory(tmp_path: Path, parent: Path) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", stage_to=str(parent))
    train_on(3, config, nodes=2, dry_run=True)
    assert list(parent.iterdir()) == []
    with pytest.raises(DistbpError, match="nowhere: expected a directory that is there on every node"):
        train_on(3, replace(config, stage_to=str(parent / "nowhere")), nodes=2, dry_run=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.mpi
def test_real_ranks(tmp_path: Path, parent: Path, runner: Runner) -> None:
    data = write_data(tmp_path / "d.h5", train=2000)
    done = runner.distbp("train", data, "--stage-to", str(parent), "--epochs", "2", "--out", "run", ranks=3)
    assert done.returncode == 0, done.stderr
    assert f"KiB to {parent}\n" in done.stdout
    staged = ("--stage-to", str(parent), "--out")
    again, failed, nowhere = in_one_job(
        runner,
        2,
        ("train", "--resume", *staged, "run", "--epochs", "3"),
        ("train", data, "--x", "none", *staged, "failed"),
        ("train", data, "--stage-to", "nowhere", "--out", "other"),
    )
    assert f"KiB to {parent}\n" in again.stdout
    check_error(failed, 1, f"{data}: no data set train/none")
    check_error(nowhere, 1, "--stage-to nowhere")
    assert list(parent.iterdir()) == []
    check_error(runner.distbp("train", data, "--stage-to", "x", "--trust-links"), 2, "does not go with --trust-links")
