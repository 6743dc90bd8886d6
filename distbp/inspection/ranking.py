"""Several runs beside each other: which has the lowest validation loss, or how fast they were on how many ranks."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from distbp.bench.table import aligned
from distbp.errors import RunError
from distbp.files.patience import is_there, read_patiently, why_no_text
from distbp.settings.config import flag
from distbp.settings.files import read_toml
from distbp.training import starts

MANNER = (
    "out",
    "stage_to",
    "stop_signals",
    "grace",
    "time_limit",
    "stall_minutes",
    "trace",
    "trace_steps",
    "keep",
    "epochs",
)


@dataclass(frozen=True)
class _Run:
    name: str
    config: dict[str, Any]
    rows: list[dict[str, float]]  # of metrics.csv
    nodes: int  # of the last start after which an epoch was done
    ranks: int
    since: int  # the steps that were done then

    def values(self, column: str) -> list[float]:
        """Of each epoch; nan where there is none."""
        return [row.get(column, math.nan) for row in self.rows]

    def settings(self, names: Sequence[str]) -> str:
        """As on a command line."""
        return " ".join(f"{flag(name)} {_written(self.config.get(name))}" for name in names)

    @property
    def loss(self) -> tuple[float, int]:
        """The lowest validation loss, or without validation training loss; and its epoch."""
        losses = self.values("validation_loss")
        if all(map(math.isnan, losses)):
            losses = self.values("train_loss")
        return min(
            ((loss, epoch) for epoch, loss in enumerate(losses, 1) if not math.isnan(loss)), default=(math.inf, 0)
        )

    @property
    def rates(self) -> list[float]:
        """Samples/s of each epoch on these ranks, without the first one, which has to warm up, where there are more."""
        last = [row for row in self.rows if row.get("step", 0) > self.since]
        rates = [row.get("samples_per_second", math.nan) for row in last]
        return [rate for rate in rates[len(rates) > 1 :] if not math.isnan(rate)] or [math.nan]


def rank(names: Sequence[str], by: str) -> Iterator[str]:
    """A line for each of these run directories, by "loss" or by "speed"; those without an epoch come last.

    Raises RunError where none of them holds a run, or one of them nothing that can be read.
    """
    found = {name: _read(Path(os.path.normpath(name))) for name in names}
    runs = [run for run in found.values() if run]
    if not runs:
        raise RunError(f"{names[0]}: no run to be found here; expected directories that distbp train --out has made")
    yield from (_by_loss if by == "loss" else _by_speed)([run for run in runs if run.rows])
    for run in runs:
        if not run.rows:
            yield f"{run.name}: no epoch is done"
    for name, one in found.items():
        if one is None:
            yield f"{name}: no run to be found here"


def _by_loss(runs: list[_Run]) -> Iterator[str]:
    metric = next((name.partition("_")[2] for run in runs for name in run.rows[0] if _is_metric(name)), "metric")
    cells = [("", "run", "validation loss", metric, "of epoch", "done", "differs in")]
    shown = _differing(runs)
    for place, run in enumerate(sorted(runs, key=lambda run: run.loss), 1):
        loss, epoch = run.loss
        validated = epoch and not math.isnan(run.values("validation_loss")[epoch - 1])
        value = run.values(f"validation_{metric}")[epoch - 1] if validated else math.nan
        settings = run.settings(shown)
        cells.append(
            (
                f"{place}",
                run.name,
                f"{loss:.6g}" + ("" if validated else " (training)"),
                "" if math.isnan(value) else f"{value:.6g}",
                f"{epoch}",
                f"{len(run.rows)}/{run.config.get('epochs', '?')}",
                settings,
            )
        )
    yield from aligned(cells)


def _by_speed(runs: list[_Run]) -> Iterator[str]:
    runs = sorted(runs, key=lambda run: (run.ranks, -median(run.rates)))
    cells = [("run", "nodes", "ranks", "samples/s", "(lowest – highest)", "efficiency", "differs in")]
    shown = _differing(runs)
    for run in runs:
        rate = median(run.rates)
        efficiency = rate / run.ranks / (median(runs[0].rates) / runs[0].ranks)
        spread = f"({min(run.rates):,.0f} – {max(run.rates):,.0f})"
        settings = run.settings(shown)
        cells.append(
            (run.name, f"{run.nodes}", f"{run.ranks}", f"{rate:,.0f}", spread, f"{100 * efficiency:.0f} %", settings)
        )
    yield from aligned(cells)


def _is_metric(column: str) -> bool:
    return column.startswith("validation_") and column != "validation_loss" and "seconds" not in column


def _differing(runs: list[_Run]) -> list[str]:
    """The options in which the runs are not all alike, but for those that change nothing in the result."""
    names = dict.fromkeys(name for run in runs for name in run.config if name not in MANNER)
    return [name for name in names if any(run.config.get(name) != runs[0].config.get(name) for run in runs)]


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _read(path: Path) -> _Run | None:
    """Of what rank 0 has written for people; a run may be under way."""
    try:
        if not is_there(path / "metrics.csv") or not is_there(path / "config.toml"):
            is_begun = any(is_there(path / name) for name in ("starts.csv", "run.lock"))
            return _Run(str(path), {}, [], 1, 1, 0) if is_begun else None
        lines = read_patiently(path / "metrics.csv", "utf-8").splitlines()
        log = read_patiently(path / "starts.csv", "utf-8").splitlines() if is_there(path / "starts.csv") else []
        rows = [
            {name: float(cell) if cell else math.nan for name, cell in row.items()} for row in csv.DictReader(lines)
        ]
        nodes = ranks = since = 0
        for start in starts.parse(log):
            if any(row["step"] > int(start["step"]) for row in rows):
                nodes, ranks, since = int(start["nodes"]), int(start["ranks"]), int(start["step"])
        return _Run(str(path), read_toml(path / "config.toml"), rows, max(1, nodes), max(1, ranks), since)
    except OSError as error:
        raise RunError(f"{error.filename or path}: cannot be read: {why_no_text(error)}") from None
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        raise RunError(f"{path}: metrics.csv or starts.csv cannot be read: {error}") from None
