"""Data that cannot be trained on, under the real mpirun: one message that says where and how to mend it, soon.

Ranks are started once for all files that are bad from the beginning (`refused`), and once for those to which something
happens in mid-run (`happened`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from jobs import Commands, in_one_job
from runs import BIN, Runner, check_error, in_fork, mpirun_command, write_data

from distbp.training import checkpoint

pytestmark = pytest.mark.one_mpi
DISTBP = str(BIN / "distbp")
SECONDS = 30  # a limit for one job, its start included
QUICK = ("--hidden", "4", "--epochs", "2", "--validation-split", "")
WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")  # to read what nobody may read


def train(runner: Runner, *arguments: str, ranks: int = 2, **extra: str) -> Any:
    return runner.run_fork(DISTBP, "train", *arguments, ranks=ranks, limit=SECONDS, **extra)


def train_apart(runner: Runner, first: list[str], second: list[str]) -> Any:
    """Two ranks, started by two commands."""
    return runner.run(*mpirun_command(), "-n", "1", *in_fork(*first), ":", "-n", "1", *in_fork(*second), limit=SECONDS)


def check_refused(runner: Runner, result: Any, *words: str, out: str = "run") -> None:
    """As an error, and before anything was written."""
    check_error(result, 1, *words)
    assert "internal error" not in result.stderr
    assert not [file for file in (runner.directory / out).rglob("*") if file.is_file()]


def write(path: Path, x: Any, y: Any, split: str = "train", **how: Any) -> str:
    with h5py.File(path, "a") as file:
        file.create_dataset(f"{split}/x", data=x, **how)
        file[f"{split}/y"] = y
    return str(path)


def write_parts(here: Path, *, last_x: float = 0.0, last_y: float = 0.0) -> str:
    """Three files of 20 rows; what is given is in the last row of the last one."""
    here.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        x, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
        if number == 2:
            x[-1, 3], y[-1, 1] = last_x, last_y
        write(here / f"part-{number}.h5", x, y)
    return str(here / "part-*.h5")


def truncated(here: Path) -> str:
    path = write(here / "cut.h5", np.ones((5000, 4)), np.arange(5000) % 3)
    with h5py.File(path) as file:
        middle = file["train/x"].id.get_offset() + 5000 * 16
    os.truncate(path, middle)
    return path


def with_a_damaged_chunk(here: Path) -> str:
    x = np.random.default_rng(0).standard_normal((300, 4))
    path = write(here / "chunk.h5", x, np.arange(300) % 3, chunks=(10, 4), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        where = file["train/x"].id.get_chunk_info(29).byte_offset
    with open(path, "rb+") as raw:
        raw.seek(where)
        raw.write(b"\xff" * 40)
    return path


def no_file(here: Path) -> str:
    (here / "directory.h5").mkdir()
    return str(here / "directory.h5")


def empty(here: Path) -> str:
    (here / "empty.h5").touch()
    return str(here / "empty.h5")


def without_samples(here: Path) -> str:
    return write(here / "none.h5", np.zeros((0, 4)), np.zeros(0, int))


def few(here: Path, name: str, y: list[float]) -> str:
    return write(here / name, np.random.default_rng(0).standard_normal((len(y), 4)), y)


def of_two_types(here: Path) -> str:
    pattern = write_parts(here / "parts of two types")
    write(here / "parts of two types" / "part-9.h5", np.zeros((5, 4), np.float32), np.zeros((5, 2)))
    return pattern


FILES: dict[str, Callable[[Path], str]] = {
    "truncated": truncated,
    "damaged chunk": with_a_damaged_chunk,
    "directory": no_file,
    "empty": empty,
    "no samples": without_samples,
    "two samples": lambda here: few(here, "two.h5", [3, 1]),
    "one sample, with a target": lambda here: few(here, "one.h5", [0.5]),
    "one sample, of a class": lambda here: write(here / "class.h5", np.zeros((1, 4)), [3]),
    "nan": lambda here: write_parts(here / "parts with nan", last_x=np.nan),
    "infinite target": lambda here: write_parts(here / "parts with inf", last_y=np.inf),
    "two types": of_two_types,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Where the jobs run that several tests look at."""
    with tempfile.TemporaryDirectory(prefix="distbp-", ignore_cleanup_errors=True) as scratch:
        place = Runner(tmp_path_factory.mktemp("bad"), Path(scratch))
        yield place
        place.close()


@pytest.fixture(scope="module")
def refused(place: Runner) -> dict[str, Any]:
    """What three ranks said of each file, in one job; each has a run directory of its name."""
    paths = {name: make(place.directory) for name, make in FILES.items()}
    how = (*QUICK, "--batch-size", "512", "--out")
    results = in_one_job(place, 3, *(("train", path, *how, name) for name, path in paths.items()))
    return dict(zip(paths, results, strict=True))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncated", ["cut.h5: is truncated", "write or copy it again"]),
        ("damaged chunk", ["error: rank 2 (", "chunk.h5: train/x, row 200 to 299: cannot be read"]),
        ("directory", ["directory.h5: is a directory; name the files in it"]),
        ("empty", ["empty.h5: not an HDF5 file, or damaged; a data set is an HDF5"]),
        ("no samples", ["none.h5: train/x is empty; a split needs at least one sample"]),
        ("one sample, of a class", ["class.h5: train/y", "needs two classes or more"]),
        ("nan", ["error: rank 2 (", "part-2.h5: train/x, row 19: nan in the data", "remove or replace such rows"]),
        (
            "infinite target",
            ["error: rank 2 (", "part-2.h5: train/y, row 19: inf in the data", "remove or replace such rows"],
        ),
        # of what kind the differences are that are found, is in `test_data`
        (
            "two types",
            [
                "part-9.h5: train/x has rows of shape (4,) and type float32, but ",
                "part-0.h5 has (4,) and float64",
            ],
        ),
    ],
)
def test_a_file_that_is_refused(place: Runner, refused: dict[str, Any], name: str, words: list[str]) -> None:
    check_refused(place, refused[name], *words, out=name)


