"""What the columns of predictions are called, in every format that has columns."""

from __future__ import annotations

from distbp.data.problem import Problem
from distbp.prediction.predictions import name_of_values


def column_names(problem: Problem, y: str) -> list[str]:
    """For a classifier: class, and probability_LABEL or output_LABEL for each label.  For targets their own names.

    These are the names that the network knows; without any, the names of the data sets that they were learnt from (`y`,
    with commas between), where each of these has one column; else y, or y_0, y_1, …
    """
    name = name_of_values(problem)
    if problem.labels is not None:
        return ["class", *(f"{name}_{label}" for label in problem.labels)]
    n_F = problem.network.sizes[-1]
    names = list(problem.columns.y) or [name.strip() for name in y.split(",") if name.strip()]
    if len(names) == len(set(names)) == n_F:
        return names
    return [name] if n_F == 1 else [f"{name}_{j}" for j in range(n_F)]
