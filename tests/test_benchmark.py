"""scripts/benchmark runs, says what it must, and leaves nothing behind.  Its figures are not looked at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from runs import Runner, mpirun_command

BENCHMARK = Path(__file__).parent.parent / "scripts" / "benchmark"


@pytest.mark.one_mpi
def test_a_round_of_the_smallest_network(runner: Runner) -> None:
    mpirun_command()  # skips where there is none
    some = "distbp-ranks,distbp-reproducible,numpy-loop,limit"  # those that start at once
    options = f"--networks S --rounds 1 --seconds 0.2 --tables speed,ratios --contestants {some} --out out.md"
    process = runner.start(sys.executable, str(BENCHMARK), *options.split())
    result = runner.finish(process, 60)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "| samples/s | S 784-30-10, n = 32 |"
    rows = {cells[1].strip(): cells[2].strip() for cells in (line.split("|") for line in lines) if len(cells) == 4}
    for row in (
        "distbp, 2 ranks x 1 thread",
        "distbp --reproducible, 2 ranks x 1 thread",
        "NumPy + mpi4py loop, 2 ranks x 1 thread",
        "the limit: matrix products alone, 2 ranks x 1 thread",
    ):
        assert float(rows[row].replace(",", "")) > 0, row
    assert float(rows["plain, 2 ranks, share of the limit of 2 cores"]) > 0
    assert (runner.directory / "out.md").read_text(encoding="utf-8") == result.stdout
    assert list(runner.scratch.iterdir()) == []


@pytest.mark.one_mpi
def test_all_compute_the_same(runner: Runner) -> None:
    """Other programs, from the same weights, come to the losses that distbp has."""
    mpirun_command()
    options = "--check --networks S --contestants distbp-ranks,sklearn,numpy-loop"
    result = runner.finish(runner.start(sys.executable, str(BENCHMARK), *options.split()), 60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("| yes |") == 3
    assert list(runner.scratch.iterdir()) == []
