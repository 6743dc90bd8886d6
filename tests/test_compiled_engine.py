"""The compiled engine keeps the contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_tests import EngineTests

from distbp.engine.compiled_engine import CompiledEngine
from distbp.engine.native.library import Library, library
from distbp.engine.work import Work

pytestmark = pytest.mark.skipif(not isinstance(library(), Library), reason=f"there is no compiled step: {library()}")


class TestCompiledEngine(EngineTests):
    """All tests are inherited."""

    def make(self, work: Work) -> CompiledEngine:
        lib = library()
        assert isinstance(lib, Library), lib
        return CompiledEngine(replace(work, is_compiled=True), lib)
