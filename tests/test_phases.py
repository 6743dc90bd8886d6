"""Where the time goes: the columns of metrics.csv, and traces."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from runs import Runner, check_error, configuration, nodes_of, resumed, train_on

from distbp.errors import RunError, UsageError
from distbp.training import phases
from distbp.training.phases import PHASES, Phases, columns, shares_of
from distbp.training.run_directory import RunDirectory

STEP = ("data", "forward", "backward", "reduction", "update")


def test_all_time_between_two_laps_is_that_of_the_phase_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from distbp.ranks.communicator import OneProcess

    times = iter([10.0, 20.0, 21.0, 23.0, 26.0, 30.0])
    monkeypatch.setattr(phases, "perf_counter", lambda: next(times))
    clock = Phases()
    clock.start()
    for phase in ("data", "forward", "data", "update"):
        clock.lap(phase)
    taken = clock.take(OneProcess())
    assert list(taken) == columns()
    assert {phase: taken[f"{phase}_seconds"] for phase in PHASES if taken[f"{phase}_seconds"]} == {
        "data": 4.0,
        "forward": 2.0,
        "update": 4.0,
    }
    assert not any(clock.take(OneProcess()).values())


def test_shares_are_told_with_what_differs_over_the_ranks() -> None:
    history = {name: [0.0, 0.0] for name in columns()}
    for of, forward, reduction in (("", 3.0, 1.0), ("_min", 2.95, 0.2), ("_max", 3.05, 1.8)):
        history[f"forward_seconds{of}"], history[f"reduction_seconds{of}"] = [forward, forward], [reduction, reduction]
    assert shares_of(history) == "forward 75 %, reduction 25 (5 – 45) %"
    assert shares_of({}) == ""


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_columns_of_metrics(data_file: str, tmp_path: Path, ranks: int, reproducible: bool) -> None:
    config = configuration(data_file, tmp_path / "run", reproducible=reproducible, epochs=3)
    train_on(ranks, config)
    resumed(ranks, config, epochs=4)
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    shares = []
    for row in rows:
        for phase in PHASES:
            least, mean, most = (row[f"{phase}_seconds{of}"] for of in ("_min", "", "_max"))
            assert 0 <= least <= mean * 1.000001
            assert mean <= most * 1.000001
        # `seconds` are rank 0's: its phases lie between the least and the most of all ranks.
        least, most = (sum(row[f"{phase}_seconds{of}"] for phase in STEP) for of in ("_min", "_max"))
        assert least < 1.05 * row["seconds"] + 0.02
        shares.append(most / row["seconds"])
    assert max(shares) > 0.5  # an epoch takes milliseconds, and another process may have had the core for most of one
    kept = RunDirectory(config.out).newest()[0].history
    assert kept["forward_seconds"].tolist() == [row["forward_seconds"] for row in rows]


def traced(path: Path) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """The events of each thread, in order; they do not overlap."""
    events = json.loads(path.read_text())["traceEvents"]
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in events:
        if event["ph"] == "X":
            assert event["name"] in PHASES
            found.setdefault((event["pid"], event["tid"]), []).append(event)
    for one in found.values():
        for before, after in itertools.pairwise(one):
            assert before["ts"] + before["dur"] <= after["ts"] + 0.002
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names == {place: f"rank {place[1]}" for place in found}
    return found


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_trace_of_some_steps(data_file: str, tmp_path: Path, nodes: int, reproducible: bool) -> None:
    """An epoch has 4 steps: steps 3 … 6 are in two of them."""
    path = tmp_path / "t.json"
    config = configuration(
        data_file, tmp_path / "run", reproducible=reproducible, trace=str(path), trace_steps="3-6", epochs=3
    )
    train_on(3, config, nodes)
    found = traced(path)
    node_of = {rank: min(ranks) for ranks in nodes_of(3, nodes) for rank in ranks}
    assert sorted(found) == sorted((node_of[rank], rank) for rank in range(3))
    for events in found.values():
        names = [event["name"] for event in events]
        assert names.count("update") == names.count("reduction") == 4
        assert names.count("validation") == 1
        assert names[0] in ("data", "reduction")  # of a rank without a grain
        assert names[-1] == "update"


@pytest.mark.parametrize("steps", ["11-1000", "30-40"])
def test_a_trace_that_the_run_does_not_fill(data_file: str, tmp_path: Path, steps: str) -> None:
    """It ends with the run; and where the run ends before it begins, there is no file."""
    path = tmp_path / "t.json"
    train_on(2, configuration(data_file, tmp_path / "run", trace=str(path), trace_steps=steps, epochs=3))
    if steps == "30-40":
        assert not path.exists()
    else:
        assert [event["name"] for event in traced(path)[0, 1]].count("update") == 2


@pytest.mark.parametrize("steps", ["", "5", "5-", "5-4", "0-3", "a-b", "1-2-3", "1-" + "9" * 30])
def test_wrong_steps_are_refused(data_file: str, tmp_path: Path, steps: str) -> None:
    with pytest.raises(UsageError, match="trace-steps"):
        configuration(data_file, tmp_path / "run", trace_steps=steps)


def test_a_trace_that_cannot_be_written(data_file: str, tmp_path: Path, runner: Runner) -> None:
    with pytest.raises(RunError, match=r"the directory .*none does not exist"):
        train_on(2, configuration(data_file, tmp_path / "run", trace=str(tmp_path / "none" / "t.json")))
    assert list((tmp_path / "run").iterdir()) == []
    result = runner.distbp("train", data_file, "--trace", "none/t.json")
    check_error(result, 1, "--trace none/t.json")


@pytest.mark.mpi
def test_a_trace_of_real_ranks(runner: Runner, data_file: str) -> None:
    result = runner.distbp(
        "train", data_file, "--batch-size", "8", "--trace", "t.json", "--trace-steps", "2-4", ranks=2
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("time      ") == 1
    found = traced(runner.directory / "t.json")
    assert sorted(found) == [(0, 0), (0, 1)]
    for events in found.values():
        assert [event["name"] for event in events if event["name"] in STEP] == 3 * list(STEP)
