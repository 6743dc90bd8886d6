"""Real ranks on several hosts: network namespaces of this machine, which only root can make (see scripts/hosts)."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import Commands
from runs import BIN, LIMIT, OPEN_MPI, Runner, in_fork, mpirun_command, train_on, write_data

from distbp.settings.merged import merge
from distbp.training.checkpoint import read
from distbp.training.comparison import digest

HOSTS = Path(__file__).parent.parent / "scripts" / "hosts"
NETWORK = ("--hidden", "900,900", "--batch-size", "64", "--epochs", "2", "--drift-steps", "1", "--threads", "1")

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module", autouse=True)
def hosts() -> Iterator[None]:
    """h1 and h2."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc", "nsenter", "unshare"))):
        pytest.skip("making hosts needs root, iproute2 and util-linux")
    made = subprocess.run([HOSTS, "up", "2"], capture_output=True, text=True, timeout=LIMIT)
    if made.returncode:
        subprocess.run([HOSTS, "down"], capture_output=True, timeout=LIMIT)
        pytest.skip(f"no hosts can be made here: {made.stderr}")
    yield
    subprocess.run([HOSTS, "down"], check=True, timeout=LIMIT)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_data(tmp_path_factory.mktemp("hosts") / "d.h5", train=300, test=100)


def on_hosts(runner: Runner, ranks: int, *command: str) -> Any:
    """A command on so many ranks of each host."""
    where = f"h1:{ranks},h2:{ranks}"
    if "--oversubscribe" in mpirun_command():
        passed = [word for name in ("PYTHONWARNINGS", *OPEN_MPI) for word in ("-x", name)]
        options = ["--prtemca", "plm_ssh_agent", str(HOSTS), "--host", where, "--bind-to", "none", *passed]
    else:
        options = ["-launcher", "ssh", "-launcher-exec", str(HOSTS), "-hosts", where]
    return runner.run(
        str(HOSTS), "h1", shlex.join([mpirun_command()[0], *options, "-n", str(2 * ranks), *in_fork(*command)])
    )


def losses(out: Path) -> list[float]:
    with open(out / "metrics.csv") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def options_of(**more: Any) -> dict[str, Any]:
    """NETWORK, and more, as a configuration has them."""
    network = {"hidden": [900, 900], "batch_size": 64, "epochs": 2, "drift_steps": 1, "threads": 1}
    return {**network, **more}


WAYS: dict[str, tuple[int, tuple[str, ...]]] = {  # ranks of each host, and options
    "reproducible": (2, ("--reproducible", "--grain", "8")),
    "plain": (2, ()),
    "no-overlap": (1, ("--no-overlap",)),
    "float16": (2, ("--wire", "float16")),
    "bfloat16-no-overlap": (1, ("--wire", "bfloat16", "--no-overlap")),
}


@pytest.fixture(scope="module")
def alone(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process: "plain", and "reproducible"."""
    here = tmp_path_factory.mktemp("alone")
    for name, more in (("plain", {}), ("reproducible", {"reproducible": True, "grain": 8})):
        train_on(1, merge({"data": [data], "out": str(here / name), **options_of(**more)}, "test"))
    return here


@pytest.fixture(scope="module")
def apart(data: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The runs on two hosts, which all have a directory of their name; those on as many ranks in one job."""
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="distbp-", ignore_cleanup_errors=True) as scratch:
        runner = Runner(tmp_path_factory.mktemp("apart"), Path(scratch))
        for ranks in (1, 2):
            ways = {name: options for name, (count, options) in WAYS.items() if count == ranks}
            job = Commands(runner, *(("train", data, *NETWORK, *how, "--out", name) for name, how in ways.items()))
            results = job.results(on_hosts(runner, ranks, *job.command))
            said.update(zip(ways, results, strict=True))
        yield runner.directory, said
        runner.close()


def test_the_same_bits_on_hosts(alone: Path, apart: tuple[Path, dict[str, Any]]) -> None:
    said = apart[1]["reproducible"]
    assert said.returncode == 0, said.stderr
    assert "exchange  of 2 nodes, in one part" in said.stdout
    newest = max((alone / "reproducible").glob("checkpoint-*.h5"))
    assert f"digest    {digest(read(newest).parameters)}" in said.stdout


@pytest.mark.parametrize("name", [name for name in WAYS if name != "reproducible"])
def test_the_same_training_on_hosts(alone: Path, apart: tuple[Path, dict[str, Any]], name: str) -> None:
    here, said = apart
    assert said[name].returncode == 0, said[name].stderr
    how = WAYS[name][1]
    parts = "in one part" if "--no-overlap" in how else "in 2 parts from layer F down"
    wire = f", as {how[1]}" if "--wire" in how else ""
    assert f"exchange  of 2 nodes, {parts}{wire}\n" in said[name].stdout
    tolerance = 0.02 if "--wire" in how else 1e-4
    np.testing.assert_allclose(losses(here / name), losses(alone / "plain"), rtol=tolerance)


@pytest.mark.parametrize(("how", "rank"), [("bug", 1), ("SIGKILL", 0)])
def test_a_rank_that_fails_in_the_background_ends_the_job(runner: Runner, data: str, how: str, rank: int) -> None:
    fault = (sys.executable, str(Path(__file__).parent / "fault.py"), "exchange", str(rank), how)
    failed = on_hosts(runner, 1, *fault, "train", data, *NETWORK, "--epochs", "1000000", "--out", "run")
    assert failed.returncode != 0
    if how == "bug":
        assert failed.stderr.count("ZeroDivisionError: a bug, put here by a test") == 1
    command = ("train", "--resume", "--epochs", "4", "--out", "run")
    resumed = on_hosts(runner, 1, str(BIN / "distbp"), *command)
    assert resumed.returncode == 0, resumed.stderr
    assert len(losses(runner.directory / "run")) == 4
