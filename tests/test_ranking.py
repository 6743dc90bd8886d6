"""`distbp inspect --rank`: runs beside each other."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from runs import Runner, check_error, configuration, resumed, train_on, write_data

from distbp.errors import RunError
from distbp.inspection.ranking import rank


def losses(run: Path) -> list[float]:
    with open(run / "metrics.csv") as file:
        return [float(row["validation_loss"]) for row in csv.DictReader(file)]


def test_by_loss(tmp_path: Path) -> None:
    data, best = write_data(tmp_path / "d.h5"), {}
    for i in range(4):
        train_on(1, configuration(data, tmp_path / f"{i}", seed=i, hidden=[3, 2] if i == 2 else [6]))
        best[f"{tmp_path / str(i)}"] = min(losses(tmp_path / f"{i}"))
    train_on(1, configuration(data, tmp_path / "begun", epochs=0))
    head, *lines, last = rank([*(f"{name}/" for name in best), str(tmp_path / "begun")], "loss")
    assert head.split() == ["run", "validation", "loss", "accuracy", "of", "epoch", "done", "differs", "in"]
    cells = [line.split() for line in lines]
    assert [(row[0], row[1]) for row in cells] == [
        (f"{place}", name) for place, name in enumerate(sorted(best, key=best.__getitem__), 1)
    ]
    for row in cells:
        assert float(row[2]) == pytest.approx(best[row[1]], rel=1e-5)
        assert losses(Path(row[1]))[int(row[4]) - 1] == best[row[1]]
        assert row[5] == "3/3"
        assert row[6:] == ["--hidden", "3,2" if row[1][-1] == "2" else "6", "--seed", row[1][-1]]
    assert last == f"{tmp_path / 'begun'}: no epoch is done"


def test_by_speed(tmp_path: Path) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "2")
    train_on(2, config, nodes=2)
    train_on(1, replace(config, out=str(tmp_path / "1")))
    for name, rates in (("1", (5, 100, 300)), ("2", (5, 300, 100))):
        path = tmp_path / name / "metrics.csv"
        rows = list(csv.DictReader(path.read_text().splitlines()))
        for row, rate in zip(rows, rates, strict=True):
            row["samples_per_second"] = f"{rate * int(name) ** 2}"
        path.write_text("\n".join(",".join(line) for line in (rows[0], *(row.values() for row in rows))))
    lines = list(rank([str(tmp_path / "2"), str(tmp_path / "1")], "speed"))
    assert [line.split() for line in lines] == [
        ["run", "nodes", "ranks", "samples/s", "(lowest", "–", "highest)", "efficiency"],
        [str(tmp_path / "1"), *["1", "1", "200", "(100", "–", "300)", "100", "%"]],
        [str(tmp_path / "2"), *["2", "2", "800", "(400", "–", "1,200)", "200", "%"]],
    ]


def test_the_speed_is_that_of_the_last_ranks_that_came_on(tmp_path: Path) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", epochs=4)
    train_on(1, config)
    resumed(3, config, epochs=6)
    resumed(2, config, epochs=6)  # nothing to do
    path = tmp_path / "run" / "metrics.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for row, rate in zip(rows, (1, 2, 3, 4, 5, 60), strict=True):
        row["samples_per_second"] = f"{rate}"
    path.write_text("\n".join(",".join(line) for line in (rows[0], *(row.values() for row in rows))))
    assert list(rank([config.out], "speed"))[1].split()[1:4] == ["1", "3", "60"]


def test_without_validation_and_under_way(tmp_path: Path) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", validation_split="")
    run = train_on(1, config)
    line = list(rank([config.out], "loss"))[1].split()
    assert line[2:4] == [f"{min(run.state.history['train_loss']):.6g}", "(training)"]
    starting = tmp_path / "starting"
    starting.mkdir()
    (starting / "run.lock").touch()
    assert f"{starting}: no epoch is done" in list(rank([config.out, str(starting)], "loss"))


def test_what_cannot_be_ranked(tmp_path: Path, runner: Runner) -> None:
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run")
    train_on(1, config)
    check_error(runner.distbp("inspect", "--rank", "loss", "d.h5"), 1, "d.h5: no run to be found here")
    done = runner.distbp("inspect", "--rank", "loss", "run", "d.h5")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "d.h5: no run to be found here")
    check_error(runner.distbp("inspect", "--rank", "loss", "--digest", "run"), 2, "expected one of them")
    for damage in (b"\xff", b"epoch,train_loss\n1,x\n", b"epoch,train_loss\n1,2,3\n", b"\0"):
        (tmp_path / "run" / "metrics.csv").write_bytes(damage)
        for by in ("loss", "speed"):
            if damage != b"\0":
                with pytest.raises(RunError, match=r"run: metrics\.csv or starts\.csv cannot be read"):
                    list(rank([config.out], by))
            else:
                list(rank([config.out], by))
