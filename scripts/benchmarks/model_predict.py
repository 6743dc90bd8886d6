"""What `Model.predict` takes beside the matrix products alone, in one run: python scripts/benchmarks/model_predict.py

For the network S (784-30-10, float32), for one sample and for 1,000, with inputs of several dtypes, not scaled and
scaled.  All are measured in turns, round after round, on one BLAS thread, in seconds of the processor, so that other
work on the machine matters less.  Shown are the lowest and the median time, and the median of the ratios to the
products of the same round.

The bars are 30 µs for one sample, and 1.2 times the products for 1,000 samples of float32.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from timeit import Timer

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.mathematics.network import Network, Parameters, initialize
from distbp.model.model import Model
from distbp.settings.merged import merge
from distbp.training.checkpoint import Checkpoint

CALLS = {1: 10, 1000: 1}  # in a measurement, by the number of samples
ROUNDS = 400


def make_model(is_scaled: bool) -> Model:
    """The network S with its first parameters."""
    network = Network.of([784, 30, 10], "relu", "softmax", "cross_entropy")
    parameters, rng = Parameters.zeros(network, "float32"), np.random.default_rng(0)
    initialize(parameters, network, seed=0)
    scaling = Scaling(rng.random(784), 0.5 + rng.random(784)) if is_scaled else Scaling.none(784)
    config = merge({"hidden": [30], "loss": "cross_entropy", "output_activation": "softmax"}, "benchmark")
    return Model(Checkpoint(config, Problem(network, scaling, Scaling.none(10), tuple(range(10))), parameters.vector))


def contestants(m: int) -> dict[str, Callable[[], object]]:
    """What is measured for m samples, by name; the products first."""
    (W2, _, _), (W3, _, _) = make_model(False).layers
    x = np.abs(np.random.default_rng(1).standard_normal((m, 784), dtype=np.float32)) * 50
    z2, z3 = np.empty((m, 30), np.float32).T, np.empty((10, m), np.float32)

    def products() -> None:
        np.matmul(W2, x.T, out=z2)
        np.matmul(W3, z2, out=z3)

    found: dict[str, Callable[[], object]] = {"products": products}
    for is_scaled in (False, True):
        model = make_model(is_scaled)
        for dtype in ("float32", "uint8", "float64"):
            rows = x.astype(dtype)[0] if m == 1 else x.astype(dtype)
            name = f"{dtype}, {'scaled' if is_scaled else 'not scaled'}"
            found[name] = lambda model=model, rows=rows: model.predict(rows)  # type: ignore[misc]
    return found


def main(rounds: int) -> None:
    """Prints a line for each contestant."""
    for m, calls in CALLS.items():
        timers = {name: Timer(call, timer=time.thread_time) for name, call in contestants(m).items()}
        times: dict[str, list[float]] = {name: [] for name in timers}
        for _ in range(rounds):
            for name, timer in timers.items():
                times[name].append(timer.timeit(calls) / calls * 1e6)
        for name, found in times.items():
            ratio = statistics.median(mine / alone for mine, alone in zip(found, times["products"], strict=True))
            print(
                f"{m:>4} samples  {name:<20} {min(found):8.1f} µs, median {statistics.median(found):8.1f} µs, "
                f"{ratio:5.2f} of the products"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
