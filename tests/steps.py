"""Training without what is around it: the problem, the batches, an engine, and the sums of each epoch.

There are no files, no look at the machine and no listeners, so that it takes a few milliseconds.  `Loop` does the same
for a run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from runs import nodes_of, samples, split_of

from distbp.data.loading import choose_loader
from distbp.data.problem import Problem, pose
from distbp.data.split import Split
from distbp.engine.choice import choose_engine, make_engine
from distbp.engine.epoch_sums import EpochSums
from distbp.engine.sums import Requests
from distbp.engine.work import Work
from distbp.mathematics.batches import batch_samples, batch_sizes, steps_per_epoch
from distbp.mathematics.grains import default_grain
from distbp.mathematics.network import initialize
from distbp.ranks.communicator import Communicator, run_threads
from distbp.settings.config import Config
from distbp.settings.option import AUTO
from distbp.training.rates import schedule_of


@dataclass(frozen=True)
class Ended:
    """How it ends, on one rank."""

    problem: Problem
    w: np.ndarray
    vectors: dict[str, np.ndarray]
    history: dict[str, list[float]]  # "train_loss" and the like: one number an epoch
    samples: int
    nodes: int

    @property
    def bits(self) -> Any:
        """All that is computed, for comparisons to the last bit."""
        scaling = [part for of in (self.problem.input, self.problem.target) for part in (of.shift, of.spread)]
        arrays = [self.w, *(self.vectors[name] for name in sorted(self.vectors)), *scaling]
        return [array.tobytes() for array in arrays], self.history


def split(kind: str, x: np.ndarray, y: np.ndarray) -> Split:
    """One that is in no file; the kinds are those of `samples`."""
    if kind == "targets":
        return split_of(x, y)
    return replace(split_of(x, y, tuple(range({"classes": 3, "binary": 2}[kind]))), classes=y)


def steps_on(
    ranks: int, config: Config, nodes: int = 1, *, kind: str = "classes", before: Ended | None = None, **words: Any
) -> Ended:
    """Makes the steps of config.epochs, on threads that stand in for ranks; all of them end with the same parameters.

    `before`: what it goes on from, after as many epochs as its history has.  `words`: those of `samples`.
    """
    splits = {name: split(kind, x, y) for name, (x, y) in samples(kind=kind, **words).items()}
    ended = run_threads(ranks, lambda comm: _on_rank(comm, config, splits, before), nodes_of(ranks, nodes))
    assert len({(one.w.tobytes(), str(one.history)) for one in ended}) == 1
    assert ended[0].nodes == min(ranks, nodes)
    return ended[0]


def _on_rank(comm: Communicator, config: Config, splits: dict[str, Split], before: Ended | None) -> Ended:
    training, n = splits["train"], batch_samples(config.batch_size, len(splits["train"]))
    config, problem = pose(comm, config, training)
    if config.reproducible and config.grain == AUTO:
        config = replace(config, grain=default_grain(n))
    loader = choose_loader(comm, config, training, n, np.inf).loader(comm, training)
    is_compiled = choose_engine(comm, config, problem, training).is_compiled
    engine = make_engine(Work(comm, config, problem, training, batch_sizes(len(training), n), is_compiled=is_compiled))
    evaluation, steps = engine.evaluation(splits["test"]), steps_per_epoch(len(training), n)
    rate, history, count = schedule_of(config, steps), dict[str, list[float]](), 0

    def begin() -> None:
        if before is None:
            initialize(engine.parameters, problem.network, config.seed, config.initialization)
            return
        engine.w[:] = before.w
        for name, vector in engine.vectors.items():
            vector[:] = before.vectors[name]

    engine.fill(begin)
    try:
        for epoch in range(len(before.history["train_loss"]) if before else 0, config.epochs):
            sums = EpochSums(comm, [0.0] * len(problem.sums))
            for i, batch in enumerate(loader.batches(epoch, 0)):
                done = epoch * steps + i
                step = engine.step([batch], [rate(done)], done, lambda step: Requests())
                assert not step.last.wrong
                sums.add(step)
                count += step.last.samples
            total, scores = sums.total(), evaluation(engine.parameters)
            row = {f"train_{name}": value for name, value in problem.scores(total.values, total.samples).items()}
            row |= {"validation_loss": scores.loss, **{f"validation_{name}": a for name, a in scores.metrics.items()}}
            for name, value in row.items():
                history.setdefault(name, []).append(value)
        vectors = {name: vector.copy() for name, vector in engine.vectors.items()}
        return Ended(problem, engine.w.copy(), vectors, history, count, len(engine.nodes))
    finally:
        engine.close()
        loader.close()
