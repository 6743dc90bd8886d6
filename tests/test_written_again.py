"""What is written beside a run is written anew: predictions, imported data, traces, charts, copies of data."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runs import BIN, HASTY, LIMIT, Notes, NoWaits, Runner, check_error, configuration, to_preload, train_on, write_data

from distbp.errors import DataError, RunError
from distbp.files import patience
from distbp.files.output import check_out
from distbp.files.write_patience import written_whole
from distbp.ranks.communicator import Communicator, agree, run_threads
from distbp.ranks.written_together import written_together

WAYS = [
    *(f"predict {ending}" for ending in (".csv", ".csv.gz", ".json", ".npy", ".h5", ".parquet")),
    *("predict on 3 ranks", "import, none", "import, gzip", "trace", "staging"),
]


@pytest.fixture(scope="module")
def library() -> str:
    return to_preload("failing_calls")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a table."""
    here = tmp_path_factory.mktemp("made")
    train_on(1, configuration(write_data(here / "d.h5", train=60, test=330), here / "run", epochs=1))
    a = np.random.default_rng(0).normal(size=(500, 2))
    (here / "t.csv").write_text("a,b,y\n" + "".join(f"{a!r},{b!r},{a * b!r}\n" for a, b in a.tolist()))
    return here


@pytest.mark.slow
def test_each_call_is_refused(library: str, made: Path, tmp_path: Path) -> None:
    """Once, and for good: a second try writes what the first would have, or one message says what the system said."""
    program = Path(__file__).parent / "refused_writes.py"
    result = subprocess.run(
        [sys.executable, program, made / "run", made / "t.csv", tmp_path],
        env={**os.environ, "LD_PRELOAD": library},
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
    )
    assert (result.returncode, result.stderr) == (0, "")
    found = {one["way"]: one for one in map(json.loads, result.stdout.splitlines())}
    assert {way: one["wrong"] for way, one in found.items()} == {way: [] for way in WAYS if way in found}
    assert set(WAYS) - found.keys() <= {"predict .parquet"}  # PyArrow may not be here
    for one in found.values():
        assert one["cases"] > 10
        assert one["notes"] > 0  # how many depends on which calls of two threads follow each other


