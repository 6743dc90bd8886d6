"""scripts/foreign_files: its runner takes families through all commands, and its checks find what is wrong.

The families here need no library but h5py; all of them are for the script, which makes an environment for them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, mpirun_command

FOREIGN = Path(__file__).parent.parent / "scripts" / "foreign"


@pytest.mark.one_mpi
def test_families_without_libraries(runner: Runner) -> None:
    mpirun_command()  # skips where there is none
    result = runner.run(sys.executable, str(FOREIGN / "runner.py"), "--only", "usps,wine")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [[cell.strip() for cell in line.split("|")] for line in result.stdout.splitlines() if "| ok |" in line]
    assert [row[1] for row in rows] == ["usps", "wine"]
    assert all(row[4] == "0" for row in rows)
    assert "300 x 3 values equal, 3 names" in rows[1][6]
    assert result.stdout.endswith("2 ok, 0 FAILED, 0 skipped\n")


def test_a_family_that_is_not_there(runner: Runner) -> None:
    result = runner.run(sys.executable, str(FOREIGN / "runner.py"), "--only", "usps,no-such")
    assert result.returncode == 2
    assert "no family no-such" in result.stderr


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("", ""),
        ("turned", "values differ"),
        ("value", "1 of 12 values differ; the first is in row 3, column 1: 9, expected 7"),
        ("label", "row 5 is 'a', expected 'b'"),
        ("name", "called"),
        ("split", "3 rows are for testing, expected 2"),
    ],
)
def test_what_a_data_set_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    monkeypatch.syspath_prepend(str(FOREIGN))
    judgement, family = import_module("judgement"), import_module("family")
    x, y = np.arange(12.0).reshape(6, 2), np.array(["a", "b"] * 3)
    truth = family.Truth(x.copy(), y.copy(), np.arange(6) >= 4, names=("p", "q"))
    if fault == "turned":
        x = x[:, ::-1]
    elif fault == "value":
        x[3, 1] = 9
    elif fault == "label":
        y[5] = "a"
    cut = 3 if fault == "split" else 4
    write(tmp_path / "d.h5", x, y, cut, ["p", "x"] if fault == "name" else ["p", "q"])
    if fault:
        with pytest.raises(judgement.Wrong, match=words):
            judgement.check_data_set(tmp_path / "d.h5", truth)
    else:
        assert judgement.check_data_set(tmp_path / "d.h5", truth) == "6 x 2 values equal, 2 names"


def write(path: Path, x: Any, y: Any, cut: int, columns: list[str]) -> None:
    with h5py.File(path, "w") as file:
        for name, rows in (("train", slice(0, cut)), ("test", slice(cut, None))):
            file[f"{name}/x"], file[f"{name}/y"] = x[rows], y[rows].astype("S1")
            file[f"{name}/x"].attrs["columns"] = np.array(columns, "S1")
