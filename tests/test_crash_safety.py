"""A run that is killed, or cannot write, at any point of writing: `--resume` goes on as if nothing had been.

The process counts what it is about to do to its directory (open, write, sync, link, rename, remove), and is killed
before the k-th, for each k; of the many small writes of a large HDF5 file, every 11th (all: DISTBP_TEST_EVERY=1).  All
of it in one child process, which forks: a fork of the tests themselves would have their threads.
"""

from __future__ import annotations

import csv
import errno
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import (
    BIN,
    LIMIT,
    NoWaits,
    Runner,
    check_error,
    configuration,
    distbp_of_shell,
    environment,
    in_fork,
    train_on,
    write_data,
)

from distbp.errors import RunError
from distbp.files import new_file
from distbp.settings.config import Config
from distbp.training.checkpoint import read, write
from distbp.training.comparison import digest
from distbp.training.history import History
from distbp.training.run_directory import RunDirectory

WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
EVERY = int(os.environ.get("DISTBP_TEST_EVERY", "11"))  # so many writes of HDF5 are left out between two kills
KILLER = """
import gc, os, signal, sys
from dataclasses import replace
from pathlib import Path
import h5py
from distbp.files import write_arrays
from distbp.training.checkpoint import read
from distbp.training.comparison import digest
from distbp.ranks.communicator import OneProcess
from distbp.settings.merged import merge
from distbp.errors import RunError
from distbp.training.listener import Listener
from distbp.training.prepare import Start
from distbp.training.train import train

data, out, every = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
part, parts, saves = int(sys.argv[4]), int(sys.argv[5]), "auto" if sys.argv[6] == "auto" else int(sys.argv[6])
SMALL = dict(hidden=[], optimizer="sgd", epochs=2, batch_size=12, reproducible=True, keep=1, data=[data],
             audit_epochs=1, audit_steps=3)
SMALL["checkpoint_every"] = saves
if saves == 1:
    write_arrays.IN_MEMORY = -1  # as a large checkpoint is written

def config(name):
    return merge({**SMALL, "out": str(out / name)}, "test")

def state(name):
    run = out / name
    names = sorted(file.name for file in run.iterdir())
    rows = [line.split(",")[:7] for line in (run / "metrics.csv").read_text().splitlines()]
    digests = [digest(read(file).parameters) for file in run.glob("*.h5")]
    digests.append((run / "audit.csv").read_text())
    settings = [line for line in (run / "config.toml").read_text().splitlines() if not line.startswith("out")]
    return names, rows, digests, settings

left = -1
done = []

def about_to(what):
    global left
    left -= 1
    done.append(what)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(owner, name):
    original = getattr(owner, name)
    def call(*arguments, **words):
        about_to(name)
        return original(*arguments, **words)
    setattr(owner, name, call)

def audit(event, arguments):
    if event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate"):
        about_to(event)
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        about_to("open")

sys.addaudithook(audit)
watched(os, "fsync")
watched(os, "pwrite")

class Begin(Listener):
    def begin(self, run):
        self.written = len(done)

done.clear()
begin = Begin()
train(OneProcess(), config("whole"), listeners=[begin])
points, expected = list(done), state("whole")
first = begin.written if saves == "auto" else 0  # up to there they write the same
gc.freeze()  # what is there is shared with all forks

def forked(action):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]

def training(name, k):
    global left
    left = k
    train(OneProcess(), config(name))

def going_on(name, k):
    global left
    left = k
    try:
        train(OneProcess(), replace(config(name)), Start(resume_with={}))
    except RunError as error:
        assert "no good checkpoint" in str(error) or "no run to be found here" in str(error), error
        train(OneProcess(), config(name))

writes = [k for k in range(1, len(points) + 1) if points[k - 1] == "pwrite"]
kills = {*range(1, len(points) + 1)} - {*writes} | {*writes[::every]}
for k in sorted(k for k in kills if k > first)[part::parts]:
    killed = forked(lambda: training(f"at-{k}", k))
    assert killed == signal.SIGKILL, (k, killed)
    if k % 4 == 0:  # and the resume too
        forked(lambda: going_on(f"at-{k}", 1 + k // 4))
    assert forked(lambda: going_on(f"at-{k}", -1)) == 0, (k, points[k - 1])
    assert state(f"at-{k}") == expected, (k, points[k - 1], state(f"at-{k}"), expected)
print(len(points), *sorted(set(points)))
"""


