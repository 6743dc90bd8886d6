"""What cannot be written for a moment is written anew, and is then there once; what cannot be read for a moment too."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import BIN, Notes, NoWaits, Runner, check_error, configuration, resumed, to_preload, train_on, write_data

from distbp.errors import RunError, UsageError
from distbp.files.write_patience import written_patiently
from distbp.inspection.ranking import rank
from distbp.settings.config import Config
from distbp.settings.files import read_toml
from distbp.training.checkpoint import read
from distbp.training.comparison import digest
from distbp.training.run_lock import RunLock

PASSING = ("EIO", "ESTALE", "EINTR", "EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "EBUSY", "ETIMEDOUT", "ESHUTDOWN")
LASTING = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "ENOENT", "EEXIST", "ELOOP", "EISDIR")
FILES = ("checkpoint-0000000008.h5", "best.h5", "metrics.csv", "starts.csv", "config.toml", "run.lock")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    NoWaits().install(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str]:
    """What a run of two epochs is, and the digest that it comes to."""
    here = tmp_path_factory.mktemp("made")
    config = configuration(write_data(here / "data.h5"), here / "run", epochs=2, keep=9)
    return config, digest(train_on(1, config).state.parameters)


class Away:
    """A function of the system that fails so often for files of a name, or with the temporary name of it."""

    def __init__(self, function: Any, name: str, code: int, times: float) -> None:
        self.function, self.name, self.code, self.times = function, name, code, times

    def __call__(self, place: Any, *arguments: Any, **words: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else str(arguments[0])
        if self.times > 0 and self.name in Path(path).name:
            self.times -= 1
            raise OSError(self.code, os.strerror(self.code), path)
        return self.function(place, *arguments, **words)


def check_whole(config: Config, expected: str) -> None:
    """Each row once, checkpoints that can be read, nothing left over."""
    run = Path(config.out)
    with open(run / "metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(epoch) for epoch in range(1, config.epochs + 1)]
    assert digest(read(max(run.glob("checkpoint-*.h5"))).parameters) == expected
    assert read(run / "best.h5").progress.epoch in (1, 2)
    assert read_toml(run / "config.toml")["epochs"] == config.epochs
    assert not [path.name for path in run.iterdir() if path.name.startswith(".") or path.name.endswith(".skipped")]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("function", ["fsync", "write", "replace"])
def test_a_file_that_cannot_be_written_for_a_moment(
    made: tuple[Config, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, function: str
) -> None:
    config, expected = made
    config = replace(config, out=str(tmp_path / "run"))
    away = Away(getattr(os, "pwrite" if function == "write" else function), name, errno.EIO, 3)
    monkeypatch.setattr(os, "pwrite" if function == "write" else function, away)
    notes = Notes()
    train_on(1, config, listener=notes)
    check_whole(config, expected)
    told = [line for line in notes.lines if "could not be written at first" in line]
    if away.times == 3:  # that file is not written in this way
        assert (function, name[-3:]) != ("write", ".h5")
        assert function != "fsync"
        assert not told
        return
    assert away.times == 0
    assert len(told) == 1, told
    assert (
        f"{name}: could not be written at first: the disk or the connection to it fails; see to it; try 4, " in told[0]
    )
    assert len((tmp_path / "run" / "starts.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("code", PASSING)
def test_what_may_pass(code: str, tmp_path: Path) -> None:
    away, done, notes = Away(lambda *arguments: done.append(1), "x", getattr(errno, code), 2), [], []
    written_patiently(tmp_path / "x", lambda: away("", tmp_path / "x"), notes.append)
    assert (len(done), len(notes)) == (1, 1)
    assert "try 3, " in notes[0]


@pytest.mark.parametrize("code", LASTING)
def test_what_stays_is_not_tried_again(code: str, tmp_path: Path) -> None:
    away = Away(lambda *arguments: None, "x", getattr(errno, code), 9)
    with pytest.raises(OSError, match=os.strerror(getattr(errno, code))):
        written_patiently(tmp_path / "x", lambda: away("", tmp_path / "x"), pytest.fail)
    assert away.times == 8


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("name", FILES[:-1])
def test_it_does_not_pass(
    made: tuple[Config, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ranks: int
) -> None:
    """The run ends with what the system says, once, and goes on from its last checkpoint."""
    config = replace(made[0], out=str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Away(os.fsync, name, errno.ESTALE, float("inf")))
        with pytest.raises(RunError, match=f"(?s){name}: .*; it was tried again for 10 s.* --resume") as error:
            train_on(ranks, config)
    assert error.value.agreed
    resumed(1, config)
    if ranks == 1:
        check_whole(config, made[1])


def test_rows_that_are_written_in_part_are_written_once(
    made: tuple[Config, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system takes the row, cut, and then says that it has not."""
    config, expected = made
    config = replace(config, out=str(tmp_path / "run"))

    fsync, failures = os.fsync, {"starts.csv": 2, "metrics.csv": 2}

    def cut(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if failures.get(name):
            failures[name] -= 1
            os.truncate(descriptor, os.fstat(descriptor).st_size - 7)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", cut)
    train_on(1, config)
    check_whole(config, expected)
    assert len((tmp_path / "run" / "starts.csv").read_text().splitlines()) == 2
    assert not any(failures.values())


def test_a_lock_whose_making_was_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is made, and the answer lost: the lock that is there is this run's own."""
    link, lost = os.link, [errno.EIO]

    def make(*arguments: Any, **words: Any) -> None:
        link(*arguments, **words)
        if lost:
            raise OSError(lost.pop(), "lost")

    monkeypatch.setattr(os, "link", make)
    lock = RunLock(tmp_path)
    lock.acquire(lambda text: None)
    lock.check()
    with pytest.raises(RunError, match="works in this directory"):
        RunLock(tmp_path).acquire(lambda text: None)
    lock.release()
    assert not list(tmp_path.iterdir())


# What is read


READERS: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("config.toml", "read_text", lambda run: read_toml(run / "config.toml")),
    ("config.toml", "stat", lambda run: list(rank([str(run)], "loss"))),
    ("metrics.csv", "read_text", lambda run: list(rank([str(run)], "loss"))),
    ("metrics.csv", "stat", lambda run: list(rank([str(run)], "speed"))),
    ("starts.csv", "read_text", lambda run: list(rank([str(run)], "speed"))),
    ("starts.csv", "stat", lambda run: list(rank([str(run)], "speed"))),
]


