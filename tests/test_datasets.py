"""The data sets are what their scripts make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from distbp.data.split import digits_path

DATASETS = Path(__file__).parent.parent / "datasets"


@pytest.mark.heavy
@pytest.mark.slow
def test_digits_is_what_the_script_makes(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    made = tmp_path / "digits.h5"
    subprocess.run([sys.executable, DATASETS / "make_digits.py", made], check=True, timeout=60)
    with h5py.File(made) as new, h5py.File(digits_path()) as old:
        for name in ("train/x", "train/y", "test/x", "test/y"):
            np.testing.assert_array_equal(new[name][()], old[name][()])
        assert len(old["train/x"]) + len(old["test/x"]) == 1797
        assert "CC BY 4.0" in "".join(str(value) for value in old.attrs.values())


@pytest.mark.slow
def test_the_oscillator_obeys_its_equation(tmp_path: Path) -> None:
    made = tmp_path / "oscillator.h5"
    subprocess.run([sys.executable, DATASETS / "make_oscillator.py", made, "--samples", "50"], check=True, timeout=60)
    with h5py.File(made) as file:
        x = np.concatenate([file["train/x"][()], file["test/x"][()]]).astype(np.float64)
        y = np.concatenate([file["train/y"][()], file["test/y"][()]])
    assert len(x) == 50
    for (mass, damping, stiffness, time), (position, velocity) in zip(x, y, strict=True):
        u, v, steps = 1.0, 0.0, 20000
        h = time / steps
        for _ in range(steps):  # the midpoint rule
            um, vm = u + h / 2 * v, v - h / 2 * (damping * v + stiffness * u) / mass
            u, v = u + h * vm, v - h * (damping * vm + stiffness * um) / mass
        assert (position, velocity) == (pytest.approx(u, abs=2e-5), pytest.approx(v, abs=2e-5))


def test_the_oscillator_as_a_table_has_the_same_numbers(tmp_path: Path) -> None:
    for name in ("oscillator.h5", "oscillator.csv"):
        script = DATASETS / "make_oscillator.py"
        subprocess.run([sys.executable, script, tmp_path / name, "--samples", "50"], check=True, timeout=60)
    with h5py.File(tmp_path / "oscillator.h5") as file:
        whole = np.vstack([np.hstack([file[split]["x"], file[split]["y"]]) for split in ("train", "test")])
    with open(tmp_path / "oscillator.csv") as table:
        assert next(table) == "mass,damping,stiffness,time,position,velocity\n"
        np.testing.assert_allclose(np.loadtxt(table, delimiter=","), whole, rtol=1e-6)