@pytest.mark.slow
@pytest.mark.timeout(LIMIT * 9)
@pytest.mark.parametrize(("part", "parts", "saves"), [(0, 2, "1"), (1, 2, "1"), (0, 2, "auto"), (1, 2, "auto")])
def test_killed_at_any_point_of_writing(data_file: str, tmp_path: Path, part: int, parts: int, saves: str) -> None:
    """With a checkpoint after each epoch, written as large ones are, and with those of auto, which are small.

    In halves, for two workers.  A small one is put together in memory, and has one write.
    """
    done = subprocess.run(
        [sys.executable, "-c", KILLER, data_file, str(tmp_path), *map(str, (EVERY, part, parts)), saves],
        env=environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=LIMIT * 8,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"fsync", "os.rename", "os.link", "os.remove", "open", "pwrite"} <= set(done.stdout.split())


def often(data: str, out: Path, **options: Any) -> Config:
    """Of a reproducible run that saves after each epoch."""
    return configuration(data, out, reproducible=True, checkpoint_every=1, **options)


def seen(run: Path) -> tuple[list[str], dict[str, bytes]]:
    """The names in a run directory, and the content of its checkpoints."""
    return sorted(os.listdir(run)), {path.name: path.read_bytes() for path in run.glob("*.h5")}


