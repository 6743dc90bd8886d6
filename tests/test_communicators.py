"""All kinds of communicators keep the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from communicator_tests import CommunicatorTests
from runs import nodes_of

from distbp.ranks.communicator import Communicator, OneProcess, run_threads


class TestOneProcess(CommunicatorTests):
    def each(self, action: Callable[[Communicator], Any]) -> list[Any]:
        return [action(OneProcess())]


@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (2, 1), (3, 1), (8, 1), (3, 2), (4, 4)], scope="class")
class TestThreads(CommunicatorTests):
    @pytest.fixture(autouse=True)
    def _form(self, ranks: int, nodes: int) -> None:
        self._ranks, self._nodes = ranks, nodes

    def each(self, action: Callable[[Communicator], Any]) -> list[Any]:
        return run_threads(self._ranks, action, nodes_of(self._ranks, self._nodes))


@pytest.mark.parallel
class TestRealRanks(CommunicatorTests):
    """Under mpirun those of MPI."""

    @pytest.fixture(autouse=True)
    def _all(self, comm: Communicator) -> None:
        self._comm = comm

    def each(self, action: Callable[[Communicator], Any]) -> list[Any]:
        return self._comm.allgather(action(self._comm))
