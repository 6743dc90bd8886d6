"""Digests and distances in ulps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runs import Runner, check_error, configuration, train_on

from distbp.training.comparison import differences, digest, ulps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ulps_count_the_numbers_between(dtype: type) -> None:
    a = np.array([1.0, -1.0, 0.0, 1e-40, 3.0, -2.5], dtype)
    b = a.copy()
    assert ulps(a, b).tolist() == [0] * 6
    for _ in range(3):
        b = np.nextafter(b, dtype(np.inf))
    assert ulps(a, b).tolist() == ulps(b, a).tolist() == [3] * 6
    tiny = np.nextafter(dtype(0), dtype(1))
    assert ulps(np.array([-tiny]), np.array([tiny])).tolist() == [2]
    assert ulps(np.array([dtype(0.0)]), np.array([dtype(-0.0)])).tolist() == [0]


def test_ulps_of_the_farthest_numbers() -> None:
    largest = np.array([np.finfo(np.float64).max])
    assert int(ulps(largest, -largest)[0]) == 2 * int(largest.view(np.int64)[0])


def test_one_changed_bit_is_another_digest_and_is_found(data_file: str, tmp_path: Path) -> None:
    a, b = (train_on(1, configuration(data_file, tmp_path / name)).state for name in "ab")
    assert list(differences(a, b)) == []
    before = digest(a.parameters)
    assert digest(b.parameters) == before
    b.parameters.W[3][1, 2] = np.nextafter(b.parameters.W[3][1, 2], 9.0)
    assert digest(b.parameters) != before
    (line,) = differences(a, b)
    assert line.startswith("layer 3 W: 1 of 18 values differ, by up to 1 ulps, at [1, 2]")


def test_the_sign_of_zero_is_a_difference(data_file: str, tmp_path: Path) -> None:
    a, b = (train_on(1, configuration(data_file, tmp_path / name, epochs=0)).state for name in "ab")
    b.parameters.b[2][1] = -0.0
    assert list(differences(a, b)) == ["layer 2 b: values that are zero differ in its sign"]
    assert digest(a.parameters) != digest(b.parameters)


def test_differences_name_what_is_not_the_same(data_file: str, tmp_path: Path) -> None:
    a = train_on(1, configuration(data_file, tmp_path / "a", epochs=1)).state
    b = train_on(1, configuration(data_file, tmp_path / "b", epochs=2, optimizer="sgd", scale="minmax")).state
    lines = "\n".join(differences(a, b))
    for words in ("layer 2 W:", "optimizer m: only in one", "input spread", "epoch: 1 and 2", "--optimizer: 'adam'"):
        assert words in lines
    assert "--epochs" not in lines  # may change in a run
    other = train_on(1, configuration(data_file, tmp_path / "c", hidden=[3])).state
    assert "4-6-3 float64 and 4-3-3 float64" in next(differences(a, other))


def test_inspect_digest_and_diff(runner: Runner, data_file: str) -> None:
    small = ("--hidden", "6", "--epochs", "1", "--batch-size", "7")
    for name, more in (("a", ()), ("b", ()), ("c", ("--seed", "1"))):
        assert runner.distbp("train", data_file, *small, "--out", name, *more).returncode == 0
    lines = runner.distbp("inspect", "--digest", "a", "b", "c/best.h5").stdout.splitlines()
    (a, b, c), files = zip(*(line.split("  ") for line in lines), strict=True)
    assert a == b != c
    assert files == ("a/best.h5", "b/best.h5", "c/best.h5")
    assert f"digest     {a}" in runner.distbp("inspect", "a").stdout
    same = runner.distbp("inspect", "--diff", "a", "b")
    assert (same.returncode, same.stdout) == (0, "a and b hold the same\n")
    differ = runner.distbp("inspect", "--diff", "a", "c")
    assert differ.returncode == 1
    assert "layer 2 W: 24 of 24 values differ" in differ.stdout
    check_error(runner.distbp("inspect", "--diff", "a"), 2, "expected two checkpoints, got 1")
    check_error(runner.distbp("inspect", "--diff", "--digest", "a", "b"), 2, "expected one of them")
    check_error(runner.distbp("inspect", "--digest", data_file), 1, "not a distbp checkpoint")