@pytest.mark.parametrize(("name", "count"), [("two samples", 2), ("one sample, with a target", 1)])
def test_fewer_samples_than_ranks_and_than_a_batch(refused: dict[str, Any], name: str, count: int) -> None:
    """n is then N."""
    assert refused[name].returncode == 0, refused[name].stderr
    assert f"batches of n = {count}, 2 epochs of 1 step" in refused[name].stdout


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

    def copy(self, path: Path) -> Disk:
        other = copy(self)
        other.path = Path(shutil.copy(self.path, path))
        return other

    def damage(self) -> None:
        """A defect of the disk, which leaves size and time: ranks read the old file, and look at those of a copy."""
        old, new = self.path.with_name("old.h5"), self.path.with_name("copy.h5")
        os.link(self.path, old)
        shutil.copy2(self.path, new)
        os.replace(new, self.path)
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


HAPPENS: dict[str, tuple[str, Callable[[Disk], None]]] = {
    "damage": ("train", Disk.damage),
    "damage in validation": ("test", Disk.damage),
    "change": ("train", Disk.change),
    "cut in validation": ("test", Disk.cut),
    "removal": ("train", Disk.remove),
}


@pytest.fixture(scope="module")
def happened(place: Runner) -> dict[str, Any]:
    """What two ranks said, one run after the other in one job, when something happened in mid-run to their file."""
    made = {large: Disk(place.directory / f"{large}.h5", large) for large in ("train", "test")}
    disks: dict[str, Disk] = {}
    for name, (large, _) in HAPPENS.items():
        (place.directory / f"of {name}").mkdir()
        disks[name] = made[large].copy(place.directory / f"of {name}" / "d.h5")
    commands = [("train", disk.path, *LONG, "--out", f"run of {name}") for name, disk in disks.items()]
    job = Commands(place, *commands)
    process = place.fork(*job.command, ranks=2)
    for name, (_, happens) in HAPPENS.items():
        metrics = place.directory / f"run of {name}" / "metrics.csv"
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        happens(disks[name])
    return dict(zip(disks, job.results(place.finish(process, SECONDS)), strict=True))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("damage", ("error: rank ", "d.h5: train/x, row ", "cannot be read", "write or copy it again")),
        ("damage in validation", ("error: rank ", "d.h5: test/x, row ", "cannot be read", "write or copy it again")),
        ("change", ("d.h5: has changed since the run began",)),
        ("cut in validation", ("d.h5: has changed since the run began",)),
        ("removal", ("d.h5: no such file", "rank 0 could open it when the run began")),
    ],
)
def test_what_happens_to_a_file_that_is_being_read(
    place: Runner, happened: dict[str, Any], name: str, words: tuple[str, ...]
) -> None:
    """In the midst of an epoch, or of a validation; what was saved before is whole."""
    check_error(happened[name], 1, *words)
    run = place.directory / f"run of {name}"
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


def test_what_nobody_may_read(runner: Runner) -> None:
    """A file, and the directory of another one."""
    if os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read everything")
    rights = WITHOUT_ROOTS_RIGHTS if os.getuid() == 0 else ()
    here = runner.directory / "here"
    here.mkdir()
    closed, inside = write_data(runner.directory / "closed.h5"), write_data(here / "inside.h5")
    job = Commands(runner, ("train", closed), ("train", inside))
    os.chmod(closed, 0)
    os.chmod(here, 0)
    try:
        ended = runner.run(*rights, *mpirun_command(), "-n", "2", *job.command, limit=SECONDS)
    finally:
        os.chmod(here, 0o700)
    for name, result in zip(("closed.h5", "inside.h5"), job.results(ended), strict=True):
        check_refused(runner, result, "error: ", f"{name}: permission denied; every rank needs to read it")


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
        read = train(runner, data_file, *QUICK, HDF5_USE_FILE_LOCKING="FALSE")
        assert read.returncode == 0, read.stderr
    finally:
        writer.communicate(timeout=SECONDS)


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
    with_nimbus = here / "unknown"
    with_nimbus.mkdir()
    for number in (1, 2):
        shutil.copy(here / f"part-{number}.h5", with_nimbus)
    with h5py.File(with_nimbus / "part-2.h5", "a") as file:
        file["test/y"][7] = "nimbus"
    options = ("--epochs", "20", "--learning-rate", "0.05", "--hidden", "16")
    trained, predicted, unknown = in_one_job(
        runner,
        3,
        ("train", here / "part-*.h5", *options),
        ("predict", "run", "--out", "p.h5"),
        ("train", with_nimbus / "part-*.h5", *options, "--out", "again"),
    )
    assert trained.returncode == 0, trained.stderr
    assert predicted.returncode == 0, predicted.stderr
    with h5py.File(here / "p.h5") as file:
        assert file["class"].asstr()[()].tolist() == expected
    check_error(unknown, 1, "part-2.h5: test/y, row 7: label 'nimbus'", "'Föhn', 'cirrus', 'cumulus'")
    assert not [file for file in (here / "again").iterdir() if file.is_file()]
