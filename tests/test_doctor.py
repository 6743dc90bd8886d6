"""`distbp doctor`: what it finds in a healthy installation, and in several sick ones; it never waits for ever."""

from __future__ import annotations

import math
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from runs import BIN, Runner, mpirun_command

from distbp.doctor import directory_check, doctor
from distbp.doctor.findings import FAIL, OK, WARN, Finding, merged
from distbp.ranks.communicator import OneProcess
from distbp.ranks.control_groups import Quota
from distbp.ranks.job import Job
from distbp.ranks.launch import Launch, is_of_other_mpi
from distbp.ranks.threads import Threads
from distbp.ranks.time_limit import within

GROUND = ("distbp", "libraries", "MPI library", "started as", "launcher", "BLAS", "cores", "memory", "directory")


def levels(result: Any) -> dict[str, str]:
    """The verdict on each thing."""
    lines = [line for line in result.stdout.splitlines() if line.startswith(("ok ", "warn ", "FAIL "))]
    return {line[5:20].strip(): line.split()[0] for line in lines}


def check_healthy(result: Any, *words: str) -> None:
    assert result.returncode == 0, result.stdout + result.stderr
    assert "FAIL " not in result.stdout.replace("0 FAIL", "")
    assert result.stderr == ""
    found = levels(result)
    assert set(GROUND) <= found.keys()
    for what in GROUND:
        assert result.stdout.count(f"\nok   {what:<15}") + result.stdout.startswith(f"ok   {what:<15}") == 1, what
    for word in words:
        assert word in result.stdout


def test_one_process(runner: Runner) -> None:
    path = f"{BIN}:/usr/bin:/bin"
    result = runner.afresh("doctor", "--out", "new/run", PATH=path)
    check_healthy(result, "one process", "in which new/run will be made", "seen on 1 node", "file locks", "write speed")
    assert list(runner.directory.iterdir()) == []  # nothing is left behind


@pytest.mark.mpi
def test_real_ranks(runner: Runner) -> None:
    result = runner.distbp("doctor", ranks=2, PATH=f"{BIN}:/usr/bin:/bin", OMP_NUM_THREADS="1")
    check_healthy(result, "2 ranks (", "Allreduce      right", "is shared by 2 ranks", "clocks", "thread level")
    crowded = runner.distbp("doctor", ranks=2, PATH=f"{BIN}:/usr/bin:/bin", OMP_NUM_THREADS="64")
    assert crowded.returncode == 0
    assert levels(crowded)["oversubscribed"] == "warn"
    assert list(runner.directory.iterdir()) == []


@pytest.mark.mpi
def test_ranks_of_another_mpi(runner: Runner) -> None:
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
    result = runner.distbp("doctor", **step, SLURM_PROCID="0")
    assert result.returncode == 1
    assert levels(result)["MPI"] == "FAIL"
    kind = "pmix" if "--oversubscribe" in mpirun_command() else "pmi2"
    assert f"srun --mpi={kind} -K1 distbp doctor" in result.stdout
    assert levels(result)["directory"] == "ok"  # the other checks are made all the same
    other = runner.distbp("doctor", **step, SLURM_PROCID="1")
    assert (other.returncode, other.stdout) == (0, "")  # rank 0 says it


@pytest.mark.mpi
def test_no_mpi_library(runner: Runner) -> None:
    alone = runner.distbp("doctor", MPI4PY_LIBMPI="/none.so", PATH="/usr/bin:/bin")
    assert alone.returncode == 0, alone.stdout
    assert levels(alone)["MPI library"] == "warn"
    ranks = runner.distbp("doctor", ranks=2, MPI4PY_LIBMPI="/none.so")
    assert ranks.returncode != 0
    assert levels(ranks)["MPI"] == levels(ranks)["MPI library"] == "FAIL"


def fake_mpirun(directory: Path, script: str) -> str:
    path = directory / "mpirun"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{directory}:/usr/bin:/bin"


def test_launchers_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "library", lambda: ("MPICH 5.0.2", "4.1"))
    monkeypatch.setattr(doctor, "VERSION_SECONDS", 0.3)
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    for script, level, words in (
        ("echo 'mpirun (Open MPI) 5.0.1'", FAIL, "but the MPI library is MPICH 5.0.2"),
        ("echo 'HYDRA build details:'; echo '    Version:                4.1'", OK, "Hydra (MPICH) 4.1, which goes"),
        ("echo 'Intel(R) MPI Library for Linux* OS, Version 2021'", OK, "Version 2021, which goes with"),
        ("exec sleep 60", WARN, "no answer in 0.3 s"),
        ("", OK, "says nothing"),
    ):
        monkeypatch.setenv("PATH", fake_mpirun(tmp_path, script))
        finding = doctor.check_launcher(Launch({}))[-1]
        assert finding.level == level, finding
        assert words in finding.text
    monkeypatch.setenv("PATH", "")
    assert "no mpirun" in doctor.check_launcher(Launch({}))[-1].text
    assert is_of_other_mpi("Intel(R) MPI Library", "Open MPI 5.0.1")


def in_own_mounts(runner: Runner, mount: str) -> Any:
    """The report on a directory that is mounted for it alone."""
    target = runner.directory / "mounted"
    target.mkdir()
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mounts of its own here")
    command = f"mount -t tmpfs {mount} none mounted && exec {BIN / 'distbp'} doctor --out mounted"
    return runner.run("unshare", "-m", "sh", "-c", command)


