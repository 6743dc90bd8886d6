"""Networks, samples and engines for tests of the compiled step: any sizes, types of data, kinds of CPU and threads."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from engine_tests import nothing, settings
from runs import nodes_of, split_of, sums_of

from distbp.data.loader import Batch
from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.engine.compiled_engine import CompiledEngine
from distbp.engine.native import library as of_library
from distbp.engine.native.library import KINDS, Library
from distbp.engine.numpy_engine import NumpyEngine
from distbp.engine.sums import Requests
from distbp.engine.work import Work
from distbp.mathematics.arena import Aligned
from distbp.mathematics.network import Network, initialize
from distbp.ranks.communicator import Communicator, run_threads

GUARD, MARK = 64, 0xA5  # bytes before and behind each array, and what they are


@cache
def kinds() -> dict[str, Library]:
    """The compiled step for each kind of CPU that this one is, the best first; none where it is not compiled."""
    if not isinstance(of_library.library(), Library):
        return {}
    functions = ctypes.CDLL(str(of_library.LIBRARY))
    able = [kind for i, kind in enumerate(KINDS) if functions.can_run(ctypes.c_int64(i))]
    return {kind: Library(functions, kind) for kind in able if hasattr(functions, f"advance_{kind}")}


class Guarded(Aligned):
    """Arrays with guards around them; `check` fails if one of them was written to.  For one rank."""

    def __init__(self) -> None:
        self._guards: list[np.ndarray] = []

    def take(self, shape: Any, dtype: Any) -> np.ndarray:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        raw = np.zeros(size + 3 * GUARD, np.uint8)
        start = GUARD + -raw.ctypes.data % GUARD
        self._guards += [raw[:start], raw[start + size :]]
        for guard in self._guards[-2:]:
            guard.fill(MARK)
        return raw[start : start + size].view(dtype).reshape(shape)

    def within(self, memory: np.ndarray, unit: int = 0) -> Guarded:
        """What the ranks of a node share is guarded, too: this rank is alone."""
        return self

    def check(self) -> None:
        assert self._guards
        assert all((guard == MARK).all() for guard in self._guards), "something was written outside of an array"


@dataclass(frozen=True)
class Case:
    """A network of these sizes, N samples for it, and how it is trained."""

    sizes: tuple[int, ...] = (5, 7, 4, 3)
    loss: str = "cross_entropy"
    output: str = "softmax"
    activation: str = "tanh"
    dtype: str = "float64"
    N: int = 40
    labels: int = 0  # classes; 0: targets, but for cross_entropy
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Any:
        return settings(self.loss, dtype=self.dtype, activation=self.activation, **self.options)

    @property
    def network(self) -> Network:
        return Network.of(list(self.sizes), self.activation, self.output, self.loss)

    @property
    def classes(self) -> int:
        return self.labels or (self.sizes[-1] if self.loss == "cross_entropy" else 0)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(11)
        x = rng.standard_normal((self.N, self.sizes[0])).astype(np.float32)
        if self.classes:
            return x, rng.integers(0, self.classes, self.N)
        shape = (self.N, self.sizes[-1])
        is_binary = self.loss == "binary_cross_entropy"
        return x, (rng.random(shape) if is_binary else rng.standard_normal(shape)).astype(np.float32)

    def begin(self, engine: NumpyEngine) -> None:
        """The first parameters: the same for both types, up to rounding."""
        initialize(engine.parameters, self.network, 3, "glorot")
        for b in engine.parameters.b[2:]:
            b += np.linspace(-0.5, 0.5, len(b)).astype(b.dtype)

    def work(self, comm: Communicator, n: int, **others: Any) -> Work:
        x, y = self.samples()
        labels = tuple(range(self.classes)) if self.classes else None
        problem = Problem(self.network, Scaling.none(self.sizes[0]), Scaling.none(self.sizes[-1]), labels)
        return Work(comm, self.config, problem, split_of(x, y, labels), (n,), **others)


@dataclass(frozen=True)
class Found:
    """What there is after some steps: of all ranks the same."""

    w: np.ndarray
    vectors: dict[str, np.ndarray]
    gradient: np.ndarray  # of the first batch
    sums: list[list[float]]

    @property
    def bits(self) -> list[bytes]:
        return [self.w.tobytes(), *(one.tobytes() for one in self.vectors.values()), self.gradient.tobytes()]


def engine_of(work: Work, lib: Library | None) -> NumpyEngine:
    """The compiled engine of a kind of CPU, or the one in NumPy."""
    return CompiledEngine(replace(work, is_compiled=True), lib) if lib else NumpyEngine(work)


def found(
    case: Case,
    lib: Library | None,
    batches: list[Batch],
    *,
    ranks: int = 1,
    nodes: int = 1,
    rates: list[float] | None = None,
    **others: Any,
) -> Found:
    """The gradient of the first batch, and what is there after a step with each of them."""

    def on_rank(comm: Communicator) -> Found:
        work = case.work(comm, max(len(batch.rows) for batch in batches), **others)
        engine = engine_of(work, lib)
        try:
            return steps_of(engine, comm, case, batches, rates or [0.05] * len(batches))
        finally:
            engine.close()

    everywhere = run_threads(ranks, on_rank, nodes_of(ranks, nodes))
    assert all(one.bits == everywhere[0].bits for one in everywhere)
    return everywhere[0]


def steps_of(engine: NumpyEngine, comm: Communicator, case: Case, batches: list[Batch], rates: list[float]) -> Found:
    """What `found` gives, on one rank."""
    engine.fill(lambda: case.begin(engine))
    engine.gradient(batches[0], Requests())
    mine = [(where, g.copy()) for where, g in zip(engine.slices, engine.g, strict=True)]
    gradient = np.full(len(engine.w), np.nan)
    for where, g in (part for parts in comm.allgather(mine) for part in parts):
        gradient[where] = g
    steps = engine.step(batches, rates, 0, nothing)
    assert not any(stepped.wrong for stepped in steps)
    sums = [sums_of(comm, stepped).values for stepped in steps]
    comm.allgather(None)
    return Found(engine.w.copy(), {name: one.copy() for name, one in engine.vectors.items()}, gradient, sums)


def check_near(one: Found, truth: Found, dtype: str, ulp: float = 400) -> None:
    """Norm by norm: sums of rounded numbers are as near as the largest one has digits."""
    limit = ulp * float(np.finfo(dtype).eps)
    pairs = [(one.w, truth.w), (one.gradient, truth.gradient)]
    pairs += [(one.vectors[name], truth.vectors[name]) for name in truth.vectors]
    for mine, true in pairs:
        assert np.isfinite(mine).all()
        assert abs(mine - true).max() <= limit * abs(true).max()
    np.testing.assert_allclose(one.sums, truth.sums, rtol=limit, atol=limit)
