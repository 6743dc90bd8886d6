"""A trained network, ready to be used on arrays."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.counted import counted
from distbp.errors import DataError, UsageError
from distbp.mathematics.activations import Array
from distbp.mathematics.batches import pieces
from distbp.mathematics.finite import first_not_finite
from distbp.model.rows import as_rows, check_finite
from distbp.model.variables import Variables
from distbp.prediction.network_outputs import Outputs, make_outputs, output_dtype
from distbp.prediction.predictions import classes_of, name_of_values, values_of_classes
from distbp.ranks.threads import blas_threads
from distbp.settings.config import as_dict
from distbp.training.comparison import digest
from distbp.training.invariants import history_columns
from distbp.training.state import Checkpoint

MUCH_WORK = 2**28  # multiplications of a call for which threads are worth while, which end with it: some 10 ms
CHECKED_ROWS = 1024  # at a time
WHOLE = ("epoch", "step")  # columns of the history that count


class Model:
    """A trained network.  `distbp.load` makes it of a checkpoint.

    All methods take inputs `x` as the data have them: not scaled, of any integer, float or bool dtype.

    - An array, a list, or what else NumPy makes an array of, of shape (N, n_1), or (N, …) with n_1 numbers for each
      sample, such as images (N, 28, 28); a single sample has the shape (n_1,).  If the network has one input, (N,) are
      N samples, as in a data set, and a number is one sample.
    - Columns with names: a frame of pandas or Polars, an Arrow table, an xarray.Dataset with a variable for each
      input, an xarray.DataArray with the names as coordinate of its last axis, a structured array, or a dictionary.
      If the network knows the names of its inputs, they are put into its order, and other names are refused.

    N may be 0.  For a single sample the results have no axis of samples.

    DataError is raised if x does not fit the inputs, if it holds NaN or infinite values, or if an output is not finite.

    The outputs are, bit for bit, those that `distbp predict` writes for the same rows.  With the compiled step they
    depend neither on the other rows nor on the number of threads.  Without it, or for a run with --engine numpy, the
    last bits of a row may depend on how many rows are given together and on the BLAS threads, as in any product.

    A Model never changes.  Several threads may use it at the same time, and it can be pickled.

    >>> import distbp
    >>> model = distbp.load("run")
    >>> x, y = distbp.open_dataset("digits.h5")["test"].read()
    >>> bool((model.predict(x) == y).mean() > 0.9)
    True
    """

    def __init__(self, state: Checkpoint, path: str = "") -> None:
        """`path` is where the checkpoint was read from, or ""."""
        self._state, self._path = state, path
        problem, dtype = state.problem, state.config.dtype
        network, names = problem.network, problem.columns
        self._problem, self._dtype = problem, dtype
        self._inputs = Variables(network.sizes[1], names.x, names.x_units)
        self._outputs = Variables(network.sizes[-1], names.y, names.y_units)
        self._labels = None if problem.labels is None else _frozen(np.array(problem.labels))
        self._parameters = state.parameters
        self._output_dtype = output_dtype(problem.target, dtype)
        self._rooms: list[Outputs] = []  # those that no thread uses now

    def predict(self, x: Any) -> Any:
        """Predicts labels or targets.

        For a classifier the result has the shape (N,) and holds labels as in the training data: int64, or strings.
        Otherwise it has the shape (N, n_F) and holds targets in their units: float64, or the dtype of the network if
        the targets were not scaled.  For a single sample it is a label, or has the shape (n_F,).

        Raises DataError (see `Model`).

        >>> import distbp, numpy as np
        >>> model = distbp.load("run")
        >>> model.predict(np.zeros((3, 8, 8))).shape
        (3,)
        >>> model.predict(np.zeros(64)).dtype
        dtype('int64')
        """
        rows = as_rows(x, self._inputs)
        a = self._compute(rows.x)
        found = a if self._labels is None else self._labels[classes_of(a)]
        return found[0] if rows.is_single else found

    def predict_proba(self, x: Any) -> NDArray[Any]:
        """Predicts the probability of each class.

        The result has the shape (N, K), with a column for each of `classes`, for two classes too, and the dtype of
        the network.  For a single sample it has the shape (K,).

        Raises DataError (see `Model`), and UsageError for a network whose outputs are no probabilities of classes:
        one that was trained on targets, or a classifier that was trained with the loss mse (see `class_outputs`).

        >>> import distbp, numpy as np
        >>> model = distbp.load("run")
        >>> p = model.predict_proba(np.zeros((3, 64)))
        >>> p.shape, p.dtype
        ((3, 10), dtype('float32'))
        >>> np.allclose(p.sum(axis=1), 1.0)
        True
        """
        if name_of_values(self._problem) != "probability":
            instead = "predict" if self._labels is None else "class_outputs"
            raise UsageError(
                f"predict_proba: the outputs of this network ({self._problem.network.describe()}) are no probabilities "
                f"of classes; expected a classifier with softmax outputs or one sigmoid output; use {instead}"
            )
        return self.class_outputs(x)

    def class_outputs(self, x: Any) -> NDArray[Any]:
        """Computes the output of each class: a probability, or with the loss mse a number near 1 for the right class.

        The result has the shape (N, K), with a column for each of `classes`, and the dtype of the network.  For a
        single sample it has the shape (K,).  The class of the largest output is the one that `predict` names.

        Raises DataError (see `Model`), and UsageError for a network that was trained on targets.

        >>> import distbp, numpy as np
        >>> distbp.load("run").class_outputs(np.zeros(64)).shape
        (10,)
        """
        if self._labels is None:
            raise UsageError("class_outputs: this network was trained on targets, and has no classes; use predict")
        rows = as_rows(x, self._inputs)
        values = values_of_classes(self._compute(rows.x))
        return values[0] if rows.is_single else values

    @property
    def state(self) -> Checkpoint:
        """The checkpoint that the network was read from; its arrays must not be changed."""
        return self._state

    @property
    def layers(self) -> list[tuple[NDArray[Any], NDArray[Any], str]]:
        """(W, b, activation) of the layers l = 2 … F.

        W has the shape (n_l, n_{l-1}) and b the shape (n_l,); both have the dtype of the network and are read-only.
        They work on scaled inputs: a^1 = (x - shift) / spread, see `input_scaling`.

        >>> import distbp
        >>> [(W.shape, b.shape, activation) for W, b, activation in distbp.load("run").layers]
        [((32, 64), (32,), 'relu'), ((10, 32), (10,), 'softmax')]
        """
        network, parameters = self._problem.network, self._parameters
        return [
            (_frozen(parameters.W[l].view()), _frozen(parameters.b[l].view()), network.sigma(l).name)
            for l in range(2, network.F + 1)
        ]

    @property
    def input_scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """shift and spread of the inputs, float64, shape (n_1,) each, in their units: a^1 = (x - shift) / spread.

        >>> import distbp
        >>> shift, spread = distbp.load("run").input_scaling
        >>> shift.shape, spread.shape
        ((64,), (64,))
        """
        return _frozen(self._problem.input.shift.view()), _frozen(self._problem.input.spread.view())

    @property
    def output_scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """shift and spread of the targets, float64, shape (n_F,) each, in their units: y = a^F · spread + shift.

        >>> import distbp
        >>> shift, spread = distbp.load("run").output_scaling
        >>> bool((shift == 0).all() and (spread == 1).all())  # outputs of classes are not scaled
        True
        """
        return _frozen(self._problem.target.shift.view()), _frozen(self._problem.target.spread.view())

    @property
    def inputs(self) -> Variables:
        """How many inputs there are, what they are called, and their units (see `Variables`)."""
        return self._inputs

    @property
    def outputs(self) -> Variables:
        """How many outputs there are, what they are called, and their units (see `Variables`)."""
        return self._outputs

    @property
    def classes(self) -> NDArray[Any] | None:
        """The labels of the classes, shape (K,), int64 or strings, sorted and read-only; None for targets.

        >>> import distbp
        >>> distbp.load("run").classes.tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        """
        return self._labels

    @property
    def config(self) -> dict[str, Any]:
        """The options of the training, by name, as in config.toml; a new dictionary each time.

        >>> import distbp
        >>> distbp.load("run").config["hidden"]
        [32]
        """
        return as_dict(self._state.config)

    @property
    def history(self) -> dict[str, NDArray[Any]]:
        """The columns of metrics.csv up to this checkpoint, by name, each an array with a value for each epoch.

        `epoch` and `step` are int64, all others float64; a value that there is not is NaN.  The arrays are new each
        time.

        >>> import distbp
        >>> history = distbp.load("run").history
        >>> bool(history["train_loss"][-1] < history["train_loss"][0])
        True
        """
        history = self._state.history
        return {
            name: np.array(history[name], np.int64 if name in WHOLE else np.float64)
            for name in history_columns(self._problem.metric_names)
            if name in history
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all W and b in hexadecimal, as `distbp inspect --digest` prints it.

        >>> import distbp
        >>> len(distbp.load("run").digest)
        64
        """
        return digest(self._parameters)

    def __repr__(self) -> str:
        what = counted(self._outputs.count, "target") if self._labels is None else f"{len(self._labels)} classes"
        where = f", {self._path}" if self._path else ""
        return f"<distbp.Model {self._problem.network.describe()}: {what}, {self._dtype}{where}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Model, (self._state, self._path)

    def _compute(self, x: NDArray[Any]) -> Array:
        """a^F in the units of the targets, shape (N, n_F), for rows of x, shape (N, n_1)."""
        N = len(x)
        out = np.empty((N, self._outputs.count), self._output_dtype)
        try:
            room = self._rooms.pop()
        except IndexError:
            room = make_outputs(self._problem, self._parameters, self._state.config)
        try:
            is_finite = room(x, out, blas_threads() if N * len(self._state.vector) >= MUCH_WORK else 1)
        finally:
            room.close()
            self._rooms.append(room)
        if not is_finite:
            self._check(x, out)
        return out

    def _check(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Raises DataError if x or the outputs are not finite."""
        for first, last in pieces(0, len(x), CHECKED_ROWS):
            check_finite(x[first:last], self._inputs, first)
            row = first_not_finite(out[first:last])
            if row is not None:
                raise DataError(
                    f"x, row {first + row}: the output is {out[first + row].tolist()[:8]}, for the inputs are far from "
                    "those that the network was trained on; remove or replace such rows"
                )


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The array, which cannot be written to any more."""
    array.flags.writeable = False
    return array
