"""The loss and the metric of a trained network on a split, which are refused where they are no numbers."""

from __future__ import annotations

import math
from contextlib import closing

from distbp.engine.choice import evaluation_work, make_evaluation
from distbp.engine.evaluate import Scores
from distbp.errors import DataError
from distbp.prediction.trained import Trained
from distbp.ranks.communicator import Communicator
from distbp.ranks.stop import Pulse


def finite_scores(comm: Communicator, used: Trained, pulse: Pulse = lambda phase: None) -> Scores:
    """L_T and the metric over all samples of the split, the same on all ranks.

    Raises DataError, agreed, that names the row where the loss is not finite; or what `pulse` raises.
    """
    state, parameters = used.state, used.state.parameters
    work = evaluation_work(comm, state.config, state.problem, used.data, used.threads)
    evaluation = make_evaluation(work, parameters)
    with closing(evaluation):
        scores = evaluation(parameters, pulse)
    if not math.isfinite(scores.loss):
        why = evaluation.why_not_finite(parameters, pulse)
        refused = DataError(f"the loss of {used.data.name} is {scores.loss}: {why}; remove or replace such rows")
        refused.agreed = True
        raise refused
    return scores
