"""The scripts of slurm/, and how jobs end and go on, on a real SLURM of several nodes (see scripts/slurm)."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from cluster import LOOK_SECONDS, Slurm, mpirun, srun
from runs import BIN, LIMIT, train_on, write_data

from distbp.settings.merged import merge
from distbp.training.comparison import digest

SCRIPTS = Path(__file__).parent.parent / "slurm"
OPTIONS = ("--hidden", "6", "--reproducible", "--grain", "4", "--validation-split", "", "--checkpoint-every", "1")
ALONE = {"hidden": [6], "reproducible": True, "grain": 4, "validation_split": "", "checkpoint_every": 1}

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Slurm(tmp_path_factory.mktemp("slurm"), nodes=4) as slurm:
        write_data(slurm.directory / "d.h5", train=60)
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm) -> Iterator[Slurm]:
    yield cluster
    cluster.clear()


def digest_of_one_process(slurm: Slurm, run: str, epochs: int) -> str:
    """As a log has it, of an undisturbed run on the same data with OPTIONS."""
    out = str(slurm.directory / run)
    config = merge({**ALONE, "data": [str(slurm.directory / "d.h5")], "epochs": epochs, "out": out}, "test")
    return f"digest    {digest(train_on(1, config).state.parameters)}\n"


def submit(slurm: Slurm, script: str, *options: str, arguments: tuple[str, ...] = (), **extra: str) -> str:
    """As a user does; no more ranks than this machine can bear, which it may not be able to bind to cores."""
    words = {"PRTE_MCA_hwloc_default_binding_policy": "none", **extra}
    command = ("sbatch", "--parsable", "--ntasks-per-node=1", *options, str(SCRIPTS / script), *arguments)
    return slurm.command(*command, **words).strip()


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def wait_for_epochs(slurm: Slurm, run: str, count: int) -> None:
    end, path = time.monotonic() + LIMIT, slurm.directory / run / "metrics.csv"
    while not path.exists() or len(read(path)) < count:
        assert time.monotonic() < end, f"{run} does not come on"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def ended(cluster: Slurm) -> dict[str, str]:
    """Jobs that nobody disturbs, all at the same time, when they have ended; by name."""
    (cluster.directory / "settings.txt").write_text("--seed 1\n--seed 2 --hidden 5,4\n--seed 3 --learning-rate 0.1\n")
    mpi, two_nodes = srun().partition("=")[2], ("--nodes=2", "--ntasks-per-node=1")
    whole = ("d.h5", *OPTIONS, "--epochs", "3", "--out")
    endless = ("d.h5", *OPTIONS, "--epochs", "1000000", "--time-limit", "0.03", "--out", "stopped")
    sweep = ("settings.txt", "d.h5", "--epochs", "2", "--hidden", "6")
    of_scaling = {"EPOCHS": "3", "SECONDS_OF_BENCH": "0.5", "OUT": "scaling"}
    four_ranks = ("--nodes=2", "--ntasks-per-node=2")
    jobs = {
        "by-mpirun": submit(cluster, "train.sbatch", arguments=(*whole, "by-mpirun")),
        "by-srun": submit(cluster, "train-srun.sbatch", arguments=(*whole, "by-srun"), MPI=mpi),
        "refused": cluster.submit(f"srun {BIN / 'distbp'} train d.h5 --out refused", *two_nodes),
        "stopped": submit(cluster, "train-srun.sbatch", *four_ranks, arguments=endless, MPI=mpi),
        "sweep": submit(cluster, "sweep.sbatch", "--array=1-4", "--ntasks=1", arguments=sweep),
        "scaling": submit(cluster, "scaling.sbatch", "--nodes=2", arguments=("d.h5", "--hidden", "6"), **of_scaling),
    }
    after = (f"--dependency=afterany:{jobs['sweep']}", "--ntasks=1")
    jobs["summary"] = submit(cluster, "sweep.sbatch", *after, arguments=sweep[:1])
    for job in jobs.values():
        cluster.wait(job, "COMPLETED", "FAILED")
    return jobs


def test_train(cluster: Slurm, ended: dict[str, str]) -> None:
    """Two scripts, two launchers, two nodes: the result of one process."""
    undisturbed = digest_of_one_process(cluster, "alone", 3)
    for run in ("by-mpirun", "by-srun"):
        job = ended[run]
        cluster.wait(job, "COMPLETED")
        log = cluster.output(job)
        assert undisturbed in log
        assert "exchange  of 2 nodes" in log
        (start,) = read(cluster.directory / run / "starts.csv")
        is_open_mpi = srun() == "srun --mpi=pmix"
        launcher = srun() if run == "by-srun" else ("mpirun of Open MPI" if is_open_mpi else "mpiexec (Hydra)")
        assert (start["job"], start["launcher"], start["ranks"], start["nodes"]) == (job, launcher, "2", "2")
        said = f"SLURM job {job}, on {start['node_list']}, by {launcher}"
        assert f"job       {said}; until 20" in log
        assert said in (cluster.directory / run / "config.toml").read_text()


def test_srun_without_mpi_is_refused_once(cluster: Slurm, ended: dict[str, str]) -> None:
    cluster.wait(ended["refused"], "FAILED")
    log = cluster.output(ended["refused"])
    assert log.count("distbp: error: ") == 1
    assert f"start it with\n  {srun()} -K1 distbp train d.h5 --out refused\n" in log
    assert not (cluster.directory / "refused").exists()


def test_a_stop_has_its_exit_code(cluster: Slurm, ended: dict[str, str]) -> None:
    """Though srun -K1 kills who is there when a rank has ended with another code than 0."""
    cluster.wait(ended["stopped"], "FAILED")
    log = cluster.output(ended["stopped"])
    assert cluster.show(ended["stopped"])["ExitCode"] == "75:0", log
    assert log.count("distbp: ") == 1


def test_a_sweep(cluster: Slurm, ended: dict[str, str]) -> None:
    cluster.wait(ended["summary"], "COMPLETED")
    losses = {
        run: min(float(row["validation_loss"]) for row in read(cluster.directory / "sweep" / run / "metrics.csv"))
        for run in ("1", "2", "3")
    }
    _, *lines = cluster.output(ended["summary"]).splitlines()
    assert [line.split()[1] for line in lines] == [f"sweep/{run}" for run in sorted(losses, key=losses.__getitem__)]
    assert any(line.endswith("--hidden 5,4 --learning-rate 0.001 --seed 2") for line in lines)
    assert cluster.state(f"{ended['sweep']}_4") == "FAILED"


def test_scaling(cluster: Slurm, ended: dict[str, str]) -> None:
    cluster.wait(ended["scaling"], "COMPLETED")
    log = cluster.output(ended["scaling"])
    assert "predicted samples/s" in log
    assert (cluster.directory / "scaling" / "predicted.png").exists() == (find_spec("matplotlib") is not None)
    one, two = (line.split() for line in log.splitlines()[-2:])
    assert (one[:3], two[:3]) == (["scaling/1", "1", "1"], ["scaling/2", "2", "2"])
    assert one[-2:] == ["100", "%"]


def test_what_slurm_stops_goes_on(slurm: Slurm) -> None:
    """Preempted; its node down; requeued; and out of time, by its own clock: the job comes to the result.

    Each started by mpirun with one MPI, and by srun with the other (scripts/slurm_matrix has all with all).
    """
    jobs = {}
    for i, event in enumerate(("preempted", "broken", "requeued", "late")):
        launcher = (mpirun, srun)[(i + ("pmix" in srun())) % 2]
        run = f"{event}-{launcher.__name__}"
        (slurm.directory / f"{run}.toml").write_text("epochs = 1000000\n")
        late = ("--time-limit", f"{0.05 * LIMIT / 60}") if event == "late" else ()
        arguments = ("d.h5", "--config", f"{run}.toml", *OPTIONS, *late, "--out", run)
        options = ("--nodes=1", "--exclusive", "--ntasks-per-node=2", f"--job-name={event}")
        jobs[run] = submit(slurm, "preemptible.sbatch", *options, arguments=arguments, LAUNCHER=launcher())
    preempted, broken, requeued, late_job = jobs.values()
    for run in jobs:
        wait_for_epochs(slurm, run, 3)
    nodes = {job: slurm.show(job)["NodeList"] for job in jobs.values()}
    slurm.break_node(nodes[broken])
    slurm.scontrol("requeue", requeued)
    slurm.submit("true", "--partition=high", "--exclusive", f"--nodelist={nodes[preempted]}")
    epochs: dict[str, str] = {}
    end = time.monotonic() + LIMIT
    while len(epochs) < len(jobs):  # in some seconds each goes on
        assert time.monotonic() < end, {run: slurm.show(job) for run, job in jobs.items() if run not in epochs}
        time.sleep(LOOK_SECONDS)
        states = slurm.states()
        for run, job in jobs.items():
            if run not in epochs and states.get(job) == "PENDING":
                epochs[run] = f"{len(read(slurm.directory / run / 'metrics.csv')) + 2}"
                (slurm.directory / f"{run}.toml").write_text(f"epochs = {epochs[run]}\n")
    wholes = {run: digest_of_one_process(slurm, f"{run}-whole", int(epochs[run])) for run in jobs}
    for run, job in jobs.items():
        slurm.wait(job, "COMPLETED")
        assert wholes[run] in slurm.output(job)
        assert f"resuming {run}/checkpoint-" in slurm.output(job)
        done = [row["epoch"] for row in read(slurm.directory / run / "metrics.csv")]
        assert done == [f"{epoch}" for epoch in range(1, int(epochs[run]) + 1)]
        first, *others = read(slurm.directory / run / "starts.csv")
        assert len(others) == 1 or job == late_job  # which may need more than one more start on a slow machine
        assert {start["job"] for start in (first, *others)} == {job}
        assert (first["restarts"], others[0]["restarts"]) == ("0", "1")
        assert int(others[-1]["step"]) > 0
        assert job != broken or others[0]["node_list"] != nodes[job]
    assert "before the end of --time-limit 0." in slurm.output(late_job)


def test_a_job_that_is_cancelled_does_not_start_again(slurm: Slurm) -> None:
    arguments = ("d.h5", "--hidden", "6", "--epochs", "1000000", "--out", "cancelled")
    job = submit(slurm, "preemptible.sbatch", arguments=arguments, LAUNCHER=srun())
    wait_for_epochs(slurm, "cancelled", 3)
    slurm.command("scancel", job)
    slurm.wait(job, "CANCELLED")
    assert slurm.show(job)["Restarts"] == "0"
    assert "distbp: stopped on request" in slurm.output(job)


def test_a_killed_rank_ends_the_job(slurm: Slurm, tmp_path: Path) -> None:
    """At once, under srun -K1, though the others wait for it."""
    fault = Path(__file__).parent / "fault.py"
    text = f'#!/bin/sh\necho "by $MPIR_CVAR_CH4_NETMOD"\nexec {sys.executable} {fault} stepped 1 SIGKILL "$@"\n'
    (tmp_path / "distbp").write_text(text)
    (tmp_path / "distbp").chmod(0o755)
    words = {"MPI": srun().partition("=")[2], "PATH": f"{tmp_path}:{BIN}:/usr/bin:/bin"}
    arguments = ("d.h5", *OPTIONS, "--epochs", "15", "--out", "killed")
    job = submit(slurm, "train-srun.sbatch", arguments=arguments, **words)
    slurm.wait(job, "FAILED", limit=30)
    # Addresses of UCX may be longer than what SLURM takes from MPICH by way of PMI2.
    assert f"by {'ofi' if words['MPI'] == 'pmi2' else ''}\n" in slurm.output(job)
    job = submit(slurm, "train-srun.sbatch", arguments=arguments, MPI=words["MPI"])
    slurm.wait(job, "COMPLETED")
