"""Real jobs of SLURM on several nodes: hosts of this machine, which only root can make (see scripts/slurm)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cluster import Slurm, mpirun, srun
from runs import BIN, write_data

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm) -> Iterator[Slurm]:
    yield cluster
    cluster.clear()


def train(slurm: Slurm, launcher: str) -> str:
    """A job of one rank on each of two nodes."""
    data = write_data(slurm.directory / "d.h5")
    command = f"{launcher} {BIN / 'distbp'} train {data} --hidden 6 --epochs 2 --threads 1 --out run-$SLURM_JOB_ID"
    return slurm.submit(command, "--nodes=2", "--ntasks-per-node=1")


@pytest.mark.parametrize("launcher", [mpirun, srun])
def test_training_on_two_nodes(slurm: Slurm, launcher: Callable[[], str]) -> None:
    job = train(slurm, launcher())
    slurm.wait(job, "COMPLETED")
    assert "exchange  of 2 nodes" in slurm.output(job)


def test_srun_without_mpi_is_refused_once(slurm: Slurm) -> None:
    job = train(slurm, "srun")
    slurm.wait(job, "FAILED")
    assert slurm.output(job).count("distbp: error: ") == 1
    assert "srun has to start them for that MPI: srun --mpi=pmix (Open MPI) or srun --mpi=pmi2" in slurm.output(job)


def test_jobs_run_again(slurm: Slurm) -> None:
    """When asked to (scontrol requeue), after a node that went down, and preempted by a job of a higher partition."""
    script = '[ "$SLURM_RESTART_COUNT" ] || exec sleep 600; echo "restart $SLURM_RESTART_COUNT"'
    jobs = asked, broken, preempted = [slurm.submit(script, "--exclusive") for _ in range(3)]
    for job in jobs:
        slurm.wait(job, "RUNNING")
    node = {job: slurm.show(job)["NodeList"] for job in jobs}
    slurm.scontrol("requeue", asked)
    slurm.break_node(node[broken])
    higher = slurm.submit("true", "--partition=high", "--exclusive", f"--nodelist={node[preempted]}")
    slurm.wait(higher, "COMPLETED")
    for job in jobs:
        slurm.wait(job, "COMPLETED")
        assert slurm.output(job) == "restart 1\n"
    assert slurm.show(broken)["NodeList"] != node[broken]
