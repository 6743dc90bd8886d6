"""Where ranks of a node cannot share memory, they work without it, or MPI is not started; none waits for another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import in_one_job
from runs import Runner, check_error, mpirun_command, train_on

from distbp.ranks import mpi
from distbp.ranks.communicator import Communicator, run_threads
from distbp.ranks.shared_memory import all_see_first, free_shared_bytes, why_no_start
from distbp.settings.merged import merge
from distbp.training.checkpoint import read
from distbp.training.comparison import digest

HYDRA = {"MPI_LOCALNRANKS": "8", "MPI_LOCALRANKID": "0", "PMI_RANK": "16"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "6(x2),4", "SLURM_LOCALID": "0"}
ENOUGH = 9 * 2**20  # for 8 ranks


@pytest.mark.parametrize(
    ("library", "environ", "free", "words"),
    [
        ("MPICH 5.0.2", HYDRA, 2**16, "MPICH 5.0.2 takes 8.5 MiB of shared memory for 8 ranks on a node, and /dev/shm"),
        ("MPICH 5.0.2", HYDRA, 0, "has 0 bytes free"),
        ("MPICH 5.0.2", HYDRA, ENOUGH, ""),
        ("MPICH 5.0.2", {**HYDRA, "MPI_LOCALRANKID": "3"}, 2**16, ""),  # what is there was made for it
        ("MPICH 5.0.2", {**HYDRA, "MPI_LOCALNRANKS": "1"}, 0, ""),
        ("MPICH 5.0.2", {**HYDRA, "MPIR_CVAR_NOLOCAL": "1"}, 0, ""),
        ("MPICH 5.0.2", {**HYDRA, "MPIR_CVAR_NOLOCAL": "0"}, 0, "--shm-size"),
        ("MPICH 5.0.2", SRUN, 2**22, "takes 4.25 MiB of shared memory for 4 ranks"),
        ("MPICH 5.0.2", {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "many"}, 0, ""),
        ("MPICH 5.0.2", {**SRUN, "SLURM_LOCALID": "1"}, 0, ""),
        ("MPICH 5.0.2", {}, 0, ""),
        ("Open MPI 5.0.11", {"OMPI_COMM_WORLD_LOCAL_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, 0, ""),
    ],
)
def test_what_mpi_needs_to_start(library: str, environ: dict[str, str], free: int, words: str) -> None:
    why = why_no_start(library, environ, free)
    assert bool(why) == bool(words)
    assert words in why


def test_what_is_free(tmp_path: Path) -> None:
    assert free_shared_bytes(str(tmp_path)) > 0
    assert free_shared_bytes(str(tmp_path / "none")) == 0


class Node:
    """A communicator of mpi4py, as far as it is asked here."""

    def __init__(self, comm: Communicator) -> None:
        self.rank, self.bcast, self.allgather = comm.rank, comm.broadcast, comm.allgather


def test_who_sees_whom(tmp_path: Path) -> None:
    """Ranks 0 and 1 in one container, 2 in another one; where the first cannot write, nobody sees anything."""
    places = [tmp_path / "a", tmp_path / "a", tmp_path / "b"]
    for place in set(places):
        place.mkdir()

    def shares(comm: Communicator) -> bool:
        # a rank looks for the path in what it has for /dev/shm
        class Inside(Node):
            def __init__(self) -> None:
                super().__init__(comm)
                self.bcast = lambda told: (
                    None
                    if (path := comm.broadcast(told)) is None
                    else (f"{places[comm.rank]}/{Path(path[0]).name}", path[1])
                )

        return all_see_first(Inside(), str(places[comm.rank]))

    assert run_threads(3, shares) == [False] * 3
    assert run_threads(2, shares) == [True] * 2
    assert list(tmp_path.glob("*/*")) == []
    assert run_threads(2, lambda comm: all_see_first(Node(comm), str(tmp_path / "none"))) == [False, False]


def filled(comm: Communicator) -> tuple[int, str]:
    """How many share an array that each rank of it can fill, and why they do not."""
    own = comm.node_array((comm.size, 5), np.dtype(float))
    own.array[own.part * (comm.size // own.parts) :][: comm.size // own.parts] = 1.0
    own.fence()
    assert (own.array[: comm.size // own.parts * own.parts] == 1).all()
    return own.parts, own.why_not


def again(comm: Any) -> Any:
    """The same ranks, which have tried nothing out yet."""
    return comm.split(0)


@pytest.mark.parallel
def test_ranks_that_do_not_see_each_other(comm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if comm.size == 1:
        return
    ranks = again(comm)
    elsewhere = {"directory": "/none"} if comm.rank == 0 else {}
    monkeypatch.setattr(mpi, "all_see_first", lambda node: all_see_first(node, **elsewhere))
    parts, why = filled(ranks)
    assert parts == 1
    assert why.startswith("ranks of this node do not see each other in /dev/shm")
    assert ranks.node_copies(100) == comm.size


@pytest.mark.parallel
@pytest.mark.parametrize("who", [0, -1])
def test_one_rank_whose_allocation_fails(comm: Any, monkeypatch: pytest.MonkeyPatch, who: int) -> None:
    if comm.size == 1:
        return
    ranks = again(comm)

    class Window:
        @staticmethod
        def Allocate_shared(size: int, item: int, comm: Any) -> object:  # noqa: N802
            if comm.rank == who % comm.size:
                raise ranks._failure(16)
            return object()

    monkeypatch.setattr(ranks, "_window", Window)
    parts, why = filled(ranks)
    assert parts == 1
    assert f"{ranks.library} gives no memory to share: " in why
    assert ranks.node_copies(100) == comm.size


@pytest.mark.parallel
def test_all_is_well(comm: Communicator) -> None:
    before = set(Path("/dev/shm").glob("distbp-*"))
    assert filled(comm) == (comm.size, "")
    assert set(Path("/dev/shm").glob("distbp-*")) <= before


STUCK = """
import os, sys, time
from distbp.ranks import mpi
from distbp.ranks.launch import say
import numpy as np
comm = mpi.world(wait_seconds=1.0, say=say)
if comm.rank == 1:
    mpi.MPIRank._allocate = lambda *_: time.sleep(40)
