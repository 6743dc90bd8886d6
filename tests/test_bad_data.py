"""Data that cannot be trained on, under the real mpirun: one message that says where and how to mend it, soon."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import BIN, Runner, check_error, mpirun_command, write_data

from distbp.training import checkpoint

pytestmark = pytest.mark.one_mpi
DISTBP = str(BIN / "distbp")
SECONDS = 30  # a limit for one job, its start included
QUICK = ("--hidden", "4", "--epochs", "2", "--validation-split", "")
WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")  # to read what nobody may read


def train(runner: Runner, *arguments: str, ranks: int = 2) -> Any:
    return runner.run(DISTBP, "train", *arguments, ranks=ranks, limit=SECONDS)


def train_apart(runner: Runner, first: list[str], second: list[str]) -> Any:
    """Two ranks, started by two commands."""
    return runner.run(*mpirun_command(), "-n", "1", *first, ":", "-n", "1", *second, limit=SECONDS)


def check_refused(runner: Runner, result: Any, *words: str) -> None:
    """As an error, and before anything was written."""
    check_error(result, 1, *words)
    assert "internal error" not in result.stderr
    assert not [file for file in (runner.directory / "run").rglob("*") if file.is_file()]


def write(path: Path, x: Any, y: Any, split: str = "train", **how: Any) -> str:
    with h5py.File(path, "a") as file:
        file.create_dataset(f"{split}/x", data=x, **how)
        file[f"{split}/y"] = y
    return str(path)


def write_parts(here: Path, *, last_x: float = 0.0, last_y: float = 0.0) -> str:
    """Three files of 20 rows; what is given is in the last row of the last one."""
    rng = np.random.default_rng(0)
    for number in range(3):
        x, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
        if number == 2:
            x[-1, 3], y[-1, 1] = last_x, last_y
        write(here / f"part-{number}.h5", x, y)
    return str(here / "part-*.h5")


def test_a_truncated_file(runner: Runner) -> None:
    path = write(runner.directory / "cut.h5", np.ones((5000, 4)), np.arange(5000) % 3)
    with h5py.File(path) as file:
        middle = file["train/x"].id.get_offset() + 5000 * 16
    os.truncate(path, middle)
    result = train(runner, path, *QUICK)
    check_refused(runner, result, "cut.h5: is truncated", "write or copy it again")


def test_a_damaged_chunk_that_one_rank_reads(runner: Runner) -> None:
    x = np.random.default_rng(0).standard_normal((300, 4))
    path = write(runner.directory / "d.h5", x, np.arange(300) % 3, chunks=(10, 4), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        where = file["train/x"].id.get_chunk_info(29).byte_offset
    with open(path, "rb+") as raw:
        raw.seek(where)
        raw.write(b"\xff" * 40)
    result = train(runner, path, *QUICK, ranks=3)
    check_refused(runner, result, "error: rank 2 (", "d.h5: train/x, row 200 to 299: cannot be read")


LONG = ("--hidden", "4", "--epochs", "1000000", "--batch-size", "1024", "--memory", "0.03", "--shuffle-window", "1024")


class Disk:
    """A file of 40 MiB, more than is read at a time, in chunks with a checksum; and what can happen to it meanwhile."""

    def __init__(self, path: Path, large: str) -> None:
        rng = np.random.default_rng(0)
        for split in ("train", "test"):
            x = rng.standard_normal((20480 if split == large else 256, 256))
            write(path, x, x[:, :1] > 0, split, chunks=(256, 256), fletcher32=True)
        self.path = path
        with h5py.File(path) as file:
            self.chunk = file[f"{large}/x"].id.get_chunk_info(43).byte_offset

    def damage(self) -> None:
        """A defect of the disk, which leaves size and time: ranks read the old file, and look at those of a copy."""
        old, copy = self.path.with_name("old.h5"), self.path.with_name("copy.h5")
        os.link(self.path, old)
        shutil.copy2(self.path, copy)
        os.replace(copy, self.path)
        self._overwrite(old)

    def change(self) -> None:
        self._overwrite(self.path)

    def cut(self) -> None:
        os.truncate(self.path, self.chunk)

    def _overwrite(self, path: Path) -> None:
        with open(path, "rb+") as file:
            file.seek(self.chunk)
            file.write(b"\xff" * 40)

    def remove(self) -> None:
        self.path.unlink()


@pytest.mark.parametrize(
    ("large", "happens", "words"),
    [
        ("train", Disk.damage, ("error: rank ", "d.h5: train/x, row ", "cannot be read", "write or copy it again")),
        ("test", Disk.damage, ("error: rank ", "d.h5: test/x, row ", "cannot be read", "write or copy it again")),
        ("train", Disk.change, ("d.h5: has changed since the run began",)),
        ("test", Disk.cut, ("d.h5: has changed since the run began",)),
        ("train", Disk.remove, ("d.h5: no such file", "rank 0 could open it when the run began")),
    ],
    ids=["damage", "damage in validation", "change", "cut in validation", "removal"],
)
def test_what_happens_to_a_file_that_is_being_read(
    runner: Runner, large: str, happens: Callable[[Disk], None], words: tuple[str, ...]
) -> None:
    """In the midst of an epoch, or of a validation; what was saved before is whole."""
    disk, run = Disk(runner.directory / "d.h5", large), runner.directory / "run"
    process = runner.start(DISTBP, "train", str(disk.path), *LONG, ranks=2)
    metrics = run / "metrics.csv"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    happens(disk)
    check_error(runner.finish(process, SECONDS), 1, *words)
    assert not list(run.glob(".*"))
    assert [checkpoint.read(path).progress.epoch > 0 for path in run.glob("*.h5")]


def can_hide_directories() -> bool:
    """Whether a process can have mounts of its own; root can, outside most containers."""
    tried = ("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt")
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True, timeout=10).returncode == 0


def test_a_file_that_is_not_there_on_one_node(runner: Runner) -> None:
    if not can_hide_directories():
        pytest.skip("needs root: one rank is started where a directory is hidden")
    node = runner.directory / "node"
    node.mkdir()
    path = write_data(node / "d.h5", train=50)
    command = [DISTBP, "train", path, *QUICK]
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(node), *command]
    result = train_apart(runner, command, hidden)
    check_refused(runner, result, "error: rank 1 (", "d.h5: no such file", "must be there on all nodes")
    assert "changed" not in result.stderr


@pytest.mark.parametrize("rows", [60, 300], ids=["of the same size", "of another size"])
def test_another_file_on_one_node(runner: Runner, rows: int) -> None:
    if not can_hide_directories():
        pytest.skip("needs root: one rank is started where a directory is hidden")
    node = runner.directory / "node"
    node.mkdir()
    path = write_data(node / "d.h5", train=50)
    other = write_data(runner.directory / "other.h5", train=rows)
    assert (os.path.getsize(other) == os.path.getsize(path)) == (rows == 60)
    command = [DISTBP, "train", path, *QUICK]
    hidden = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', other, path, *command]
    result = train_apart(runner, command, hidden)
    check_refused(runner, result, "error: rank 1 (", "d.h5: ", "is another file on another node")


def test_a_file_that_one_rank_may_not_read(runner: Runner, data_file: str) -> None:
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root: one rank is started without root's right to read everything")
    os.chmod(data_file, 0)
    command = [DISTBP, "train", data_file, *QUICK]
    result = train_apart(runner, command, [*WITHOUT_ROOTS_RIGHTS, *command])
    check_refused(runner, result, "error: rank 1 (", "data.h5: permission denied; every rank needs to read it")


@pytest.mark.parametrize("locked", ["the file", "its directory"])
def test_what_nobody_may_read(runner: Runner, locked: str) -> None:
    if os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read everything")
    rights = WITHOUT_ROOTS_RIGHTS if os.getuid() == 0 else ()
    here = runner.directory / "here"
    here.mkdir()
    path = write_data(here / "d.h5")
    closed = here if locked == "its directory" else path
    os.chmod(closed, 0)
    try:
        result = runner.run(*rights, *mpirun_command(), "-n", "2", DISTBP, "train", path, limit=SECONDS)
    finally:
        os.chmod(closed, 0o700)
    check_refused(runner, result, "error: ", "d.h5: permission denied; every rank needs to read it")


def test_a_directory_and_an_empty_file(runner: Runner) -> None:
    here = runner.directory
    (here / "d.h5").mkdir()
    check_refused(runner, train(runner, str(here / "d.h5")), "d.h5: is a directory; name the files in it")
    (here / "e.h5").touch()
    check_refused(
        runner, train(runner, str(here / "e.h5")), "e.h5: not an HDF5 file, or damaged; a data set is an HDF5"
    )


WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "a", locking=True):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_program_has_open_for_writing(runner: Runner, data_file: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, data_file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        result = train(runner, data_file, *QUICK, ranks=3)
        check_refused(runner, result, "data.h5: cannot be locked", "open for writing", "HDF5_USE_FILE_LOCKING=FALSE")
        read = runner.distbp("train", data_file, *QUICK, ranks=2, HDF5_USE_FILE_LOCKING="FALSE")
        assert read.returncode == 0, read.stderr
    finally:
        writer.communicate(timeout=SECONDS)


def test_no_samples(runner: Runner) -> None:
    path = write(runner.directory / "none.h5", np.zeros((0, 4)), np.zeros(0, int))
    check_refused(runner, train(runner, path, *QUICK), "none.h5: train/x is empty; a split needs at least one sample")


@pytest.mark.parametrize("y", [[3, 1], [0.5]], ids=["two, of two classes", "one, with a target"])
def test_fewer_samples_than_ranks_and_than_a_batch(runner: Runner, y: list[float]) -> None:
    """n is then N."""
    x = np.random.default_rng(0).standard_normal((len(y), 4))
    path = write(runner.directory / "few.h5", x, y)
    result = train(runner, path, *QUICK, "--batch-size", "512", ranks=3)
    assert result.returncode == 0, result.stderr
    assert f"batches of n = {len(y)}, 2 epochs of 1 step" in result.stdout


def test_one_sample_is_of_one_class(runner: Runner) -> None:
    path = write(runner.directory / "one.h5", np.zeros((1, 4)), [3])
    check_refused(runner, train(runner, path, *QUICK), "one.h5: train/y", "needs two classes or more")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"last_x": np.nan}, "train/x, row 19: nan in the data"),
        ({"last_y": np.inf}, "train/y, row 19: inf in the data"),
    ],
    ids=["nan", "infinite target"],
)
def test_numbers_that_are_none(runner: Runner, bad: dict[str, float], message: str) -> None:
    pattern = write_parts(runner.directory, **bad)
    result = train(runner, pattern, *QUICK, ranks=3)
    check_refused(runner, result, "error: rank 2 (", f"part-2.h5: {message}", "remove or replace such rows")


def test_names_of_classes(runner: Runner) -> None:
    """Predictions give them back; one that was not there to be learnt is shown with its place."""
    rng, names = np.random.default_rng(0), np.array(["cirrus", "cumulus", "Föhn"], object)
    here, expected = runner.directory, []
    for number in (1, 2):
        for split, count in (("train", 60), ("test", 20)):
            which = rng.integers(0, 3, count)
            labels = names[which]
            stored = (
                np.array([label.encode() for label in labels]) if number == 1 else labels
            )  # of fixed length, or not
            write(here / f"part-{number}.h5", which[:, None] + rng.uniform(-0.1, 0.1, (count, 2)), stored, split)
            expected += labels.tolist() if split == "test" else []
    pattern, options = str(here / "part-*.h5"), ("--epochs", "20", "--learning-rate", "0.05", "--hidden", "16")
    trained = train(runner, pattern, *options, ranks=3)
    assert trained.returncode == 0, trained.stderr
    assert runner.distbp("predict", "run", "--out", "p.h5", ranks=3).returncode == 0
    with h5py.File(here / "p.h5") as file:
        assert file["class"].asstr()[()].tolist() == expected

    with h5py.File(here / "part-2.h5", "a") as file:
        file["test/y"][7] = "nimbus"
    unknown = train(runner, pattern, *options, "--out", "again", ranks=3)
    check_error(unknown, 1, "part-2.h5: test/y, row 7: label 'nimbus'", "'Föhn', 'cirrus', 'cumulus'")
    assert not [file for file in (here / "again").iterdir() if file.is_file()]


def test_files_that_do_not_go_together(runner: Runner) -> None:
    """Of what kind the differences are that are found, is in `test_data`."""
    pattern = write_parts(runner.directory)
    write(runner.directory / "part-9.h5", np.zeros((5, 4), np.float32), np.zeros((5, 2)))
    message = "part-9.h5: train/x has rows of shape (4,) and type float32, but "
    check_refused(runner, train(runner, pattern, *QUICK), message, "part-0.h5 has (4,) and float64")
