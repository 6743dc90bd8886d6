"""The loss and the metric of a network on a split, from Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distbp.model.model import Model
from distbp.model.read_model import read_model
from distbp.prediction.finite_scores import finite_scores
from distbp.prediction.memory_plan import evaluation_terms
from distbp.prediction.trained import Columns, Use, load
from distbp.ranks.communicator import agree, from_first
from distbp.runs.given_data import paths_of, samples_of
from distbp.runs.train import scope_of
from distbp.training.state import Checkpoint


@dataclass(frozen=True)
class Scores:
    """What `distbp.evaluate` has found, over `samples` samples of which each counts once.

    `loss` is L_T = (1/n) Σ L_i.  `metrics` has the accuracy of a classifier, or the root mean squared error (rmse) in
    the units of the targets, by its name.

    >>> import distbp
    >>> scores = distbp.evaluate("run", "digits.h5")
    >>> scores.samples, list(scores.to_dict())
    (360, ['loss', 'accuracy', 'samples'])
    """

    loss: float
    metrics: dict[str, float]
    samples: int

    def to_dict(self) -> dict[str, float]:
        """The loss, the metrics and the number of samples, by name.

        >>> import distbp
        >>> distbp.evaluate("run", "digits.h5").to_dict()["accuracy"] > 0.9
        True
        """
        return {"loss": self.loss, **self.metrics, "samples": self.samples}


def scores_of(model: str | Model, data: Any, split: str, comm: Any, how: dict[str, Any]) -> Scores:
    """See `distbp.evaluate`; `how` has its arguments x, y, memory and trust_links."""
    with scope_of(comm) as ranks:
        state = model.state if isinstance(model, Model) else from_first(ranks, lambda: _state(str(model)))
        paths = [] if data is None else paths_of(data)
        given = agree(ranks, lambda: samples_of(data, "data") if paths is None else paths)
        use = Use(given, split, True, Columns(how["x"], how["y"]), evaluation_terms, how["trust_links"], how["memory"])
        used = load(ranks, state, use)
        found = finite_scores(ranks, used)
        return Scores(found.loss, found.metrics, found.samples)


def _state(path: str) -> Checkpoint:
    return read_model(path).state
