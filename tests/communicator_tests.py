"""The contract of a communicator, in tests: a class that the tests of each kind inherit, with `each` of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distbp.errors import DataError
from distbp.mathematics.batches import shard
from distbp.ranks.communicator import Communicator, agree


def lengths_of(rank: int, size: int) -> list[int]:
    """How many numbers a rank sends to each, and gets from each: of all kinds, also none."""
    return [(rank + other) % 3 for other in range(size)]


def fill_together(comm: Communicator) -> bool:
    """Each rank writes its part of an array of the node; all see all of it."""
    array, part, parts, _, fence, check = comm.node_array((10, 3), np.dtype(np.int16))
    start, end = shard(10, part, parts)
    array[start:end] = np.arange(start, end)[:, None]
    fence()
    check()  # nobody has failed
    return array.tolist() == [[i] * 3 for i in range(10)] and array.ctypes.data % 8 == 0


class CommunicatorTests:
    """What is true of every communicator, on any number of ranks."""

    def each(self, action: Callable[[Communicator], Any]) -> list[Any]:
        """Lets each rank do something; the results by rank."""
        raise NotImplementedError

    @pytest.mark.parametrize("operation", ["sum", "min", "max"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_allreduce(self, operation: str, dtype: Any) -> None:
        """All ranks hold the same bits."""

        def action(comm: Communicator) -> Any:
            own = np.random.default_rng(comm.rank).standard_normal(1000).astype(dtype)
            array = own.copy()
            comm.allreduce(array, operation)
            assert array.dtype == dtype
            return own, array

        results = self.each(action)
        given = np.array([own for own, _ in results])
        expected = {"sum": np.sum, "min": np.min, "max": np.max}[operation](given, axis=0)
        np.testing.assert_allclose(results[0][1], expected, rtol=1e-6, atol=1e-5)
        assert len({array.tobytes() for _, array in results}) == 1

    def test_allgather_gather_broadcast(self) -> None:
        def action(comm: Communicator) -> Any:
            gathered = comm.gather(str(comm.rank))
            assert gathered == ([str(rank) for rank in range(comm.size)] if comm.rank == 0 else None)
            return comm.allgather(comm.rank**2) == [r**2 for r in range(comm.size)], comm.broadcast(-5 - comm.rank)

        assert set(self.each(action)) == {(True, -5)}

    @pytest.mark.parametrize("begun", [False, True])
    def test_alltoall(self, begun: bool) -> None:
        """What a rank gets from r is r's number for it, so often; what was sent is free again."""

        def action(comm: Communicator) -> bool:
            rank, lengths = comm.rank, lengths_of(comm.rank, comm.size)
            send = np.concatenate([np.full(count, 100.0 * rank + other) for other, count in enumerate(lengths)])
            received = np.full(sum(lengths), -1.0)
            if begun:
                comm.begin_alltoall(send, lengths, received, lengths)()
            else:
                comm.alltoall(send, lengths, received, lengths)
            send.fill(-7.0)
            return received.tolist() == [100.0 * r + rank for r, count in enumerate(lengths) for _ in range(count)]

        assert all(self.each(action))

    @pytest.mark.parametrize("begun", [False, True])
    def test_allgather_parts(self, begun: bool) -> None:
        def action(comm: Communicator) -> bool:
            parts = [rank % 4 for rank in range(comm.size)]
            array, start = np.full(sum(parts), -1.0, np.float32), sum(parts[: comm.rank])
            array[start : start + parts[comm.rank]] = comm.rank
            if begun:
                comm.begin_allgather_parts(array, parts)()
            else:
                comm.allgather_parts(array, parts)
            return array.tolist() == [rank for rank in range(comm.size) for _ in range(parts[rank])]

        assert all(self.each(action))

    def test_an_array_of_the_node(self) -> None:
        def action(comm: Communicator) -> bool:
            parts, copies = comm.node_array((5,), np.dtype(float)).parts, comm.node_copies(40)
            here = len(comm.node_ranks())
            assert comm.rank in comm.node_ranks()
            assert (parts, copies) in ((here, 1), (1, here))
            return fill_together(comm)

        assert all(self.each(action))

    def test_split(self) -> None:
        """Even and odd ranks by themselves; and what they share is still that of the node."""

        def action(comm: Communicator) -> bool:
            part = comm.split(comm.rank % 2)
            members = [rank for rank in range(comm.size) if rank % 2 == comm.rank % 2]
            total = np.array([float(comm.rank)])
            part.allreduce(total)
            assert (part.size, part.rank) == (len(members), members.index(comm.rank))
            assert part.allgather(comm.rank) == members
            assert total[0] == sum(members)
            return fill_together(part)

        assert all(self.each(action))

    def test_patiently_does_the_same(self) -> None:
        def action(comm: Communicator) -> float:
            array = np.full(1000, float(comm.rank + 1))
            comm.patiently(lambda: None).allreduce(array)
            assert (array == array[0]).all()
            return float(array[0])

        results = self.each(action)
        assert set(results) == {len(results) * (len(results) + 1) / 2}

    def test_what_is_made_in_a_scope_is_apart_from_all_other(self) -> None:
        def action(comm: Communicator) -> bool:
            for number in range(3):
                scope = comm.scope()
                assert (scope.rank, scope.size) == (comm.rank, comm.size)
                assert fill_together(scope)
                assert scope.broadcast(number if comm.rank == 0 else None) == number
                scope.close()
            return comm.allgather(comm.rank) == list(range(comm.size))

        assert all(self.each(action))

    def test_an_error_of_one_rank_is_raised_on_all(self) -> None:
        def action(comm: Communicator) -> tuple[bool, str]:
            def fails() -> None:
                if comm.rank == comm.size - 1:
                    raise DataError("a bad disk")

            with pytest.raises(DataError, match="a bad disk") as caught:
                agree(comm, fails)
            return caught.value.agreed, str(caught.value)

        results = self.each(action)
        assert len(set(results)) == 1
        assert results[0][0]
