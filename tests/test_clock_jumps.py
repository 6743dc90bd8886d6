"""Somebody sets the clock of a node, by two hours, while a run works there: no limit takes that for time that passed.

The end of a SLURM job is a time of the day: it comes nearer, or is further away.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from runs import Runner, check_error, to_preload, write_data

from distbp.errors import RunError
from distbp.training import run_lock
from distbp.training.run_lock import RunLock

JUMPS = pytest.mark.parametrize("jump", [7200, -7200])
# A run of another host, whose clock is set while it holds the lock.
FAR = """
import ctypes, socket, sys
from pathlib import Path
from distbp.training import run_lock
socket.gethostname = lambda: "node7"
run_lock.SIGN_SECONDS = 0.2
run_lock.RunLock(Path(sys.argv[1])).acquire(lambda text: None)
ctypes.CDLL(None).jump_clock(ctypes.c_long(int(sys.argv[2])))
print("got it", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def library() -> str:
    return to_preload("jumping_clock")


@pytest.fixture
def train(runner: Runner, library: str) -> Any:
    """Trains, and sets the clock of all ranks at an update."""
    data = write_data(runner.directory / "d.h5", train=200)

    def run(jump: int, *options: str, ranks: int = 0, then: str = "", **extra: str) -> Any:
        fault = (str(Path(__file__).parent / "fault.py"), "update", "all", f"clock{jump:+}{then}")
        words = ("train", data, "--hidden", "5", "--batch-size", "20", "--engine", "numpy", "--out", "run", *options)
        return runner.run_fork(sys.executable, *fault, *words, ranks=ranks, LD_PRELOAD=library, **extra)

    return run


def seconds_of(run: Path) -> list[float]:
    with open(run / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return [float(value) for row in rows for name, value in row.items() if "seconds" in name and "samples" not in name]


@JUMPS
@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.mpi)])
def test_a_run_to_its_end(train: Any, runner: Runner, jump: int, ranks: int) -> None:
    limits = ("--time-limit", "60", "--stall-minutes", "10", "--checkpoint-minutes", "30")
    result = train(jump, "--epochs", "3", *limits, ranks=ranks)
    assert (result.returncode, result.stderr) == (0, "")
    assert all(0 <= seconds < 1800 for seconds in seconds_of(runner.directory / "run"))


@pytest.mark.slow
def test_limits_that_are_reached(train: Any, runner: Runner) -> None:
    """Though by the time of the day nothing has begun yet."""
    often = ("--checkpoint-minutes", "0.005", "--checkpoint-every", "1000000", "--keep", "1000")
    result = train(-7200, "--epochs", "1000000", *often, "--time-limit", "0.12")
    assert result.returncode == 75, result.stderr
    assert "s before the end of --time-limit 0.12" in result.stderr
    assert len(list((runner.directory / "run").glob("checkpoint-*.h5"))) > 2  # the first, the last, and others


@JUMPS
def test_the_end_of_a_slurm_job(train: Any, jump: int) -> None:
    now = int(time.time())
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_START_TIME": str(now), "SLURM_JOB_END_TIME": str(now + 3600)}
    result = train(jump, "--epochs", "3", **job)
    if jump < 0:
        assert (result.returncode, result.stderr) == (0, "")
    else:
        assert result.returncode == 75, result.stderr
        assert "before the end of the time of SLURM job 7 at epoch 2, step 1" in result.stderr


@pytest.mark.slow
def test_a_rank_that_hangs(train: Any) -> None:
    result = train(-7200, "--epochs", "3", "--stall-minutes", "0.08", then=",hang")
    check_error(result, 1, "has not come on for 5 s while in epoch 2, step 15")


@JUMPS
@pytest.mark.slow
@pytest.mark.parametrize("end", ["alive", "killed"])
def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, jump: int, end: str) -> None:
    """They are times of a file, which is compared with itself alone."""
    monkeypatch.setattr(run_lock, "LOST_SECONDS", 3.0)
    environment = {**os.environ, "LD_PRELOAD": library}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", FAR, str(tmp_path), str(jump)], **pipes) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "got it\n"
            notes: list[str] = []
            lock = RunLock(tmp_path)
            if end == "alive":
                with pytest.raises(RunError, match="on node7 works in this directory; its lock shows signs of life"):
                    lock.acquire(notes.append)
                assert abs((tmp_path / run_lock.NAME).stat().st_mtime - time.time() - jump) < 60
            else:
                time.sleep(0.3)
                holder.kill()
                holder.wait()
                lock.acquire(notes.append)
                assert notes[1].endswith("on node7 is gone")
                lock.release()
        finally:
            holder.kill()
