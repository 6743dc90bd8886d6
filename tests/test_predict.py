"""Files of predictions: CSV holds, bit for bit, what HDF5 holds, and no file is ever there in part."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import Runner, check_error, configuration, distbp_of_shell, mpirun_command, train_on, write_data

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.errors import DataError, Stopped
from distbp.files.new_file import NewFile
from distbp.mathematics.network import Network
from distbp.prediction.columns import column_names
from distbp.prediction.csv_predictions import CSVPredictions
from distbp.prediction.predict import predict
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import Communicator, OneProcess, run_threads

ODD = (" a ", "b,c", 'say "d"', "two\nlines", "a\rreturn", "%s %d", "Löwe", "猫", "'")


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows."""
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert {len(row) for row in rows} == {len(header)}
    return header, rows


def problem(n_F: int, labels: Any = None) -> Problem:
    network = Network.of([2, n_F], "relu", "identity", "mse")
    return Problem(network, Scaling.none(2), Scaling.none(n_F), labels)


def write_csv(path: Path, of: Problem, a: Any, y: str = "y") -> None:
    with open(path, "wb") as place:
        file = CSVPredictions(place.fileno(), of, column_names(of, y))
        file.write(a)
        file.close()


@pytest.mark.parametrize(
    ("kind", "options", "name", "dtype"),
    [
        ("classes", {}, "probability", "float64"),
        ("classes", {"dtype": "float32"}, "probability", "float32"),
        ("classes", {"dtype": "float32", "loss": "mse", "task": "classes"}, "output", "float32"),
        ("binary", {"dtype": "float32", "loss": "binary_cross_entropy"}, "probability", "float32"),
        ("targets", {"dtype": "float32"}, "y", "float64"),  # they were scaled
        ("targets", {"dtype": "float32", "scale": "none"}, "y", "float32"),
    ],
)
@pytest.mark.parametrize("ranks", [1, 3])
def test_csv_holds_what_hdf5_holds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: dict[str, Any],
    name: str,
    dtype: str,
    ranks: int,
) -> None:
    monkeypatch.setattr("distbp.prediction.network_outputs.BLOCK", 100)
    data = write_data(tmp_path / "d.h5", train=60, test=330, kind=kind)
    train_on(1, configuration(data, tmp_path / "run", epochs=1, **options))

    def work(comm: Communicator) -> None:
        used = load(comm, str(tmp_path / "run"), Use((), "test", targets=False))
        for ending in ("h5", "csv"):
            predict(comm, used.state, used.data, tmp_path / f"p.{ending}", inputs=used.files)

    run_threads(ranks, work)
    header, rows = read_csv(tmp_path / "p.csv")
    with h5py.File(tmp_path / "p.h5") as file:
        truth, labels = file[name][()], file["class"][()] if "class" in file else None
        columns = range(truth.shape[1]) if labels is None else file["classes"][()]
    assert truth.dtype == dtype
    assert truth.shape[0] == 330
    names = [f"{name}_{column}" for column in columns]
    assert header == (names if labels is None else ["class", *names])
    if labels is not None:
        assert [row.pop(0) for row in rows] == [str(label) for label in labels.tolist()]
    assert np.array([[np.dtype(dtype).type(text) for text in row] for row in rows]).tobytes() == truth.tobytes()
    assert b"\r" not in (tmp_path / "p.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.h5", "p.csv", "p.h5", "run"]


@pytest.mark.parametrize(("dtype", "bits"), [("float32", "u4"), ("float64", "u8")])
def test_numbers_of_any_size_are_read_back_to_the_same_bits(tmp_path: Path, dtype: str, bits: str) -> None:
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, np.iinfo(bits).max, 60000, bits, endpoint=True).view(dtype)
    powers = np.ldexp(np.ones(2100), np.arange(-1080, 1020)).astype("f8")
    with np.errstate(over="ignore", under="ignore"):
        powers = powers.astype(dtype)
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal], dtype)
    near = np.concatenate([np.nextafter(powers, ends[3]), powers, np.nextafter(powers, ends[2])])
    values = np.concatenate([drawn[~np.isnan(drawn)], near, ends])
    values = values[: len(values) // 3 * 3].reshape(-1, 3)
    write_csv(tmp_path / "p.csv", problem(3), values)
    _, rows = read_csv(tmp_path / "p.csv")
    assert np.array([[float(text) for text in row] for row in rows]).astype(dtype).tobytes() == values.tobytes()
    assert np.loadtxt(tmp_path / "p.csv", dtype, delimiter=",", skiprows=1).tobytes() == values.tobytes()


@settings(max_examples=100)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), min_size=2, max_size=5))
def test_labels_of_any_text_are_read_back(found: set[str]) -> None:
    labels = tuple(sorted(found))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "p.csv"
        write_csv(path, problem(len(labels), labels), np.eye(len(labels)))
        header, rows = read_csv(path)
    assert header == ["class", *(f"output_{label}" for label in labels)]
    assert [row[0] for row in rows] == list(labels)


