"""One process and threads that stand in for ranks: the same answers, no hang, and errors that all ranks agree on."""

import os
import socket
import threading
import time

import numpy as np
import pytest
from communicator_tests import fill_together
from runs import LIMIT

from distbp.errors import DataError, DistbpError, UsageError
from distbp.ranks.communicator import Barrier, OneProcess, _Gate, agree, on_first, run_threads

SIZES = [1, 2, 3, 8]


def test_allreduce_sums_by_default_and_in_the_order_of_the_ranks():
    """Bit for bit (v_0 + v_1) + v_2 + …, whoever arrives first."""
    given = np.random.default_rng(0).standard_normal((5, 1000)).astype(np.float32)
    expected = given[0].copy()
    for values in given[1:]:
        expected += values

    def on_rank(communicator):
        array = given[communicator.rank].copy()
        time.sleep(0.01 * (5 - communicator.rank))  # the last rank arrives first
        communicator.allreduce(array)
        return array

    for result in run_threads(5, on_rank):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parallel
def test_node_array_of_real_ranks(comm, monkeypatch):
    assert all(comm.allgather(fill_together(comm)))
    parts = comm.node_array((5,), np.dtype(float)).parts
    assert parts == len(comm.node_ranks())
    if comm.size > 1:
        from distbp.ranks import mpi

        monkeypatch.setattr(mpi, "MARGIN_BYTES", 2**62)
        own = comm.node_array((5,), np.dtype(float))
        assert (own.part, own.parts) == (0, 1)
        assert "are needed" in own.why_not
        assert all(comm.allgather(fill_together(comm)))


def test_simulated_nodes():
    def on_rank(communicator):
        shared = communicator.node_array((5,), np.dtype(int))
        shared.array[shared.part] = communicator.rank
        shared.fence()
        return communicator.node_ranks(), shared.array[: shared.parts].tolist()

    assert run_threads(4, on_rank, [[0, 3], [1, 2]]) == [([0, 3], [0, 3]), *[([1, 2], [1, 2])] * 2, ([0, 3], [0, 3])]


def test_an_error_releases_those_who_wait_in_a_part():
    def on_rank(communicator):
        part = communicator.split(communicator.rank // 2)
        if communicator.rank == 3:
            raise ValueError("on rank 3")
        part.allgather(0)
        communicator.allgather(0)

    with pytest.raises(ValueError, match="on rank 3"):
        run_threads(4, on_rank)


def test_many_collectives_in_a_row_do_not_mix():
    def on_rank(communicator):
        return [communicator.allgather((step, communicator.rank)) for step in range(200)]

    expected = [[(step, rank) for rank in range(4)] for step in range(200)]
    assert run_threads(4, on_rank) == [expected] * 4


@pytest.mark.parametrize("size", SIZES)
def test_ranks_know_where_they_are(size):
    def on_rank(communicator):
        return communicator.rank, communicator.size, communicator.node_ranks(), communicator.describe()

    everyone = list(range(size))
    assert run_threads(size, on_rank) == [
        (rank, size, everyone, f"{size} simulated ranks (threads)") for rank in everyone
    ]


def test_one_process():
    communicator = OneProcess()
    array = np.array([1.0, -2.0])
    for operation in ("sum", "min", "max"):
        communicator.allreduce(array, operation)
    assert array.tolist() == [1.0, -2.0]
    assert communicator.allgather("x") == communicator.gather("x") == ["x"]
    assert communicator.broadcast("x") == "x"
    assert (communicator.rank, communicator.size, communicator.node_ranks()) == (0, 1, [0])
    assert communicator.describe() == "1 process"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_in_one_thread_releases_the_others(failing):
    """The others wait in a collective; they end, and the error is raised as it was."""

    def on_rank(communicator):
        if communicator.rank == failing:
            time.sleep(0.05)  # the others are at the barrier by now
            raise ZeroDivisionError(f"only rank {failing}")
        communicator.allgather(1)

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match=f"^only rank {failing}$"):
        run_threads(4, on_rank)
    assert threading.active_count() == before


@pytest.mark.timeout(20)
def test_an_error_before_the_others_arrive_releases_them_too():
    def on_rank(communicator):
        if communicator.rank == 1:
            raise DataError("early")
        time.sleep(0.05)
        communicator.allreduce(np.zeros(3))

    with pytest.raises(DataError, match=r"^early$"):
        run_threads(3, on_rank)


def errors_of_agree(size, action):
    """What agree() raises on each rank."""

    def on_rank(communicator):
        with pytest.raises(DistbpError) as caught:
            agree(communicator, lambda: action(communicator.rank))
        return caught.value

    return run_threads(size, on_rank)