@pytest.mark.slow
def test_a_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from distbp.bench.chart import draw

    network, config = SimpleNamespace(describe=lambda: "4-3"), SimpleNamespace(dtype="float32")
    findings: Any = SimpleNamespace(n=8, measured=(), network=network, config=config)
    rows: Any = [SimpleNamespace(nodes=1, base=1.0, weak_rate=1.0, strong_rate=1.0)]
    NoWaits().install(monkeypatch)
    fsync, codes, notes = os.fsync, [errno.EIO, errno.ESTALE], Notes()

    def away(descriptor: int) -> None:
        if codes:
            raise OSError(code := codes.pop(), os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", away)
    draw(tmp_path / "c.png", findings, rows, notes.note, overwrite=False)
    assert len(notes.lines) == 1
    assert "could not be written at first: Stale file handle; try 3, 1.0 s later, succeeded" in notes.lines[0]
    monkeypatch.setattr(patience, "schedule", replace(patience.schedule, seconds=1.0))
    codes[:] = [errno.EIO] * 99
    with pytest.raises(RunError, match=r"d\.png: cannot write the chart: .* it was tried again for 1 s"):
        draw(tmp_path / "d.png", findings, rows, pytest.fail, overwrite=False)
    codes.clear()
    before = (tmp_path / "c.png").read_bytes()
    with pytest.raises(RunError, match=r"c\.png: cannot write the chart: another file of that name"):
        draw(tmp_path / "c.png", findings, rows, pytest.fail, overwrite=False)
    assert (tmp_path / "c.png").read_bytes() == before
    draw(tmp_path / "c.png", findings, rows, pytest.fail, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        out.write_text("another's")

    with pytest.raises(FileExistsError):
        written_whole(out, write, pytest.fail, overwrite=False)
    assert (os.listdir(tmp_path), out.read_text()) == (["out"], "another's")
    written_whole(out, write, pytest.fail, overwrite=True)
    assert (os.listdir(tmp_path), out.read_text()) == (["out"], "new")


# Together


class Refused:
    """An attempt of all ranks that rank `who` cannot make so often."""

    def __init__(self, who: int, times: float, *, may_pass: bool = True) -> None:
        self.who, self.times, self.may_pass, self.attempts, self.again = who, times, may_pass, 0, 0

    def attempt(self, comm: Communicator) -> str:
        def write() -> str:
            if comm.rank == self.who:
                self.attempts += 1
                if self.attempts <= self.times:
                    error = DataError("out: cannot be written: the disk is away")
                    error.may_pass = self.may_pass
                    raise error
            return f"by {comm.rank}"

        return agree(comm, write)

    def count(self) -> None:
        self.again += 1


@pytest.mark.parametrize("ranks", [1, 3])
def test_all_ranks_begin_anew(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, notes, refused = NoWaits().install(monkeypatch), Notes(), Refused(ranks - 1, 3)
    done = run_threads(
        ranks,
        lambda comm: written_together(comm, lambda: refused.attempt(comm), refused.count, notes.note),
    )
    assert done == [f"by {rank}" for rank in range(ranks)]
    assert (refused.attempts, refused.again, clock.waits) == (4, 3 * ranks, 3)
    where = f"rank 2 ({os.uname().nodename}): " if ranks > 1 else ""
    words = f"warning   {where}out: cannot be written: the disk is away; try 4, 1.5 s later, succeeded"
    assert notes.lines == [words]


@pytest.mark.parametrize(("may_pass", "attempts"), [(True, 21), (False, 1)])
def test_it_does_not_pass(may_pass: bool, attempts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty waits of half a second are the ten seconds; the error says so once, on each rank."""
    NoWaits().install(monkeypatch)
    refused = Refused(0, float("inf"), may_pass=may_pass)

    def work(comm: Communicator) -> str:
        with pytest.raises(DataError) as error:
            written_together(comm, lambda: refused.attempt(comm), lambda: None, pytest.fail)
        assert error.value.agreed
        return str(error.value)

    said = set(run_threads(3, work))
    assert len(said) == 1
    assert said.pop().count("; it was tried again for 10 s") == may_pass
    assert refused.attempts == attempts


def test_a_stop_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    NoWaits().install(monkeypatch)
    refused = Refused(0, float("inf"))

    def stop() -> None:
        raise RunError("stopped on request")

    def work(comm: Communicator) -> None:
        again = stop if comm.rank == 1 else lambda: None
        with pytest.raises(RunError, match="stopped on request") as error:
            written_together(comm, lambda: refused.attempt(comm), again, pytest.fail)
        assert error.value.agreed

    run_threads(3, work)
    assert refused.attempts == 1


@pytest.mark.parametrize("option", ["--out", "--trace"])
def test_what_is_there_cannot_be_seen_now(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out, stat, times = NoWaits().install(monkeypatch), tmp_path / "p.csv", os.stat, 3.0

    def away(path: Any, *arguments: Any, **words: Any) -> Any:
        nonlocal times
        if str(path) == str(out) and times > 0:
            times -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return stat(path, *arguments, **words)

    monkeypatch.setattr(os, "stat", away)
    check_out(out, [], overwrite=False, option=option)
    assert (times, clock.waits) == (0, 3)
    times = float("inf")
    with pytest.raises(RunError, match=f"{option} .*p.csv: cannot see what is there: stale .* again for 10 s"):
        check_out(out, [], overwrite=False, option=option)


# The commands


def failing(path: Path, call: str, *, count: int = 1, code: int = errno.EIO, first: int = 1) -> dict[str, str]:
    return {
        "FAILING_PATH": str(path),
        "FAILING_CALLS": call,
        "FAILING_ERRNO": str(code),
        "FAILING_FROM": str(first),
        "FAILING_COUNT": str(count),
    }


@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.mpi)])
def test_predict_goes_on(runner: Runner, made: Path, library: str, ranks: int) -> None:
    command = (str(BIN / "distbp"), "predict", str(made / "run"), "--out", "p.csv")
    place = runner.directory
    result = runner.run_fork(*command, ranks=ranks, LD_PRELOAD=library, **failing(place, "fsync", code=errno.ESTALE))
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("p.csv: cannot be written: Stale file handle; try 2, ") == 1
    assert len((place / "p.csv").read_text().splitlines()) == 331
    assert [path.name for path in place.iterdir()] == ["p.csv"]


def test_import_goes_on(runner: Runner, made: Path, library: str) -> None:
    command = (str(BIN / "distbp"), "import", str(made / "t.csv"), "--y", "y", "--out", "i.h5")
    result = runner.run_fork(*command, LD_PRELOAD=library, **failing(runner.directory, "write", code=errno.ENOMEM))
    assert result.returncode == 0, result.stderr
    assert "i.h5: 500 rows in train; 2 inputs" in result.stdout
    assert result.stdout.count("could not be written at first: Cannot allocate memory; try 2, ") == 1
    assert [path.name for path in runner.directory.iterdir()] == ["i.h5"]


def test_import_ends(runner: Runner, made: Path, library: str) -> None:
    """With what the system says, and without what HDF5 says of it."""
    command = (sys.executable, "-c", HASTY, "import", str(made / "t.csv"), "--y", "y", "--out", "i.h5")
    result = runner.run_fork(*command, LD_PRELOAD=library, **failing(runner.directory / ".i.h5", "write", count=0))
    check_error(result, 1, "i.h5: cannot be written: the disk or the connection to it fails", "tried again for 10 s")
    assert list(runner.directory.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.mpi)])
def test_a_trace_and_copies(runner: Runner, made: Path, library: str, ranks: int) -> None:
    """Both fail once: the copy of the data first, then the trace."""
    (runner.directory / "local").mkdir()
    command = (str(BIN / "distbp"), "train", str(made / "d.h5"), "--epochs", "1", "--hidden", "4", "--out", "run")
    options = ("--trace", "t.json", "--trace-steps", "1-1", "--stage-to", str(runner.directory / "local"))
    for name, call, words in (
        ("/0.h5", "write", "0.h5: cannot be written: the disk or the connection to it fails; see to it; try 2"),
        ("t.json", "fsync", "t.json: could not be written at first: the disk or the connection to it fails"),
    ):
        out = ("--out", f"run-of-{call}")
        result = runner.run_fork(*command, *options, *out, ranks=ranks, LD_PRELOAD=library, **failing(Path(name), call))
        assert result.returncode == 0, result.stderr
        assert (result.stdout + result.stderr).count(words) == 1
        assert list((runner.directory / "local").iterdir()) == []
        assert json.loads((runner.directory / "t.json").read_text())["traceEvents"]
