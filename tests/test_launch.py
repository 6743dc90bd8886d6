"""Who started this process, on how many ranks, and does MPI agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import Runner, check_error

from distbp.errors import LaunchError
from distbp.ranks.communicator import OneProcess
from distbp.ranks.launch import Launch
from distbp.ranks.mpi import mend

SLURM_STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_NTASKS": "4"}


@pytest.mark.parametrize(
    ("environ", "launched", "size", "rank"),
    [
        ({}, False, None, 0),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1", "SLURM_PROCID": "0"}, False, None, 0),  # the batch script itself
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMIX_RANK": "1"}, True, 2, 1),
        ({"PMI_SIZE": "3", "PMI_RANK": "2"}, True, 3, 2),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, False, 1, 0),
        (SLURM_STEP, True, 4, 3),
        ({**SLURM_STEP, "PMIX_RANK": "2"}, True, 4, 2),  # srun --mpi=pmix
        (
            {**SLURM_STEP, "SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "2", "PMI_RANK": "1"},
            True,
            2,
            1,
        ),  # mpiexec in sbatch
        ({**SLURM_STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, False, 1, 0),
        ({"PALS_RANKID": "5"}, True, None, 5),
    ],
)
def test_what_launchers_say(environ: dict[str, str], launched: bool, size: int | None, rank: int) -> None:
    launch = Launch(environ)
    assert (launch.launched, launch.size, launch.rank) == (launched, size, rank)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, "SLURM_NTASKS=4, which"),  # sbatch -n 4
        ({"SLURM_JOB_ID": "1", "SLURM_NNODES": "2"}, "SLURM_NNODES=2, on which"),  # sbatch -N 2
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "WORLD_SIZE=2, as torchrun sets it"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, ""),  # the first one says it
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_NNODES": "1", "WORLD_SIZE": "1"}, ""),
        ({"SLURM_NTASKS": "many", "WORLD_SIZE": "9" * 5000}, ""),
        ({"SLURM_NTASKS": "4", "WORLD_SIZE": "4", "PMI_SIZE": "1", "PMI_RANK": "0"}, ""),  # mpiexec -n 1 is meant so
        ({**SLURM_STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, ""),  # so is srun -n 1
        (SLURM_STEP, ""),
        ({}, ""),
    ],
)
def test_one_process_where_several_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], words: str
) -> None:
    monkeypatch.setattr("sys.argv", ["distbp", "train", "a b.h5"])
    alone = Launch(environ).alone
    assert alone.startswith(words)
    assert bool(alone) == bool(words)
    assert not alone or f"mpirun -n {alone.split('=')[1][0]} distbp train 'a b.h5'" in alone


def test_that_it_is_alone_is_said_once(runner: Runner, data_file: str) -> None:
    """By what trains and by what uses a network; the work is done."""
    tasks = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}
    for command in (
        ("train", data_file, "--epochs", "1", "--hidden", "6"),
        ("evaluate", "run"),
        ("predict", "run", "--out", "p.csv"),
    ):
        result = runner.distbp(*command, **tasks)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("distbp: note: SLURM_NTASKS=4, which a batch script does not start by itself") == 1
    assert "distbp: note" not in runner.distbp("evaluate", "run").stderr
    doctor = runner.distbp("doctor", WORLD_SIZE="2", RANK="0").stdout
    assert "\nwarn started as     one process; WORLD_SIZE=2, as torchrun sets it" in doctor


def test_ranks_that_do_not_find_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["distbp", "train", "a b.h5"])
    launch = Launch({"PMI_SIZE": "4", "PMI_RANK": "0"})
    with pytest.raises(LaunchError, match=r"started 4 ranks \(PMI_SIZE\).*Open MPI 5\.0\.11, knows of 1"):
        launch._check(1, "Open MPI 5.0.11")
    launch._check(4, "MPICH 5.0.2")
    with pytest.raises(LaunchError, match=r"\n  .*mpirun -n 4 distbp train 'a b\.h5'$"):
        launch._check(1, "Open MPI 5.0.11")
    with pytest.raises(LaunchError, match=r"\n  srun --mpi=pmix -K1 distbp train 'a b\.h5'\n"):
        Launch(SLURM_STEP)._check(1, "Open MPI 5.0.11")
    with pytest.raises(LaunchError, match=r"\n  srun --mpi=pmi2 -K1 distbp train 'a b\.h5'\n"):
        Launch(SLURM_STEP)._check(1, "MPICH 5.0.2")
    wrong = {**SLURM_STEP, "PMI_SIZE": "4", "PMI_RANK": "0", "SLURM_MPI_TYPE": "pmi2"}
    with pytest.raises(LaunchError, match=r"\(PMI_SIZE\)(.|\n)*\n  srun --mpi=pmix -K1 distbp train 'a b\.h5'\n"):
        Launch(wrong)._check(1, "Open MPI 5.0.11")
    with pytest.raises(LaunchError, match="different MPIs"):  # MPICH would end the process: refused before it starts
        Launch({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})._check(None, "MPICH 5.0.2")


@pytest.mark.parametrize(
    ("environ", "library", "first"),
    [
        ({**SLURM_STEP, "PMIX_RANK": "3", "SLURM_MPI_TYPE": "pmix"}, "Open MPI 5.0.11", "waits"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, "Open MPI 5.0.11", "speaks"),
        ({**SLURM_STEP, "PMI_SIZE": "4", "PMI_RANK": "3", "SLURM_MPI_TYPE": "pmi2"}, "MPICH 5.0.2", "speaks"),
    ],
)
def test_no_message_reaches_a_rank_that_starts(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], library: str, first: str
) -> None:
    """By srun, Open MPI 5 crashes where one does."""
    did = []

    class Rank(OneProcess):
        rank, size = 3, 4

        def __init__(self, check: Callable[[str], None], wait_seconds: float, say: Callable[[str], None]) -> None:
            self.library = library

        def allgather(self, value: Any) -> list[Any]:
            did.append("speaks")
            return [value] * 4

    monkeypatch.setattr("distbp.ranks.mpi.world", Rank)
    monkeypatch.setattr("distbp.ranks.launch.time.sleep", lambda seconds: did.append("waits"))
    Launch(environ).connect()
    assert did[0] == first


@pytest.mark.mpi
def test_srun_without_pmi_is_refused_in_time(runner: Runner) -> None:
    result = runner.distbp("train", "--epochs", "0", **SLURM_STEP | {"SLURM_PROCID": "0"})
    check_error(result, 1, "the launcher started 4 ranks (SLURM_STEP_NUM_TASKS)", "srun --mpi=")
    assert not (runner.directory / "run").exists()
    other = runner.distbp("train", "--epochs", "0", **SLURM_STEP)
    assert other.returncode == 1
    assert "distbp: error" not in other.stderr  # said once, by rank 0


def test_both_mpis_in_one_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mpi4py has loaded MPICH there; the message names what has it load the other one."""
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    (tmp_path / "lib").mkdir()
    by_open_mpi = Launch({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})
    with pytest.raises(LaunchError, match=r"mpirun -n 2"):
        by_open_mpi._check(None, "MPICH 5.0.2")
    for name in ("libmpi.so.40", "libmpi.so.12"):
        (tmp_path / "lib" / name).touch()
    told = rf"both MPIs are in this environment(.|\n)*\n  export MPI4PY_LIBMPI={tmp_path}/lib/libmpi\.so\.40$"
    for environ in (
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
        {**SLURM_STEP, "PMIX_RANK": "0", "SLURM_MPI_TYPE": "pmix"},
    ):
        with pytest.raises(LaunchError, match=told):
            Launch(environ)._check(None, "MPICH 5.0.2")
        Launch(environ)._check(None, "Open MPI 5.0.11")
    with pytest.raises(LaunchError, match=r"\n  export MPI4PY_LIBMPI=.*/libmpi\.so\.12$"):
        Launch({"PMI_SIZE": "2", "PMI_RANK": "0"})._check(1, "Open MPI 5.0.11")
    with pytest.raises(LaunchError, match=r"srun --mpi=pmi2"):  # a plain srun: no library would do
        Launch(SLURM_STEP)._check(1, "MPICH 5.0.2")
    assert (
        mend()
        == f"set MPI4PY_LIBMPI to the library to load: {tmp_path}/lib/libmpi.so.12 or {tmp_path}/lib/libmpi.so.40"
    )
    monkeypatch.setenv("MPI4PY_LIBMPI", "/none.so")
    assert mend().startswith(
        "MPI4PY_LIBMPI=/none.so names no MPI library that can be loaded here: unset it, or set it to"
    )
    monkeypatch.setattr("sys.prefix", "/none")
    assert mend().endswith(": unset it")
    monkeypatch.delenv("MPI4PY_LIBMPI")
    assert "pip install mpich" in mend()
