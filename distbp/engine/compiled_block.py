"""The sums over consecutive rows of a split, computed in C: what an evaluation is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.engine.compiled_net import CompiledNet
from distbp.engine.evaluate import Evaluation
from distbp.engine.native.library import Library
from distbp.engine.native.plan import SUMS
from distbp.engine.work import Work
from distbp.mathematics.arena import Arena
from distbp.mathematics.network import Parameters


def compiled_evaluation(work: Work, lib: Library, parameters: Parameters, arena: Arena) -> Evaluation:
    """Of work.training, for these parameters."""

    def make(problem: Problem, data: Split, longest: int, dtype: str, arena: Arena) -> CompiledBlockSums:
        return CompiledBlockSums(lib, work, parameters, longest, arena)

    return Evaluation(work.comm, work.problem, work.training, work.config.dtype, arena, make)


class CompiledBlockSums:
    """See `BlockSums`; for at most `longest` rows of work.training, and for these parameters."""

    def __init__(self, lib: Library, work: Work, parameters: Parameters, longest: int, arena: Arena) -> None:
        self._w = parameters.vector
        self._net = CompiledNet(work, lib, self._w, None, longest, arena)
        self._rows = arena.take(longest, np.int64)
        self._rows[:] = np.arange(longest)

    def __call__(self, parameters: Parameters, x: NDArray[Any], y: NDArray[Any] | None) -> Sequence[float]:
        assert parameters.vector.ctypes.data == self._w.ctypes.data, "they are those of the engine"
        sums = np.zeros(SUMS)
        x = np.ascontiguousarray(x)
        y = None if y is None else np.ascontiguousarray(y)
        self._net.point_to(x, y)
        self._net.forward(self._rows[: len(x)], sums)
        return list(sums.tolist())

    def close(self) -> None:
        """Ends the threads."""
        self._net.close()