def check_goes_on(whole: Path, run: Path) -> None:
    """Resumed, the run becomes the one that was not disturbed."""
    train_on(1, Config(out=str(run)), resume_with={"epochs": 3})
    last = RunDirectory(str(whole)).checkpoints()[-1].name
    assert digest(read(run / last).parameters) == digest(read(whole / last).parameters)
    assert sorted(os.listdir(run)) == sorted(os.listdir(whole))
    with open(run / "metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 3 epochs, on what is in `data_file`."""
    here = tmp_path_factory.mktemp("undisturbed")
    train_on(1, often(write_data(here / "data.h5"), here / "run"))
    return here / "run"


@pytest.fixture
def whole(undisturbed: Path, tmp_path: Path) -> Path:
    """The same, which a test may change."""
    return Path(shutil.copytree(undisturbed, tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full; make room"),
        (errno.EDQUOT, "the quota is used up; make room"),
        (errno.EIO, "the disk or the connection to it fails"),
        (errno.EROFS, "the file system is read-only"),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)
@pytest.mark.parametrize("where", ["fsync", "create", "close", "replace"])
def test_an_error_in_mid_run(
    data_file: str, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str, where: str
) -> None:
    """The 2nd epoch cannot be saved; what was saved of the 1st is good."""
    owner: object = {"fsync": os, "replace": os, "create": h5py.h5d, "close": h5py.File}[where]
    original, run = getattr(owner, where), tmp_path / "run"

    def fails(*arguments: object, **how: object) -> object:
        if (run / "checkpoint-0000000004.h5").exists() and (where != "close" or arguments[0].id):  # type: ignore[attr-defined]
            if where == "close":
                original(*arguments, **how)
            raise OSError(code, os.strerror(code))
        return original(*arguments, **how)

    monkeypatch.setattr(owner, where, fails)
    if where == "close":
        monkeypatch.setattr("distbp.files.write_arrays.IN_MEMORY", -1)  # a small one is not closed by HDF5
    NoWaits().install(monkeypatch)
    with pytest.raises(RunError, match=words) as caught:
        train_on(1, often(data_file, run))
    if "cannot write the checkpoint" in str(caught.value):
        assert f"the last checkpoint is {run}/checkpoint-0000000004.h5; continue with --resume" in str(caught.value)
    monkeypatch.undo()
    names, _ = seen(run)
    checkpoints = ["checkpoint-0000000000.h5", "checkpoint-0000000004.h5"]
    assert names == ["audit.csv", "best.h5", *checkpoints, "config.toml", "metrics.csv", "starts.csv"]
    check_goes_on(whole, run)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_fsync(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def unknown(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(new_file.os, "fsync", unknown)
    train_on(1, configuration(data_file, tmp_path / "run", epochs=1))
    assert read(tmp_path / "run" / "checkpoint-0000000004.h5").progress.epoch == 1


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(runner: Runner, data_file: str) -> None:
    """The system itself refuses to write, in the midst of an HDF5 file; everybody may set this limit."""
    command = (
        "prlimit",
        "--fsize={}",
        *in_fork(str(BIN / "distbp")),
        "train",
        data_file,
        "--epochs",
        "2",
        "--hidden",
        "64",
    )
    if not shutil.which("prlimit"):
        pytest.skip("no prlimit")
    for limit in (2000, 5000, 10000):
        result = runner.run(*(word.format(limit) for word in command))
        check_error(result, 1, "larger than is allowed; see ulimit -f")
        assert not list((runner.directory / "run").glob("*"))
    assert runner.distbp("train", data_file, "--epochs", "2", "--hidden", "64").returncode == 0
    before = seen(runner.directory / "run")
    result = runner.run("prlimit", "--fsize=5000", *in_fork(str(BIN / "distbp")), "train", "--resume", "--epochs", "3")
    check_error(result, 1, "larger than is allowed; see ulimit -f", "continue with --resume")
    assert seen(runner.directory / "run") == before
    assert runner.distbp("train", "--resume", "--epochs", "3").returncode == 0


FULL = """
set -e
mount -t tmpfs -o size={size}k tmpfs {disk}
set +e
{distbp} train {data} --out {disk}/run --epochs 6 --hidden 64 --keep 100 --checkpoint-every 1
echo "exit code $?"
ls -A {disk}/run
cp -r {disk}/run {copy}
"""


@pytest.mark.slow
def test_a_full_disk(runner: Runner, data_file: str) -> None:
    disk, copy = runner.directory / "disk", runner.directory / "run"
    disk.mkdir()
    if runner.run("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(disk)).returncode:
        pytest.skip("a small file system needs root")
    for size in (64, 76, 88, 100):
        shutil.rmtree(copy, ignore_errors=True)
        script = FULL.format(size=size, disk=disk, distbp=distbp_of_shell(), data=data_file, copy=copy)
        result = runner.run("unshare", "-m", "bash", "-c", script)
        assert "exit code 1" in result.stdout, result.stdout + result.stderr
        result.returncode = 1
        check_error(result, 1, "the disk is full; make room", "--resume")
        assert ".tmp" not in result.stdout
        assert "run.lock" not in result.stdout
        assert all(read(path).vector.size for path in copy.glob("*.h5"))
        assert runner.distbp("train", "--resume").returncode == 0, size


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.one_mpi)])
@pytest.mark.parametrize("what", ["removed", "read-only"])
def test_a_directory_that_is_taken_away_in_mid_run(runner: Runner, data_file: str, ranks: int, what: str) -> None:
    rights = WITHOUT_ROOTS_RIGHTS if os.getuid() == 0 else ()
    if what == "read-only" and rights and (ranks or not shutil.which("setpriv")):
        pytest.skip("root may write everywhere")
    options = ("--epochs", "100000", "--checkpoint-every", "1", "--hidden", "4", "--batch-size", "2")
    start = runner.start if rights else runner.fork
    process = start(*rights, str(BIN / "distbp"), "train", data_file, *options, ranks=ranks)
    run = runner.directory / "run"
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    if what == "removed":
        run.rename(runner.directory / "elsewhere")
    else:
        run.chmod(0o555)
    result = runner.finish(process)
    run.chmod(0o755) if what == "read-only" else (runner.directory / "elsewhere").rename(run)
    check_error(result, 1, "run/", "the directory is not there any more" if what == "removed" else "permission denied")
    assert "no checkpoint is there yet" not in result.stderr
    before = read(RunDirectory(str(run)).checkpoints()[-1]).progress.epoch
    again = runner.distbp("train", "--resume", "--epochs", str(before + 2))
    assert again.returncode == 0, again.stderr
    with open(run / "metrics.csv") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, before + 3))


@pytest.mark.slow
def test_a_directory_that_may_not_be_written(runner: Runner, data_file: str) -> None:
    rights = WITHOUT_ROOTS_RIGHTS if os.getuid() == 0 else ()
    if rights and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere")
    run = runner.directory / "run"
    assert runner.distbp("train", data_file, "--epochs", "1").returncode == 0
    before = seen(run)
    run.chmod(0o555)
    try:
        resumed_there = runner.run(*rights, str(BIN / "distbp"), "train", "--resume", "--epochs", "2")
        empty = runner.directory / "empty"
        empty.mkdir(mode=0o555)
        new = runner.run(*rights, str(BIN / "distbp"), "train", data_file, "--out", "empty")
    finally:
        run.chmod(0o755)
    check_error(resumed_there, 1, "run: cannot write the results here: permission denied")
    check_error(new, 1, "empty: cannot write the results here: permission denied")
    assert seen(run) == before


