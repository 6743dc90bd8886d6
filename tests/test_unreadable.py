"""What cannot be read now is not damaged: it is tried again, then the run ends, and everything stays as it was."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import HASTY, NoWaits, Runner, check_error, configuration, resumed, to_preload, train_on, write_data

from distbp.errors import CheckpointError, RunError
from distbp.files import patience, plain_hdf5
from distbp.inspection.file_inspection import describe
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import OneProcess
from distbp.settings.config import Config
from distbp.training import checkpoint
from distbp.training.comparison import digest
from distbp.training.run_directory import RunDirectory

CODES = [
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.EACCES,
    errno.EPERM,
    errno.ENOMEM,
    errno.ENODEV,
    errno.ETIMEDOUT,
    errno.EBUSY,
    errno.EAGAIN,
    errno.EREMOTEIO,
    errno.EHOSTDOWN,
]
NEWEST = "checkpoint-0000000008.h5"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    NoWaits().install(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str]:
    """A run of two epochs, with the checkpoints of all; and the digest after a third."""
    here = tmp_path_factory.mktemp("made")
    config = configuration(write_data(here / "data.h5"), here / "run", epochs=2, keep=9, checkpoint_every=1)
    train_on(1, config)
    return config, digest(train_on(1, replace(config, out=str(here / "whole"), epochs=3)).state.parameters)


@pytest.fixture
def run(made: tuple[Config, str], tmp_path: Path) -> Config:
    """A copy of it."""
    shutil.copytree(made[0].out, tmp_path / "run")
    return replace(made[0], out=str(tmp_path / "run"))


def content(config: Config) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(config.out).iterdir()}


class Away:
    """h5py's words where the system does not let it open, or read, a file of this name."""

    def __init__(self, name: str, code: int, times: float, words: str = "Unable to synchronously open file") -> None:
        self.name, self.code, self.times, self.words, self.tried = name, code, times, words, 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Away:
        monkeypatch.setattr(plain_hdf5.h5py, "File", self)
        return self

    def __call__(self, path: Any, *arguments: Any, **words: Any) -> Any:
        if Path(str(path)).name == self.name and self.times > 0:
            self.times -= 1
            self.tried += 1
            text = os.strerror(self.code)
            raise OSError(f"{self.words} (file read failed: name = '{path}', errno = {self.code}, message = '{text}')")
        return REAL(path, *arguments, **words)


REAL = h5py.File


