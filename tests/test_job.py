"""What launcher and SLURM say of a job, and what a run makes of it: its end, its log of starts, its threads."""

from __future__ import annotations

import calendar
import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import Commands, in_one_job
from runs import LIMIT, Runner, check_error, configuration, resumed, train_on, write_data

from distbp.counted import counted
from distbp.errors import RunError, Stopped, UsageError
from distbp.ranks.job import Job, asked_end, job_of
from distbp.training import deadline
from distbp.training.comparison import digest
from distbp.training.deadline import Deadline, End, ends_of, time_of_the_first
from distbp.training.report import Console
from distbp.training.starts import parse

STEP = {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_NODELIST": "n[1-2]"}


@pytest.mark.parametrize(
    ("environ", "launcher"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4"}, ""),  # the batch script itself
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "mpiexec (Hydra)"),
        # below these two, SLURM's variables are those of the launcher's own step
        ({**STEP, "PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}, "mpiexec (Hydra)"),
        ({**STEP, "OMPI_COMM_WORLD_SIZE": "4", "PMIX_RANK": "0", "SLURM_MPI_TYPE": "pmix"}, "mpirun of Open MPI"),
        ({**STEP, "PMI_SIZE": "4", "SLURM_MPI_TYPE": "pmi2"}, "srun --mpi=pmi2"),
        ({**STEP, "PMIX_RANK": "0", "SLURM_MPI_TYPE": "pmix"}, "srun --mpi=pmix"),
        (STEP, "srun"),
        ({**STEP, "SLURM_MPI_TYPE": "none"}, "srun"),
    ],
)
def test_launchers(environ: dict[str, str], launcher: str) -> None:
    assert job_of(environ).launcher == launcher


def test_a_job_of_slurm() -> None:
    job = job_of(
        {
            **STEP,
            "SLURM_MPI_TYPE": "pmi2",
            "PMI_SIZE": "4",
            "SLURM_ARRAY_JOB_ID": "10",
            "SLURM_ARRAY_TASK_ID": "2",
            "SLURM_RESTART_COUNT": "3",
            "SLURM_JOB_CPUS_PER_NODE": "72(x2),36",
            "SLURM_JOB_END_TIME": "1800000000",
        }
    )
    assert (job.id, job.restarts, job.nodes, job.cpus, job.end) == ("12", 3, "n[1-2]", 36, 1.8e9)
    assert job.describe() == "SLURM job 12 (task 2 of array 10), restart 3, on n[1-2], by srun --mpi=pmi2"
    assert abs(job.started - time.time()) < 60
    assert abs(job.begun - time.monotonic()) < 60
    assert job_of({"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "a\nb"}).nodes == ""
    assert job_of({"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "a\udcff"}).nodes == ""
    for end in ("0", "99999999999999999999", "999999999999999999"):
        assert job_of({"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": end}).end is None
    odd = job_of(
        {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "x", "SLURM_JOB_CPUS_PER_NODE": "(", "SLURM_JOB_END_TIME": "-"}
    )
    assert (odd.restarts, odd.cpus, odd.end) == (0, None, None)


def fake_squeue(directory: Path, prints: str) -> None:
    """Answers what distbp asks, in the zone that it asks for, and only where no filter of the user hides the job."""
    (directory / "answer").write_text(prints)
    asked = '"$*" = "--noheader --jobs=12 --format=%A %F %K %e"'
    squeue = directory / "squeue"
    squeue.write_text(f'#!/bin/sh\n[ {asked} ] && [ "$TZ$SQUEUE_STATES" = UTC0 ] && cat "${{0%squeue}}answer"\n')
    squeue.chmod(0o755)


@pytest.mark.parametrize(
    ("prints", "end"),
    [
        ("12 12 N/A 2027-01-15T08:00:00\n", 1_800_000_000),
        ("12 12 N/A NONE\n", math.inf),
        ("12 12 N/A 2027-02-30T08:00:00\n", None),
        ("", None),
    ],
)
def test_slurm_is_asked_for_the_end_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, end: float | None
) -> None:
    """In a zone of its own: squeue prints times of the zone of who asks."""
    fake_squeue(tmp_path, prints)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    job = Job(id="12", started=1_800_000_000 - 600, begun=7000.0)
    assert asked_end(job) == end
    limit, ours = "--time-limit 5", [(end, "the time of SLURM job 12")] if end else []
    assert [(one.at, one.whose) for one in ends_of(job, 0)] == ours
    assert [(one.at, one.whose) for one in ends_of(job, 5)] == [(7300.0, limit), *ours]
    (told,) = ends_of(replace(job, end=1_800_000_060), 0)  # nobody is asked
    assert (told.at, told.span, told.again()) == (1_800_000_060, 660, end)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert asked_end(job) is None


# What squeue 22.05 printed for `sbatch --array=1-3%1 --time=UNLIMITED`: the last task has the array's own number.
LAST_OF_ARRAY = "14 12 2 2026-11-27T17:05:18\n13 12 1 2026-11-27T17:05:17\n12 12 3 NONE\n"


@pytest.mark.parametrize(
    ("prints", "task", "end"),
    [
        (LAST_OF_ARRAY, "12_3", math.inf),
        (LAST_OF_ARRAY.replace("NONE", "2027-01-15T08:00:00"), "12_3", 1_800_000_000),
        (LAST_OF_ARRAY, "12_2", None),  # of the number of this job, and another task: not this one
        ("12 12 [3-5%2] 2027-01-15T08:00:00\n", "12_3", None),
    ],
)
def test_a_task_of_an_array_has_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, task: str, end: float | None
) -> None:
    """And not that of a sibling that has finished."""
    fake_squeue(tmp_path, prints)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert asked_end(Job(id="12", task=task)) == end


@pytest.mark.parametrize("late", [0, 1, -30])
def test_a_job_without_a_time_limit_has_no_end(late: int) -> None:
    """SLURM 24.11 sets an end a year after the start for it."""
    begun, year = 1_800_000_000, 365 * 86400
    environ = {"SLURM_JOB_ID": "12", "SLURM_JOB_START_TIME": f"{begun}"}
    assert job_of({**environ, "SLURM_JOB_END_TIME": f"{begun + year + late}"}).end == math.inf
    assert job_of({**environ, "SLURM_JOB_END_TIME": f"{begun + 60}"}).end == begun + 60


def test_no_limit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a day a year away, nor that nobody knows."""
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", epochs=1)
    train_on(1, config, listener=Console(), job=Job(id="12", end=math.inf))
    said = capsys.readouterr().out
    assert "\njob       SLURM job 12; no time limit\n" in said
    assert "not known" not in said


class Clocks:
    """The clock that nobody sets, and that of the day, which somebody may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.day = 0.0, 0.0
        monkeypatch.setattr(deadline.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(deadline.time, "time", lambda: self.day)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.day += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def of_job(at: float, again: Callable[[], float | None] = lambda: None) -> End:
    return End(at, "the job", at, lambda: deadline.time.time(), again)


def test_a_run_stops_before_the_end(clocks: Clocks) -> None:
    """Steps of 10 s, a checkpoint takes 20 s: what is needed are 3 · 20 + 2 · 10 s, and 5 % of 1000 s."""
    asked = [""]
    stop = Deadline([of_job(1000.0)], lambda: 20.0, lambda: asked[0])
    said = []
    for _ in range(100):
        said.append(stop())
        clocks.pass_by(10)
    first = said.index("130 s before the end of the job")
    assert first == (1000 - 130) / 10
    assert not any(said[:first])
    assert set(said[first:]) == {said[first]}
    asked[0] = "on request"
    assert stop() == "on request"


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_is_set_does_not_move_the_time_limit(clocks: Clocks, jump: float) -> None:
    """NTP at the start of a virtual machine; the limit is 10 minutes, 30 s of them spare."""
    job = Job(started=clocks.day, begun=clocks.now)
    stop = Deadline(ends_of(job, 10), lambda: 0.0, lambda: "")
    clocks.pass_by(1)
    assert not stop()
    clocks.day += jump
    for _ in range(566):
        clocks.pass_by(1)
        assert not stop()
    clocks.pass_by(1)  # 568 s, and 2 steps of 1 s
    assert stop() == "32 s before the end of --time-limit 10"


def test_the_end_of_a_job_is_a_time_of_the_day(clocks: Clocks) -> None:
    """A clock that is put right shows how near it is; and how long a step takes is measured by the other."""
    stop = Deadline([of_job(4600.0)], lambda: 0.0, lambda: "")
    clocks.pass_by(10)
    assert not stop()
    clocks.day += 3600
    clocks.pass_by(10)
    assert not stop()  # 980 s are left
    clocks.day += 900
    clocks.pass_by(10)
    assert stop() == "70 s before the end of the job"  # 60 s spare, and two steps of 10 s


def test_the_nearest_of_two_ends(clocks: Clocks) -> None:
    """Each on its clock, so that either may come first."""
    ends = [*ends_of(Job(), 20), of_job(1800.0)]
    assert time_of_the_first(ends) == 1200
    stop = Deadline(ends, lambda: 0.0, lambda: "")
    assert not stop()
    clocks.day += 1000
    assert time_of_the_first(ends) == 1800
    for _ in range(6):
        assert not stop()
        clocks.pass_by(100)
    assert stop() == "200 s before the end of the job"
    assert time_of_the_first([of_job(math.inf)]) == math.inf


def test_a_job_that_gets_more_time_goes_on(clocks: Clocks) -> None:
    """The controller is asked when the end is near, and at that one again."""
    ends = [1800.0, 1800.0]
    stop = Deadline([of_job(1000.0, lambda: ends.pop(0))], lambda: 20.0, lambda: "")
    clocks.pass_by(800)
    assert (stop(), len(ends)) == ("", 2)
    clocks.pass_by(100)
    assert (stop(), len(ends)) == ("", 1)
    for _ in range(76):
        clocks.pass_by(10)
        assert not stop()
    clocks.pass_by(10)
    assert (stop(), len(ends)) == ("130 s before the end of the job", 0)
    assert stop() == "130 s before the end of the job"


def test_one_slow_step_is_forgotten(clocks: Clocks) -> None:
    stop = Deadline([of_job(1000.0)], lambda: 0.0, lambda: "")
    clocks.pass_by(100)
    assert not stop()
    for _ in range(101, 940):
        clocks.pass_by(1)
        assert not stop()
    clocks.pass_by(61)
    stop = Deadline([End(2000.0, "the job", 2000.0, lambda: deadline.time.time())], lambda: 0.0, lambda: "")
    for seconds in (200, 200, 160, 40):  # several in a row are not
        clocks.pass_by(seconds)
        assert not stop()
    clocks.pass_by(50)
    assert stop() == "350 s before the end of the job"


@pytest.mark.one_mpi
def test_a_time_limit(tmp_path: Path, runner: Runner) -> None:
    """It stops without a signal, and comes to the result of a run that was not stopped."""
    data = write_data(tmp_path / "d.h5")
    limit = f"{0.05 * LIMIT / 60:g}"  # minutes
    options: dict[str, Any] = {"dtype": "float32", "reproducible": True, "grain": 4, "batch_size": 256}
    words = ("--reproducible", "--hidden", "6", "--grain", "4", "--batch-size", "256", "--out")
    stopped = runner.distbp("train", data, *words, "run", "--epochs", "1000000", "--time-limit", limit, ranks=2)
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stderr.count(f"before the end of --time-limit {limit}") == 1
    assert "continue with --resume" in stopped.stderr
    assert "\njob       by mpi" in stopped.stdout
    assert "; until 20" in stopped.stdout
    epochs = len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) + 1
    whole = train_on(1, configuration(data, tmp_path / "whole", **options, epochs=epochs))
    again, late = in_one_job(
        runner,
        3,
        ("train", "--resume", "--out", "run", "--epochs", epochs),
        ("train", "--resume", "--out", "run", "--epochs", "1000000", "--time-limit", "0.0001"),
    )
    assert again.returncode == 0, again.stderr
    assert f"digest    {digest(whole.state.parameters)}" in again.stdout
    check = (late.returncode, late.stderr.count("s before the end of --time-limit 0.0001 while "))
    assert check == (75, 1), late.stderr


def starts(run: Path) -> list[dict[str, str]]:
    with open(run / "starts.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_start_is_written_down(tmp_path: Path) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run")
    job = Job("srun --mpi=pmi2", "12", "10_2", nodes="n[1-2]")
    train_on(3, config, nodes=2, job=job)
    text = (tmp_path / "run" / "config.toml").read_text()
    assert "SLURM job 12 (task 2 of array 10), on n[1-2], by srun --mpi=pmi2; the bits depend on the number" in text
    resumed(1, config, epochs=5)
    first, second = starts(tmp_path / "run")
    assert abs(time.time() - calendar.timegm(time.strptime(first.pop("time"), "%Y-%m-%dT%H:%M:%SZ"))) < 60
    assert {name: first[name] for name in ("step", "ranks", "nodes", "job", "task", "restarts", "node_list")} == {
        "step": "0",
        "ranks": "3",
        "nodes": "2",
        "job": "12",
        "task": "10_2",
        "restarts": "0",
        "node_list": "n[1-2]",
    }
    assert (second["step"], second["ranks"], second["nodes"], second["job"]) == ("12", "1", "1", "")


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_loop_of_requeues_is_ended(tmp_path: Path, ranks: int) -> None:
    """Not where it came on, or is another one, or where nobody requeued it."""
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", epochs=1)
    stop = {"why_stop": lambda: "on request", "resume_with": {}, "or_begin": True}
    for restarts in range(5):
        with pytest.raises(Stopped):
            train_on(ranks, config, **stop, job=Job(id="12", restarts=restarts))
    with pytest.raises(RunError, match=r"SLURM job 12 was started 5 times in a row with \d+ steps done") as error:
        train_on(ranks, config, **stop, job=Job(id="12", restarts=5))
    assert error.value.agreed
    assert len(starts(tmp_path / "run")) == 5
    for job in (Job(), Job(id="13", restarts=5)):
        with pytest.raises(Stopped):
            train_on(ranks, config, **stop, job=job)
    run = train_on(ranks, config, resume_with={}, or_begin=True, job=Job(id="12", restarts=6))
    assert run.state.progress.epoch == 1


def test_a_log_of_starts_that_is_damaged_or_no_file(tmp_path: Path) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", epochs=1)
    train_on(1, config)
    path = tmp_path / "run" / "starts.csv"
    path.write_bytes(b"\xff,1\n" * 9 + b"time,st")
    resumed(1, config, epochs=2)
    resumed(2, config, epochs=2)
    assert [start["ranks"] for start in parse(path.read_text(errors="replace").splitlines())] == ["1", "2"]
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"starts\.csv: is a link to "):
        resumed(1, config, epochs=3)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("ranks", [1, 3])
def test_resume_where_there_is_something_to_resume(tmp_path: Path, ranks: int) -> None:
    data = write_data(tmp_path / "d.h5")
    config = configuration(data, tmp_path / "run", epochs=2)
    given = {"data": [str(tmp_path / "d*.h5")], "hidden": [6], "dtype": "float64", "batch_size": 7}
    config = replace(config, data=given["data"])
    first = train_on(ranks, config, resume_with={**given, "epochs": 2}, or_begin=True)
    assert first.state.progress.epoch == 2
    again = train_on(ranks, config, resume_with={**given, "epochs": 3}, or_begin=True)
    assert (again.state.progress.epoch, len(again.state.history["train_loss"])) == (3, 3)
    with pytest.raises(UsageError, match="--hidden: the run has"):
        train_on(ranks, config, resume_with={**given, "hidden": [7]}, or_begin=True)
    for checkpoint in (tmp_path / "run").glob("checkpoint-*"):
        checkpoint.write_bytes(b"damaged")
    with pytest.raises(RunError, match="no good checkpoint to resume from"):
        train_on(ranks, config, resume_with=given, or_begin=True)
    for checkpoint in (tmp_path / "run").glob("checkpoint-*"):
        checkpoint.unlink()
    with pytest.raises(RunError, match="already holds a run"):
        train_on(ranks, config, resume_with=given, or_begin=True)


def test_resume_auto_on_the_command_line(tmp_path: Path, runner: Runner) -> None:
    data = write_data(tmp_path / "auto")
    begin = ("--hidden", "6", "--out", "run", "--epochs")
    for epochs, first, command in (
        (1, "done      1 epoch,", ("--resume", "auto", data, *begin)),
        (2, "resuming run/", (data, *begin[:-1], "--resume", "auto", "--epochs")),
        (3, "resuming run/", ("--resume", data, *begin)),
        (4, "resuming run/", ("--resume=auto", "--out", "run", "--epochs")),
    ):
        done = runner.distbp("train", *command, f"{epochs}")
        assert done.returncode == 0, done.stderr
        assert first in done.stdout
        assert f"done      {counted(epochs, 'epoch')}, " in done.stdout
    check_error(runner.distbp("train", "--resume=yes", data), 2, "--resume")
    check_error(runner.distbp("train", "--resume", "--out", "none"), 1, "no run to be found here")
    check_error(runner.distbp("train", "--out", "new", "--", "auto", "--resume"), 1, "--resume: no such file")


WATCHED = """
import atexit, runpy, sys
opened = []
sys.addaudithook(lambda event, values: event == "open" and opened.append(str(values[0])))

def tell():
    import os
    rank = os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK"))
    text = "\\n".join([*opened, "", *sys.modules])
    with open(f"rank-{rank}", "w") as file:
        file.write(text)

atexit.register(tell)
sys.argv[:1] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.mpi
def test_what_the_ranks_open(tmp_path: Path, runner: Runner) -> None:
    """All but rank 0 leave the run directory alone, and nobody imports what he has no use for."""
    data = write_data(tmp_path / "d.h5")
    (tmp_path / "watched.py").write_text(WATCHED)
    out = ("--out", tmp_path / "run")
    job = Commands(runner, ("train", data, "--epochs", "2", *out), ("train", "--resume", "--epochs", "3", *out))
    python, *program = job.command
    for done in job.results(runner.run(python, "watched.py", *program, ranks=3)):
        assert done.returncode == 0, done.stderr
    for rank in range(3):
        opened, modules = (tmp_path / f"rank-{rank}").read_text().split("\n\n")
        of_run = [name for name in opened.splitlines() if str(tmp_path / "run") in name]
        assert bool(of_run) == (rank == 0), of_run
        packages = {name.partition(".")[0] for name in modules.splitlines()}
        assert packages & {"tqdm", "matplotlib", "difflib", "email", "asyncio", "unittest"} == set()
        assert ("distbp.training.report" in modules) == (rank == 0)
        assert "distbp.doctor.doctor" not in modules
        assert "distbp.bench.bench" not in modules