@pytest.mark.parametrize(
    ("mount", "what", "words"),
    [
        ("-o ro", "directory", "Read-only file system"),
        ("-o size=4m", "space", "4 MiB free"),
        ("-o nr_inodes=1", "directory", "No space left on device"),
    ],
)
def test_directories_that_cannot_be_written_to(runner: Runner, mount: str, what: str, words: str) -> None:
    result = in_own_mounts(runner, mount)
    assert result.returncode == 1, result.stdout + result.stderr
    assert levels(result)[what] == "FAIL"
    assert words in result.stdout
    assert "->" in result.stdout  # what to do


def test_a_place_where_nothing_can_be_made(runner: Runner) -> None:
    result = runner.distbp("doctor", "--out", "/proc/run")
    assert result.returncode == 1
    assert levels(result)["directory"] == "FAIL"
    assert "Traceback" not in result.stderr


def test_a_file_system_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_check, "SECONDS", 0.2)
    answer = threading.Event()
    monkeypatch.setattr(directory_check, "replace_synced", lambda *paths: answer.wait(60))
    found = directory_check.check_directory(OneProcess(), tmp_path)
    assert not answer.is_set()
    answer.set()
    assert found[0].level == FAIL
    assert "does not answer" in found[0].text


def test_a_directory_that_another_node_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_check, "_wait_for", lambda path, token: "")
    finding = directory_check.check_directory(OneProcess(), tmp_path)[-1]
    assert (finding.level, finding.what) == (FAIL, "seen by nodes")
    assert list(tmp_path.iterdir()) == []


class Pair(OneProcess):
    """Two ranks, of which the other one has other numbers, and whose Allreduce does nothing."""

    size = 2

    def __init__(self, behind: float = 0.0) -> None:
        self.behind = behind

    def allgather(self, value: Any) -> list[Any]:
        return [value, value - self.behind if isinstance(value, float) else value]


def test_wrong_sums_and_wrong_clocks() -> None:
    assert doctor.check_communication(Pair())[0].level == FAIL
    assert doctor.check_clocks(Pair())[0].level == OK
    late = doctor.check_clocks(Pair(5.0))[0]
    assert (late.level, "5 s apart" in late.text) == (WARN, True)


def test_slurm() -> None:
    assert doctor.check_slurm(Job(), 0) == []
    job = Job("srun --mpi=pmi2", "17", restarts=2, nodes="n[1-2]", cpus=4, end=10000)
    found = doctor.check_slurm(job, 10000 - 3600)[0]
    said = "SLURM job 17, restart 2, on n[1-2], by srun --mpi=pmi2, 4 cpus a node, 60 minutes left"
    assert (found.level, found.text) == (OK, said)
    assert doctor.check_slurm(job, 10000 - 60)[0].level == WARN
    unlimited = doctor.check_slurm(Job("srun", "17", end=math.inf), 10000)[0]
    assert (unlimited.level, unlimited.text) == (OK, "SLURM job 17, by srun, no time limit")


def test_a_cpu_quota_and_threads_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a container with one core's worth of time on a machine with more, and a variable that is no number."""
    monkeypatch.setattr(doctor, "quotas", lambda: (Quota((1, 1), 1.5),))
    monkeypatch.setattr(doctor, "cores_of", lambda process: frozenset(range(8)))
    notes = ("note      OMP_NUM_THREADS='abc': expected a number",)
    monkeypatch.setattr(doctor, "set_threads", lambda comm, asked: Threads(2, "OMP_NUM_THREADS", notes, "1 is idle: x"))
    found = {finding.what: finding for finding in doctor.check_cores(OneProcess())}
    assert found["thread setting"].line() == "warn thread setting OMP_NUM_THREADS='abc': expected a number"
    assert found["idle cores"].line().split() == ["warn", "idle", "cores", "1", "is", "idle", "->", "x"]
    assert found["oversubscribed"].text == "2 BLAS threads of 1 ranks on 1 cores"


def test_what_ranks_found_is_said_once() -> None:
    alike, odd = Finding(OK, "BLAS", "one"), Finding(OK, "BLAS", "two")
    first = Finding(OK, "space", "much")
    ranks = [("a", [alike, first]), ("a", [alike]), ("b", [odd]), ("b", [alike])]
    assert list(merged(ranks)) == [
        (alike, "ranks 0-1, 3 (a, b): "),
        (odd, "rank 2 (b): "),
        (first, ""),
    ]
    unseen = Finding(FAIL, "seen by nodes", "not here")
    assert list(merged([("a", []), ("b", [unseen])])) == [(unseen, "rank 1 (b): ")]


def test_time_limits(runner: Runner) -> None:
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    with pytest.raises(TimeoutError, match=r"no answer in 0\.1 s"):
        within(0.1, lambda: time.sleep(1))
    script = (
        "import time; from distbp.ranks.time_limit import exit_after\n"
        "with exit_after(0.2, lambda: print('too long', flush=True)): time.sleep(50)"
    )
    result = runner.run(sys.executable, "-c", script, limit=20)
    assert (result.returncode, result.stdout) == (1, "too long\n")