@pytest.mark.parametrize("size", SIZES)
def test_agree_returns_each_ranks_own_result(size):
    assert run_threads(size, lambda communicator: agree(communicator, lambda: communicator.rank * 2)) == [
        2 * rank for rank in range(size)
    ]
    assert agree(OneProcess(), lambda: "done") == "done"


@pytest.mark.parametrize("size", SIZES)
def test_agree_shows_an_error_that_all_ranks_share_without_a_rank(size):
    def action(rank):
        raise DataError("data.h5: no such file")

    for error in errors_of_agree(size, action):
        assert type(error) is DataError
        assert str(error) == "data.h5: no such file"
        assert error.agreed


def test_agree_in_one_process():
    def action():
        raise UsageError("no")

    with pytest.raises(UsageError, match=r"^no$") as caught:
        agree(OneProcess(), action)
    assert caught.value.agreed


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_agree_raises_the_error_of_one_rank_on_all(failing):
    def action(rank):
        if rank == failing:
            raise UsageError("disk is full")
        return rank

    for error in errors_of_agree(3, action):
        assert type(error) is UsageError
        assert str(error) == f"rank {failing} ({socket.gethostname()}): disk is full"
        assert error.agreed


def test_agree_shows_the_first_of_several_errors():
    def action(rank):
        if rank:
            raise DataError(f"row {rank} is bad")

    assert {str(error) for error in errors_of_agree(4, action)} == {f"rank 1 ({socket.gethostname()}): row 1 is bad"}


def test_agreeing_does_not_mark_the_class():
    def action(rank):
        raise DataError("x")

    errors_of_agree(2, action)
    assert not DataError.agreed
    assert not DataError("y").agreed


@pytest.mark.timeout(20)
def test_agree_lets_bugs_through():
    def on_rank(communicator):
        agree(communicator, lambda: 1 // communicator.rank)  # a bug on rank 0

    with pytest.raises(ZeroDivisionError):
        run_threads(3, on_rank)


@pytest.mark.parametrize("size", SIZES)
def test_on_first_acts_on_rank_0_alone(size):
    calls = []

    def on_rank(communicator):
        return on_first(communicator, lambda: calls.append(communicator.rank) or "written")

    assert run_threads(size, on_rank) == ["written"] + [None] * (size - 1)
    assert calls == [0]


@pytest.mark.parametrize("size", SIZES)
def test_on_first_raises_rank_0s_error_on_all_without_a_rank(size):
    def action():
        raise UsageError("disk is full")

    def on_rank(communicator):
        with pytest.raises(UsageError, match=r"^disk is full$") as caught:
            on_first(communicator, action)
        return caught.value.agreed

    assert run_threads(size, on_rank) == [True] * size


@pytest.mark.parallel
def test_a_scope_gives_back_what_was_made_in_it(comm):
    """Windows, communicators and open files: as many after twenty scopes as after one."""

    def in_a_scope(number):
        scope = comm.scope()
        shared = scope.node_array((100,), np.dtype(np.float32))
        shared.array[shared.part :: shared.parts] = number
        shared.fence()
        assert (shared.array == number).all()
        part = scope.split(scope.rank % 2).patiently(lambda: None)
        ranks = np.ones(1)
        part.allreduce(ranks)
        assert ranks[0] == len(range(comm.rank % 2, comm.size, 2))
        scope.close()
        return len(os.listdir("/proc/self/fd"))

    first = in_a_scope(0)
    assert [in_a_scope(number) for number in range(1, 20)] == [first] * 19
    assert comm.allgather(comm.rank) == list(range(comm.size))


@pytest.mark.parametrize("size", [2, 3])
def test_scopes_of_threads(size):
    def on_rank(communicator):
        for _ in range(5):
            scope = communicator.scope()
            scope.split(0)
            assert scope.allgather(scope.rank) == list(range(size))
            scope.close()
        communicator.allgather(None)
        return len(communicator._meeting._parts)

    assert run_threads(size, on_rank) == [0] * size


def test_who_has_met_all_others_is_not_told_that_one_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one comes, and fails at once; the others have not gone on yet, and know the result all the same."""
    barrier, gone, broken = Barrier(2), list[str](), threading.Event()

    class Late(_Gate):
        def wait(self) -> None:
            super().wait()
            broken.wait(LIMIT)

    monkeypatch.setattr("distbp.ranks.communicator._Gate", Late)

    def other() -> None:
        barrier.wait()
        gone.append("met")
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
        gone.append("left alone")

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    while not barrier._gates:
        time.sleep(0.001)
    barrier.wait()
    barrier.abort()
    broken.set()
    thread.join(LIMIT)
    assert gone == ["met", "left alone"]