@pytest.mark.parametrize(
    ("y", "n_F", "columns"),
    [
        ("y", 1, ["y"]),
        ("y", 2, ["y_0", "y_1"]),
        ("drag,lift", 2, ["drag", "lift"]),
        (" drag, table.lift,", 2, ["drag", "table.lift"]),
        ("force,drag", 3, ["y_0", "y_1", "y_2"]),  # force has two columns
        ("drag,drag", 2, ["y_0", "y_1"]),
    ],
)
def test_names_of_targets(tmp_path: Path, y: str, n_F: int, columns: list[str]) -> None:
    write_csv(tmp_path / "p.csv", problem(n_F), np.zeros((1, n_F)), y)
    assert read_csv(tmp_path / "p.csv") == (columns, [["0"] * n_F])


def test_many_columns_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text and numbers of all cells at once would take 60 bytes each."""
    monkeypatch.setattr("distbp.prediction.csv_predictions.CELLS", 2000)
    a = np.random.default_rng(0).standard_normal((800, 100))
    with open(tmp_path / "p.csv", "wb") as place:
        file = CSVPredictions(place.fileno(), problem(100), column_names(problem(100), "y"))
        tracemalloc.start()
        file.write(a)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        file.close()
    assert peak < 200 * 2000


def test_odd_labels_and_named_targets_by_the_command(runner: Runner) -> None:
    rng = np.random.default_rng(0)
    x, which = rng.standard_normal((60, 4)), np.arange(60) % len(ODD)
    with h5py.File(runner.directory / "d.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/x"], file[f"{split}/drag"], file[f"{split}/lift"] = x, x[:, 0], x[:, 1] - 3
            file[f"{split}/y"] = np.array(ODD, object)[which]
    assert runner.distbp("train", "d.h5", "--epochs", "60", "--learning-rate", "0.02").returncode == 0
    predicted = runner.distbp("predict", "run", "--out", "p.CSV")
    assert predicted.stdout == "p.CSV: predictions for 60 samples of test\n"
    header, rows = read_csv(runner.directory / "p.CSV")
    assert header == ["class", *(f"probability_{label}" for label in sorted(ODD))]
    best = [header[1 + int(np.argmax([float(text) for text in row[1:]]))] for row in rows]
    assert [f"probability_{row[0]}" for row in rows] == best
    assert len({row[0] for row in rows}) == len(ODD)

    assert runner.distbp("train", "d.h5", "--epochs", "1", "--y", "drag,lift", "--out", "forces").returncode == 0
    for name in ("p.csv", "p.h5"):
        assert runner.distbp("predict", "forces", "--out", name).returncode == 0
    header, rows = read_csv(runner.directory / "p.csv")
    assert header == ["drag", "lift"]
    with h5py.File(runner.directory / "p.h5") as file:
        assert np.array(rows, np.float64).tobytes() == file["y"][()].tobytes()


def test_a_file_that_is_there(runner: Runner, data_file: str) -> None:
    runner.distbp("train", data_file, "--epochs", "1")
    (runner.directory / "p.csv").write_text("mine")
    check_error(runner.distbp("predict", "run", "--out", "p.csv"), 1, "p.csv: exists already", "--overwrite")
    assert (runner.directory / "p.csv").read_text() == "mine"
    assert runner.distbp("predict", "run", "--out", "p.csv", "--overwrite").returncode == 0
    assert len(read_csv(runner.directory / "p.csv")[1]) == 11


@pytest.mark.parametrize("name", ["p.csv", "p.h5"])
def test_a_directory_that_cannot_be_written(runner: Runner, data_file: str, name: str) -> None:
    runner.distbp("train", data_file, "--epochs", "1")
    check_error(runner.distbp("predict", "run", "--out", f"/proc/{name}"), 1, "/proc: cannot write here: ")
    check_error(runner.distbp("predict", "run", "--out", f"no/{name}"), 1, "the directory no does not exist")


def on_small_disk(runner: Runner, options: str, command: str) -> Any:
    """Runs shell commands; `disk` is a file system in memory, which only they see; `left` gets what is there then."""
    mount = f"mkdir -p disk && mount -t tmpfs -o {options} tmpfs disk"
    if not shutil.which("unshare") or runner.run("unshare", "-m", "sh", "-c", mount).returncode:
        pytest.skip("cannot mount a file system here")
    return runner.run(
        "unshare", "-m", "sh", "-c", f"{mount} && {command}; code=$?; (ls -A disk; cat disk/*) >left; exit $code"
    )


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        *((name, 0) for name in ("p.csv", "p.h5")),
        *(pytest.param(name, 0, marks=pytest.mark.slow) for name in ("p.csv.gz", "p.jsonl", "p.npy", "p.parquet")),
        *(pytest.param(name, 2, marks=pytest.mark.one_mpi) for name in ("p.csv", "p.h5")),
    ],
)
def test_a_full_disk_leaves_nothing_half_written(runner: Runner, name: str, ranks: int) -> None:
    data = write_data(runner.directory / "d.h5", test=9000)
    runner.distbp("train", data, "--epochs", "1", "--validation-split", "")
    launcher = f"{' '.join(mpirun_command())} -n {ranks}" if ranks else ""
    command = f"echo mine >disk/{name} && {launcher} {distbp_of_shell()} predict run --out disk/{name} --overwrite"
    result = on_small_disk(runner, "size=64k", command)
    check_error(result, 1, f"disk/{name}: cannot be written: the disk is full; make room on it")
    assert "Warning" not in result.stderr
    assert (runner.directory / "left").read_text() == f"{name}\nmine\n"


@pytest.mark.parametrize("name", ["p.csv", "p.h5"])
def test_a_disk_that_is_read_only(runner: Runner, data_file: str, name: str) -> None:
    runner.distbp("train", data_file, "--epochs", "1")
    result = on_small_disk(runner, "ro", f"{distbp_of_shell()} predict run --out disk/{name}")
    check_error(result, 1, "disk: cannot write here: the file system is read-only; have it mounted")


class BrokenOnOne:
    """Rows that rank 1 cannot read to the end."""

    shape = (300, 4)

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def read(self, first: int, last: int, until: int) -> Any:
        assert last <= until
        if self._rank == 1 and first > 200:
            raise DataError("d.h5: a bad sector")
        return np.zeros((last - first, 4))


@pytest.mark.parametrize("name", ["p.csv", "p.h5"])
def test_a_rank_that_cannot_go_on_tells_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("distbp.prediction.network_outputs.BLOCK", 100)
    data = write_data(tmp_path / "d.h5", test=300)
    train_on(1, configuration(data, tmp_path / "run", epochs=1))

    def work(comm: Communicator) -> None:
        used = load(comm, str(tmp_path / "run"), Use((), "test", targets=False, memory=1e-9))
        broken = replace(used.data, files={"x": BrokenOnOne(comm.rank)})
        predict(comm, used.state, broken, tmp_path / name)

    with pytest.raises(DataError, match=r"rank 1 \(.*\): d\.h5: a bad sector") as error:
        run_threads(3, work)
    assert error.value.agreed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.h5", "run"]


@pytest.mark.parametrize("is_nameless", [True, False])
def test_a_new_file_has_its_name_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_nameless: bool
) -> None:
    """In file systems that know of files without names, and in others."""
    if not is_nameless:
        monkeypatch.delattr("os.O_TMPFILE")
    (tmp_path / "p").write_text("old")
    for is_finished in (False, True):
        new = NewFile(tmp_path / "p", overwrite=True)
        if not new.is_nameless and is_nameless:
            new.close()
            pytest.skip("this file system does not know of such files")
        os.write(new.descriptor, b"new")
        temporary = f".p.{os.getpid()}.tmp"
        assert sorted(os.listdir(tmp_path)) == (["p"] if is_nameless else [temporary, "p"])
        assert (tmp_path / "p").read_text() == "old"
        if is_finished:
            new.sync()
            new.put()
        new.close()
        assert os.listdir(tmp_path) == ["p"]
    assert (tmp_path / "p").read_text() == "new"
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    new = NewFile(tmp_path / "p", overwrite=False)
    (tmp_path / "p").write_text("another's")
    new.sync()
    with pytest.raises(FileExistsError):
        new.put()
    new.close()
    assert os.listdir(tmp_path) == ["p"]
    assert (tmp_path / "p").read_text() == "another's"


def test_a_file_system_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was half-written is removed, and the old file stays."""
    monkeypatch.delattr("os.O_TMPFILE")
    monkeypatch.setattr("distbp.prediction.network_outputs.BLOCK", 100)
    data = write_data(tmp_path / "d.h5", test=300)
    train_on(1, configuration(data, tmp_path / "run", epochs=1))
    used = load(OneProcess(), str(tmp_path / "run"), Use((), "test", targets=False))
    seen: list[list[str]] = []

    def pulse(phase: str) -> None:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        if len(seen) == 2:
            raise Stopped("stop")

    with pytest.raises(Stopped):
        predict(OneProcess(), used.state, used.data, tmp_path / "p.csv", pulse=pulse)
    assert seen == 2 * [[f".p.csv.{os.getpid()}.tmp", "d.h5", "run"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.h5", "run"]
    predict(OneProcess(), used.state, used.data, tmp_path / "p.csv")
    assert len(read_csv(tmp_path / "p.csv")[1]) == 300
