"""scikit-learn's MLPClassifier and MLPRegressor: one process, the threads of its BLAS.

The gradient of its regressor is that of half the squared error, added up over the n_F outputs: the learning rate is
multiplied by 2 / n_F, to make the steps that the mean squared error makes.  The loss it shows is half of that.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from task import Task, answer, first_weights, given, measure, read_data


def make_model(task: Task) -> Any:
    """SGD with momentum, without its penalty and its early end."""
    rate = task.learning_rate * (2 / task.layers[-1] if task.is_regression else 1)
    return (MLPRegressor if task.is_regression else MLPClassifier)(
        hidden_layer_sizes=task.layers[1:-1],
        solver="sgd",
        alpha=0,
        batch_size=task.n,
        learning_rate_init=rate,
        momentum=task.momentum,
        nesterovs_momentum=False,
        warm_start=True,
        tol=0,
        n_iter_no_change=sys.maxsize,
        random_state=0,
    )


def losses(task: Task, model: Any, x: Any, y: Any) -> list[float]:
    """Of each of the first steps, from given weights."""
    model.set_params(max_iter=1).fit(x, y)  # takes its shapes from the data; the step itself is undone
    for (W, b), to_W, to_b in zip(first_weights(task), model.coefs_, model.intercepts_, strict=True):
        to_W[...], to_b[...] = W.T, b
    for velocity in model._optimizer.velocities:
        velocity[...] = 0
    model.loss_curve_.clear()
    for _ in range(task.steps):
        model.partial_fit(x, y)
    return [loss * (2 if task.is_regression else 1) for loss in model.loss_curve_]


def main() -> None:
    """Does the task."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    task = given()
    x, y = read_data(task)
    model = make_model(task)
    if task.kind == "losses":
        answer({"losses": losses(task, model, x, y)})
    else:
        epochs, seconds = measure(lambda count: model.set_params(max_iter=count).fit(x, y), task.seconds)
        answer({"speed": epochs * len(x) / seconds})


if __name__ == "__main__":
    main()
