"""What a contestant of scripts/benchmark is asked to do, and how its speed is measured: the same for all of them.

A contestant is a program of its own.  Its argument is a task (JSON); rank 0 answers on stdout with a line "result: "
and JSON; lines "note: " are for the reader of the tables.  distbp is not one of these programs: there it is the command
itself that is measured.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import h5py
import numpy as np

ANSWER, NOTE = "result: ", "note: "


@dataclass(frozen=True)
class Task:
    """Train the network `layers` on the file `data`, in batches of n samples over all ranks.

    `kind` is "speed" (steps for so many `seconds`, after a warm-up), "job" (one epoch; when was the first step done?)
    or "losses" (the losses of `steps` steps on the first n samples).  The first weights are those of the checkpoint
    `weights`, if there is one.
    """

    kind: str
    data: str
    layers: tuple[int, ...]
    n: int
    ranks: int
    threads: int
    learning_rate: float
    momentum: float
    seconds: float = 0.0
    steps: int = 0
    weights: str = ""

    @property
    def is_regression(self) -> bool:
        """Mean squared error of an identity output; else softmax and cross-entropy."""
        with h5py.File(self.data) as file:
            return bool(file["train/y"].ndim == 2)

    def words(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def given() -> Task:
    """The task on the command line."""
    task = Task(**json.loads(sys.argv[1]))
    return replace(task, layers=tuple(task.layers))


def read_data(task: Task) -> tuple[Any, Any]:
    """x and y, whole."""
    with h5py.File(task.data) as file:
        return file["train/x"][()], file["train/y"][()]


def first_weights(task: Task) -> list[tuple[Any, Any]]:
    """W (n_l, n_{l-1}) and b of each layer: of the checkpoint, or random with the spread of He's rule."""
    rng = np.random.default_rng(0)
    if not task.weights:
        return [
            (rng.standard_normal((n, m), dtype=np.float32) * np.float32(math.sqrt(2 / m)), np.zeros(n, np.float32))
            for m, n in itertools.pairwise(task.layers)
        ]
    with h5py.File(task.weights) as file:
        layers = [file[f"network/layer_{l}"] for l in range(2, len(task.layers) + 1)]
        return [(layer["W"][()], layer["b"][()]) for layer in layers]


def shard(n: int, rank: int, ranks: int) -> slice:
    """The samples of a batch of n that a rank works on."""
    return slice(n * rank // ranks, n * (rank + 1) // ranks)


class Contestant(Protocol):
    """One process of a trainer."""

    rank: int
    together: int  # steps of a call: 1, or all of an epoch

    def shuffle(self) -> None:
        """A new order of the samples, the same on all ranks."""

    def step(self, number: int) -> None:
        """Forward, backward, sum over the ranks, and update: this batch of the order, and those of the same call."""

    def wait(self) -> None:
        """Until all that was begun is done."""

    def loss(self) -> float:
        """Of the last batch over all ranks, before its update."""

    def agree(self, value: int) -> int:
        """The value of rank 0."""

    def slowest(self, seconds: float) -> float:
        """The longest time of all ranks."""


def measure(
    run: Callable[[int], None],
    seconds: float,
    agree: Callable[[int], int] = int,
    slowest: Callable[[float], float] = float,
) -> tuple[int, float]:
    """(count, seconds) of `run(count)` for about so many seconds, after a warm-up of about half as long.

    The first call may compile, which takes longer than many steps: its time does not tell how many calls there may be.
    """
    run(1)
    count, is_warm = 1, 0
    while not is_warm:
        started = time.perf_counter()
        run(count)
        took = time.perf_counter() - started
        is_warm = agree(int(took >= seconds / 4))
        count *= 1 if is_warm else 2
    count = agree(max(1, math.ceil(count * seconds / took)))
    started = time.perf_counter()
    run(count)
    return count, slowest(time.perf_counter() - started)


def perform(task: Task, contestant: Contestant, samples: int) -> None:
    """Does what the task asks for, and answers."""
    steps = samples // task.n
    together = contestant.together
    match task.kind:
        case "speed":
            done = itertools.count()

            def run(count: int) -> None:
                for number in itertools.islice(done, count):
                    first = number * together % steps
                    if first == 0:
                        contestant.shuffle()
                    contestant.step(first)
                contestant.wait()

            count, seconds = measure(run, task.seconds, contestant.agree, contestant.slowest)
            result: dict[str, Any] = {"speed": count * together * task.n / seconds}
        case "job":
            contestant.shuffle()
            contestant.step(0)
            contestant.wait()
            result = {"first_step_at": time.time()}
            for number in range(together, steps, together):
                contestant.step(number)
            contestant.wait()
        case _:
            contestant.shuffle()
            losses = []
            for _ in range(task.steps):
                contestant.step(0)
                losses.append(contestant.loss())
            result = {"losses": losses}
    if contestant.rank == 0:
        answer(result)


def note(text: str) -> None:
    """A line for the reader of the tables; the same line of several processes and runs is printed once."""
    print(NOTE + text, flush=True)


def answer(result: dict[str, Any]) -> None:
    """To the one who gave the task."""
    print(ANSWER + json.dumps(result), flush=True)