def temporary_names(run: Path) -> list[Path]:
    of = ["best.h5", "metrics.csv", "config.toml", "checkpoint-0000000008.h5", "checkpoint-0000000012.h5"]
    return [run / f".{name}.{os.getpid()}.tmp" for name in of]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_lies_at_the_temporary_names_is_not_written_to(data_file: str, whole: Path, kind: str) -> None:
    """Planted, or left by a run with our process id that was killed."""
    run, other = whole.with_name("run"), whole.with_name("other")
    train_on(1, often(data_file, run, epochs=1))
    if kind != "dangling link":
        other.write_text("precious")
    for name in temporary_names(run):
        name.write_text("leftover") if kind == "file" else name.symlink_to(other)
    check_goes_on(whole, run)
    assert other.exists() == (kind != "dangling link")
    assert not other.exists() or other.read_text() == "precious"


def test_a_link_that_is_planted_in_mid_run(data_file: str, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = whole.with_name("run"), whole.with_name("other")
    other.write_text("precious")
    original = RunDirectory.append_metrics

    def plant(self: RunDirectory, rows: History, *, synced: bool) -> None:
        original(self, rows, synced=synced)
        if 2 in rows["epoch"]:
            for name in temporary_names(run):
                name.symlink_to(other)

    monkeypatch.setattr(RunDirectory, "append_metrics", plant)
    with pytest.raises(RunError, match=r"temporary name, is there|symbolic link is there"):
        train_on(1, often(data_file, run))
    monkeypatch.undo()
    check_goes_on(whole, run)
    assert other.read_text() == "precious"


def test_metrics_that_became_a_link_are_not_written_to(data_file: str, whole: Path) -> None:
    run, other = whole.with_name("run"), whole.with_name("other")
    train_on(1, often(data_file, run, epochs=1))
    other.write_text("precious")
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to(other)
    with pytest.raises(RunError, match=r"metrics\.csv: cannot be written: a symbolic link is there"):
        RunDirectory(str(run)).append_metrics(History.of({"epoch": [2.0]}), synced=True)
    with pytest.raises(RunError, match=r"metrics\.csv: is a link to "), RunDirectory(str(run)) as directory:
        directory.lock(print)
    (run / "metrics.csv").unlink()
    check_goes_on(whole, run)
    assert other.read_text() == "precious"


def test_no_clock_is_asked(data_file: str, whole: Path) -> None:
    """The older a checkpoint, the newer its time."""
    run = whole.with_name("run")
    train_on(1, often(data_file, run, epochs=2))
    for age, path in enumerate(RunDirectory(str(run)).checkpoints()):
        os.utime(path, (10**9 - age * 10**6, 10**9 - age * 10**6))
    assert RunDirectory(str(run)).newest()[1].name == "checkpoint-0000000008.h5"
    check_goes_on(whole, run)


@pytest.mark.parametrize("rows", ["one more", "one torn", "one less", "none"])
def test_metrics_agree_with_the_checkpoint_after_a_resume(data_file: str, whole: Path, rows: str) -> None:
    """The crash came between the row of the 2nd epoch and its checkpoint, or the row did not reach the disk."""
    run = whole.with_name("run")
    train_on(1, often(data_file, run, epochs=2))
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    if rows in ("one more", "one torn"):
        (run / "checkpoint-0000000008.h5").unlink()
    kept = {"one more": lines, "one torn": [*lines[:2], lines[2][:9]], "one less": lines[:2], "none": []}[rows]
    (run / "metrics.csv").write_text("".join(kept))
    check_goes_on(whole, run)


def test_every_damaged_checkpoint_is_named(data_file: str, whole: Path, runner: Runner) -> None:
    damaged = RunDirectory(str(whole)).checkpoints()[-2:]
    damaged[1].write_bytes(damaged[1].read_bytes()[:-100])
    with h5py.File(damaged[0], "r+") as file:
        file["network/layer_2/b"][0] = np.pi
    result = runner.distbp("train", "--resume", "--out", "whole")
    assert result.returncode == 0, result.stderr
    told = [line for line in result.stdout.splitlines() if line.startswith(("skipped", "resuming"))]
    assert told[0].startswith("skipped  whole/checkpoint-0000000012.h5: not a readable HDF5 file")
    assert told[1].startswith("skipped  whole/checkpoint-0000000008.h5: the checksum does not match")
    assert told[2].startswith("resuming whole/checkpoint-0000000004.h5: 1 epoch, 4 steps done")
    kept = {path.name for path in whole.glob("*.skipped")}
    assert kept == {"checkpoint-0000000012.h5.skipped", "checkpoint-0000000008.h5.skipped"}


def test_no_good_checkpoint_at_all(whole: Path, runner: Runner) -> None:
    found = RunDirectory(str(whole)).checkpoints()
    for path in found:
        path.write_bytes(b"")
    result = runner.distbp("train", "--resume", "--out", "whole")
    check_error(result, 1, "no good checkpoint to resume from", *(path.name for path in found))
    assert not (whole / "run.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["damaged", "gone", "a directory"])
def test_a_best_that_cannot_be_read_is_replaced_at_a_resume(
    data_file: str, whole: Path, runner: Runner, harm: str
) -> None:
    """By the best of the checkpoints that are left; later epochs have to beat that one."""
    history = read(RunDirectory(str(whole)).checkpoints()[-1]).history["validation_loss"]
    best = whole / "best.h5"
    if harm == "damaged":
        with h5py.File(best) as file:
            at = file["network/layer_2/W"].id.get_offset()
        content = bytearray(best.read_bytes())
        content[at] ^= 1
        best.write_bytes(content)
    else:
        best.unlink()
    if harm == "a directory":
        best.mkdir()
    RunDirectory(str(whole)).checkpoints()[-1].unlink()
    left = [read(path).progress.epoch for path in RunDirectory(str(whole)).checkpoints()]
    result = runner.distbp("train", "--resume", "--out", "whole", "--epochs", str(left[-1]))
    assert result.returncode == 0, result.stderr
    kept = min(left, key=lambda epoch: history[epoch - 1] if epoch else math.inf)
    assert f"best.h5 is now of epoch {kept}, the best of the checkpoints that are left" in result.stdout
    assert f"best      epoch {kept}: validation loss {history[kept - 1]:.6g}" in result.stdout
    assert read(best).progress.epoch == kept
    assert (whole / "best.h5.skipped").exists() == (harm != "gone")
    again = runner.distbp("train", "--resume", "--out", "whole", "--epochs", str(left[-1]))
    assert "best.h5 is now" not in again.stdout
    assert f"best      epoch {kept}: validation loss {history[kept - 1]:.6g}" in again.stdout, "best.h5 is still of it"


@pytest.mark.parametrize("epoch", [2, 4])
def test_what_a_later_epoch_has_to_beat_is_the_loss_of_what_is_in_best(whole: Path, epoch: int) -> None:
    """Not the lowest of the run, once best.h5 was lost: of epoch 2 of 3, and of one that is not saved yet."""
    path = RunDirectory(str(whole)).checkpoints()[-1]
    state, best = read(path), read(path)
    assert state.progress.epoch == 3
    of_state = {**state.history, "validation_loss": [0.1, 0.3, 0.2]}
    of_best = {name: [*values, *values][:epoch] for name, values in of_state.items()}
    of_best["epoch"], of_best["step"] = ([float(k * e) for e in range(1, epoch + 1)] for k in (1, 4))
    of_best["validation_loss"] = [0.1, 0.3, 0.2, 0.25][:epoch]
    state.history, best.history = History.of(of_state), History.of(of_best)
    best.progress.epoch, best.progress.step = epoch, 4 * epoch
    write(whole / "best.h5", best)
    told: list[str] = []
    with RunDirectory(str(whole)) as directory:
        directory.lock(told.append)
        assert directory.reopen(state, told.append) == {2: 0.3, 4: math.inf}[epoch]
    assert told == []


def test_the_best_that_is_left_is_chosen_by_its_own_loss(whole: Path) -> None:
    """Not by the lowest in its history, which is that of the one that was lost."""
    run = RunDirectory(str(whole))
    paths = run.checkpoints()
    for path in paths:
        state = read(path)
        losses = [0.1, 0.3, 0.2][: state.progress.epoch]
        state.history = History.of({**state.history, "validation_loss": losses})
        write(path, state)
    for path in paths[:-2]:
        path.unlink()
    (whole / "best.h5").write_bytes(b"")
    notes: list[str] = []
    run.lock(notes.append)
    with run:
        assert run.reopen(read(paths[-1]), notes.append) == 0.2
    assert read(whole / "best.h5").progress.epoch == 3
    assert any("best.h5 is now of epoch 3" in note for note in notes)
