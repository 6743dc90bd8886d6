"""The engine in NumPy keeps the contract."""

from __future__ import annotations

from engine_tests import EngineTests

from distbp.engine.numpy_engine import NumpyEngine
from distbp.engine.work import Work


class TestNumpyEngine(EngineTests):
    """All tests are inherited."""

    def make(self, work: Work) -> NumpyEngine:
        return NumpyEngine(work)
