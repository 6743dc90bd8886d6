"""Real ranks on several hosts: network namespaces of this machine, which only root can make (see scripts/hosts)."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import BIN, LIMIT, OPEN_MPI, Runner, mpirun_command, write_data

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
    return runner.run(str(HOSTS), "h1", shlex.join([mpirun_command()[0], *options, "-n", str(2 * ranks), *command]))


def train(runner: Runner, ranks: int, *arguments: str) -> Any:
    return on_hosts(runner, ranks, str(BIN / "distbp"), "train", *arguments)


def losses(out: Path) -> list[float]:
    with open(out / "metrics.csv") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def test_the_same_bits_on_hosts(runner: Runner, data: str) -> None:
    options = ("--reproducible", "--grain", "8", *NETWORK)
    alone = runner.distbp("train", data, *options, "--out", "alone")
    apart = train(runner, 2, data, *options, "--out", "apart")
    assert apart.returncode == 0, apart.stderr
    assert "exchange  of 2 nodes, in one part" in apart.stdout
    digest = next(line for line in alone.stdout.splitlines() if line.startswith("digest"))
    assert digest in apart.stdout


@pytest.mark.parametrize(
    ("ranks", "how"),
    [
        (2, ()),
        (1, ("--no-overlap",)),
        (2, ("--wire", "float16")),
        (1, ("--wire", "bfloat16", "--no-overlap")),
    ],
)
def test_the_same_training_on_hosts(runner: Runner, data: str, ranks: int, how: tuple[str, ...]) -> None:
    alone = runner.distbp("train", data, *NETWORK, "--out", "alone")
    assert alone.returncode == 0, alone.stderr
    apart = train(runner, ranks, data, *NETWORK, *how, "--out", "apart")
    assert apart.returncode == 0, apart.stderr
    parts = "in one part" if "--no-overlap" in how else "in 2 parts from layer F down"
    wire = f", as {how[1]}" if "--wire" in how else ""
    assert f"exchange  of 2 nodes, {parts}{wire}\n" in apart.stdout
    tolerance = 0.02 if "--wire" in how else 1e-4
    np.testing.assert_allclose(losses(runner.directory / "apart"), losses(runner.directory / "alone"), rtol=tolerance)


@pytest.mark.parametrize(("how", "rank"), [("bug", 1), ("SIGKILL", 0)])
def test_a_rank_that_fails_in_the_background_ends_the_job(runner: Runner, data: str, how: str, rank: int) -> None:
    fault = (sys.executable, str(Path(__file__).parent / "fault.py"), "exchange", str(rank), how)
    failed = on_hosts(runner, 1, *fault, "train", data, *NETWORK, "--epochs", "1000000", "--out", "run")
    assert failed.returncode != 0
    if how == "bug":
        assert failed.stderr.count("ZeroDivisionError: a bug, put here by a test") == 1
    resumed = train(runner, 1, "--resume", "--epochs", "4", "--out", "run")
    assert resumed.returncode == 0, resumed.stderr
    assert len(losses(runner.directory / "run")) == 4