@pytest.mark.parametrize(("name", "function", "use"), READERS)
def test_other_files_that_are_read(
    made: tuple[Config, str], monkeypatch: pytest.MonkeyPatch, name: str, function: str, use: Callable[[Path], Any]
) -> None:
    run = Path(made[0].out)
    expected = use(run)
    holder: Any = os if function == "stat" else Path
    real, times, code = getattr(holder, function), 2.0, errno.EIO

    def away(path: Any, *arguments: Any, **words: Any) -> Any:
        nonlocal times
        if Path(str(path)).name == name and times > 0:
            times -= 1
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **words)

    monkeypatch.setattr(holder, function, away)
    assert use(run) == expected
    assert times == 0
    times = float("inf")
    with pytest.raises((RunError, UsageError), match=f"{name}: .*input/output error; .*; it was tried again for 10 s"):
        use(run)
    times, code = 9, errno.EACCES
    with pytest.raises((RunError, UsageError), match=f"{name}: .*: Permission denied$"):
        use(run)
    assert times == 8


def test_the_file_of_this_directory_that_cannot_be_seen(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for one that is not there: the digits are another data set."""
    from distbp.commands.options import given_options

    (tmp_path / "distbp.toml").write_text("epochs = 7\n")
    monkeypatch.chdir(tmp_path)
    real = os.stat

    def away(path: Any, *arguments: Any, **words: Any) -> Any:
        if Path(str(path)).name == "distbp.toml":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(path, *arguments, **words)

    monkeypatch.setattr(os, "stat", away)
    with pytest.raises(
        UsageError, match=r"distbp\.toml: cannot read this .*: stale file handle; .*tried again for 10 s"
    ):
        given_options((), None, {}, several=False)


# With a library that makes calls fail


@pytest.fixture(scope="module")
def library() -> str:
    return to_preload("failing_calls")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.mpi)])
@pytest.mark.parametrize(
    ("call", "name", "code"),
    [("write", "metrics.csv", "EIO"), ("fsync", ".checkpoint-0000000008", "ESTALE"), ("open", ".best.h5", "EMFILE")],
)
def test_the_command_goes_on(
    runner: Runner, made: tuple[Config, str], library: str, ranks: int, call: str, name: str, code: str
) -> None:
    result = runner.run_fork(
        *(str(BIN / "distbp"), "train", *made[0].data, "--epochs", "2", "--hidden", "6", "--batch-size", "7"),
        ranks=ranks,
        LD_PRELOAD=library,
        FAILING_PATH=f"{runner.directory}/run/{name}",
        FAILING_CALLS=call,
        FAILING_ERRNO=str(getattr(errno, code)),
        FAILING_FROM="1",
        FAILING_COUNT="1",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("could not be written at first: ") == 1
    check_whole(Config(out=str(runner.directory / "run"), epochs=2), digest_of(runner.directory / "run"))


def digest_of(run: Path) -> str:
    return digest(read(max(run.glob("checkpoint-*.h5"))).parameters)


@pytest.mark.slow
def test_the_command_ends(runner: Runner, made: tuple[Config, str], library: str) -> None:
    result = runner.run_fork(
        *(str(BIN / "distbp"), "train", *made[0].data, "--epochs", "2", "--hidden", "6"),
        LD_PRELOAD=library,
        FAILING_PATH=f"{runner.directory}/run/config.toml",
        FAILING_CALLS="rename",
        FAILING_ERRNO=str(errno.EIO),
        FAILING_FROM="1",
    )
    words = (
        "the disk or the connection to it fails; see to it; it was tried again for 10 s; then continue with --resume"
    )
    check_error(result, 1, "config.toml: cannot be written: ", words)