@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[code] for code in CODES])
def test_what_the_system_says(run: Config, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is opened, or read."""
    for words in ("Unable to synchronously open file", "Can't synchronously read data"):
        away = Away(NEWEST, code, 2, words).install(monkeypatch)
        assert RunDirectory(run.out).newest()[2] == []
        away.times = np.inf
        with pytest.raises(RunError, match=f"{NEWEST}: cannot be read: .*was tried again for 10 s, and left as it is"):
            RunDirectory(run.out).newest()


@pytest.mark.parametrize("name", [NEWEST, "best.h5"])
def test_it_is_away_for_a_moment(
    run: Config, made: tuple[Config, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(name, errno.EIO, 3).install(monkeypatch)
    assert digest(resumed(1, run, epochs=3).state.parameters) == made[1]
    assert away.tried == 3
    assert not list(Path(run.out).glob("*.skipped"))


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("name", [NEWEST, "best.h5"])
def test_it_stays_away(run: Config, name: str, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(run)
    away = Away(name, errno.ESTALE, np.inf).install(monkeypatch)
    with pytest.raises(
        RunError, match=f"{name}: cannot be read: .* was tried again for 10 s, and left as it is"
    ) as error:
        resumed(ranks, run, epochs=3)
    assert error.value.agreed
    assert "nothing was changed; continue with --resume when it can be read" in str(error.value)
    assert away.tried > 2
    after = content(run)
    assert after.pop("starts.csv").startswith(before.pop("starts.csv"))
    assert after == before


def test_h5py_says_so_where_it_is_damaged() -> None:
    """These have no system's error in them, or one about a place that is not there."""
    for words in ("file signature not found", "truncated file: eof = 96", "bad object header version number"):
        assert not patience.is_system_error(OSError(f"Unable to synchronously open file ({words})"))
    for code in (errno.EINVAL, errno.EOVERFLOW, errno.EFAULT):
        assert not patience.is_system_error(OSError(f"Can't read data (errno = {code}, error message = '…')"))


def newer_format(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/annex")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")


def of_another_step(path: Path) -> None:
    shutil.copy(path.with_name("checkpoint-0000000004.h5"), path)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (newer_format, r"format version 99, .* written by distbp .*, which can read it"),
        (dangling, "is a link to /nowhere/annex"),
        (pointer, "stands for a file whose content is not here; get it with: git lfs pull"),
        (of_another_step, "holds step 4, which is not what its name says"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_good_elsewhere_is_left_as_it_is(run: Config, harm: Callable[[Path], None], words: str) -> None:
    """It is not known to be damaged, so the run does not go back."""
    harm(Path(run.out) / NEWEST)
    there = sorted(path.name for path in Path(run.out).iterdir())
    with pytest.raises(RunError, match=f"(?s){NEWEST}: {words}.*nothing was changed"):
        resumed(1, run, epochs=3)
    assert sorted(path.name for path in Path(run.out).iterdir()) == there


def test_too_large_for_this_node_is_not_damaged(run: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "free_bytes", lambda: 100)
    before = content(run)
    with pytest.raises(RunError, match=f"(?s){NEWEST}: .*do not fit into the memory.*nothing was changed"):
        resumed(1, run, epochs=3)
    assert {name: content(run)[name] for name in before if name != "starts.csv"} == {
        name: value for name, value in before.items() if name != "starts.csv"
    }


def test_one_that_is_being_written_is_waited_for(run: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program copies it to its place: the rest comes between two looks."""
    path = Path(run.out) / NEWEST
    whole = path.read_bytes()
    path.write_bytes(whole[:-2000])
    looks = iter([whole[:-1000], whole])
    read = checkpoint._read

    def slowly(path: Path) -> checkpoint.Checkpoint:
        try:
            return read(path)
        finally:
            if path.name == NEWEST:
                path.write_bytes(next(looks, whole))

    monkeypatch.setattr(checkpoint, "_read", slowly)
    assert resumed(1, run, epochs=3).state.progress.step == 12
    assert not list(Path(run.out).glob("*.skipped"))


def test_an_empty_one_is_damaged(run: Config) -> None:
    (Path(run.out) / NEWEST).write_bytes(b"")
    assert resumed(1, run, epochs=3).state.progress.step == 12
    assert (Path(run.out) / f"{NEWEST}.skipped").exists()


def test_evaluate_predict_and_inspect(run: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run they take best.h5, and no other where that cannot be read."""
    uses: list[Callable[[], Any]] = [
        partial(load, OneProcess(), run.out, Use([], "test", targets=True)),
        lambda: list(describe(run.out)),
    ]
    for use in uses:
        away = Away("best.h5", errno.ESTALE, 3).install(monkeypatch)
        use()
        assert away.tried == 3
        Away("best.h5", errno.ESTALE, np.inf).install(monkeypatch)
        with pytest.raises(CheckpointError, match=r"best\.h5: cannot be read: stale file handle"):
            use()


@pytest.mark.parametrize(("name", "method"), [("starts.csv", "read_text"), ("run", "iterdir"), ("run", "stat")])
def test_other_files_of_a_run(run: Config, name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    holder: Any = os if method == "stat" else Path
    real, times = getattr(holder, method), 3.0

    def away(path: Any, *arguments: Any, **words: Any) -> Any:
        nonlocal times
        if Path(str(path)).name == name and times > 0:
            times -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(path, *arguments, **words)

    before = content(run)
    monkeypatch.setattr(holder, method, away)
    times = np.inf
    with pytest.raises(RunError, match=rf"(?s){name}: cannot be read: stale .* again for 10 s\nnothing was changed"):
        resumed(1, run, epochs=3)
    times = 0
    kept = {name for name in before if name not in ("metrics.csv", "config.toml")}
    assert {name: content(run)[name] for name in kept} == {name: before[name] for name in kept}
    times = 2
    assert resumed(1, run, epochs=3).state.progress.step == 12


def test_no_checkpoint_and_no_good_one(run: Config) -> None:
    for path in RunDirectory(run.out).checkpoints():
        path.write_bytes(b"")
    with pytest.raises(RunError, match="no good checkpoint to resume from; start another run with another --out"):
        resumed(1, run)
    for path in RunDirectory(run.out).checkpoints():
        path.unlink()
    with pytest.raises(RunError, match="no good checkpoint to resume from; leave --resume out"):
        resumed(1, run)


# Links, and what is in the place of a directory


@pytest.mark.parametrize("name", [NEWEST, "best.h5", "metrics.csv", "starts.csv", "config.toml"])
def test_links_are_refused_before_anything_is_replaced(run: Config, tmp_path: Path, name: str) -> None:
    path, store = Path(run.out) / name, tmp_path / "store"
    path.rename(store)
    path.symlink_to(store)
    before, stored = content(run), store.read_bytes()
    with pytest.raises(
        RunError, match=f"{name}: is a link to .*store; .* nothing was changed\nput the files themselves"
    ):
        resumed(1, run, epochs=3)
    assert content(run) == before
    assert path.is_symlink()
    assert store.read_bytes() == stored
    load(OneProcess(), run.out, Use([], "test", targets=True))


def test_a_directory_that_is_a_link_is_fine(run: Config, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run.out)
    assert resumed(1, run, epochs=3, out=str(tmp_path / "link")).state.progress.step == 12


def test_names_that_share_a_file_are_parted(run: Config, tmp_path: Path) -> None:
    """In a copy by hard links, and in the cache of DVC, nothing is written."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in Path(run.out).iterdir():
        os.link(path, copy / path.name)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    resumed(1, run, epochs=3)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert len((Path(run.out) / "starts.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("dangling", "run is a link to gone, which is not there; make that directory"),
        ("file", "run is a file, and no directory; move it away"),
        ("above", "above is a file, and no directory; move it away"),
        ("dangling above", "above is a link to gone, which is not there; make that directory"),
    ],
)
def test_what_is_in_the_place_of_out(tmp_path: Path, data_file: str, what: str, words: str) -> None:
    out = tmp_path / "above" / "run" if "above" in what else tmp_path / "run"
    place = tmp_path / ("above" if "above" in what else "run")
    if "dangling" in what:
        place.symlink_to("gone")
    else:
        place.write_text("mine")
    config = configuration(data_file, out)
    for dry in (False, True):
        with pytest.raises(RunError, match=f"cannot write the results here: .*{words}, or choose another directory"):
            train_on(1, config, dry_run=dry)
    with pytest.raises(RunError, match=f"no run to be found here: .*{words}"):
        resumed(1, config)
    assert place.is_symlink() or place.read_text() == "mine"
    assert not (tmp_path / "gone").exists()


# With a library that makes opens fail


@pytest.fixture(scope="module")
def library() -> str:
    return to_preload("failing_calls")


@pytest.mark.slow
def test_the_command_goes_on_after_a_moment(runner: Runner, run: Config, library: str) -> None:
    def failing(name: str, count: int) -> Any:
        return runner.run_fork(
            *(sys.executable, "-c", HASTY, "train", "--resume", "--epochs", "3", "--out", run.out),
            LD_PRELOAD=library,
            FAILING_PATH=f"{run.out}/{name}",
            FAILING_ERRNO=str(errno.EIO),
            FAILING_FROM="1",
            FAILING_COUNT=str(count),
        )

    (Path(run.out) / NEWEST).rename(Path(run.out) / "kept")
    result = failing("checkpoint-0000000004.h5", 0)
    check_error(result, 1, "checkpoint-0000000004.h5: cannot be read: input/output error", "tried again for 10 s")
    (Path(run.out) / "kept").rename(Path(run.out) / NEWEST)
    result = failing(NEWEST, 2)
    assert result.returncode == 0, result.stderr
    assert f"resuming {run.out}/{NEWEST}: 2 epochs, 8 steps done" in result.stdout
    assert not list(Path(run.out).glob("*.skipped"))