comm.node_array((5,), np.dtype(float))
"""


@pytest.mark.mpi
def test_no_rank_waits_for_ever_for_one_that_allocates_nothing(runner: Runner) -> None:
    result = runner.run_fork(sys.executable, "-c", STUCK, ranks=2, limit=30)
    assert result.returncode != 0
    assert result.stderr.count("has waited 1 s for memory that the ranks of its node are to share") == 1


SMALL = """
import distbp.ranks.launch
distbp.ranks.launch.free_shared_bytes = lambda: 2**16
{more}
from distbp.__main__ import main
main()
"""


@pytest.mark.mpi
def test_too_little_to_start_mpi(runner: Runner) -> None:
    """With MPICH it is refused, once, by the rank that has found it; Open MPI goes on without."""
    elsewhere = "import os; os.environ['MPI_LOCALRANKID'] = str(1 - int(os.environ.get('PMI_RANK', 0)))"
    for more, who in (("", 0), (elsewhere, 1)):
        command = (sys.executable, "-c", SMALL.format(more=more), "train", "--epochs", "0", "--out", str(who))
        result = runner.run_fork(*command, ranks=2, limit=20)
        if "--oversubscribe" in mpirun_command():
            assert result.returncode == 0, result.stderr
        else:
            check_error(result, 1, f"rank {who} on ", "for 2 ranks on a node, and /dev/shm has 64 KiB", "--shm-size")


@pytest.mark.mpi
def test_doctor_begins_with_it(runner: Runner) -> None:
    result = runner.run_fork(sys.executable, "-c", SMALL.format(more=""), "doctor", ranks=2, limit=20)
    first, second = result.stdout.splitlines()[:2]
    if "--oversubscribe" in mpirun_command():
        assert first.startswith("ok   distbp")
    else:
        assert result.returncode == 1
        assert first.startswith("FAIL MPI            rank 0 on ")
        assert "--shm-size" in second
        assert "\nok   directory " in result.stdout


@pytest.mark.mpi
def test_an_mpi_that_shares_no_memory(runner: Runner) -> None:
    """Open MPI without its component for shared windows."""
    options = {"epochs": 2, "hidden": [4], "reproducible": True}
    words = ("--epochs", "2", "--hidden", "4", "--reproducible")
    train = ("train", *words, "--out", "a")
    without, doctor = in_one_job(runner, 2, train, ("doctor",), OMPI_MCA_osc="^sm,ucx")
    assert without.returncode == 0, without.stderr
    alone = train_on(1, merge({**options, "out": str(runner.directory / "b")}, "test"))
    best = [read(directory / "best.h5").parameters for directory in (runner.directory / "a", Path(alone.config.out))]
    assert digest(best[0]) == digest(best[1])
    assert doctor.returncode == 0, doctor.stdout
    if "--oversubscribe" in mpirun_command():
        assert without.stdout.count("gives no memory to share: MPI_ERR_") == 1
        assert "its component osc/sm" in without.stdout
        assert "warn shared memory" in doctor.stdout
