"""Communicators: what distbp asks of the ranks, and two kinds that need no MPI library.

`OneProcess` is the only rank there is.  `ThreadRank` is one of several threads that stand in for ranks: tests of any
number of ranks without mpirun, and `distbp train --simulate-ranks 8` for learners.  The third kind, `MPIRank`, is in
`distbp.ranks.mpi`.  All code below `distbp.ranks.launch` is handed one of the three and cannot tell which.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DistbpError
from distbp.mathematics.activations import Array

T = TypeVar("T")
Numbers = NDArray[Any]

OPERATIONS: dict[str, Any] = {"sum": np.add, "min": np.minimum, "max": np.maximum}


class NodeArray(NamedTuple):
    """An array that the ranks of a node share, and which of `parts` equal parts of its rows this rank is to fill.

    Where they cannot share memory, each rank has an array of its own, and all of it to fill; `why_not` says why.
    After `fence`, a collective of those that share it, each sees what any has written to it before.  `check` raises
    where one of those that share it has failed and will not come to a fence any more, if that can be known.
    """

    array: NDArray[Any]
    part: int
    parts: int
    why_not: str = ""
    fence: Callable[[], object] = lambda: None
    check: Callable[[], object] = lambda: None


class Communicator(Protocol):
    """The ranks 0 … size-1; every method is a collective: all ranks call it, in the same order.

    `has_threads`: several threads may use communicators at the same time, each its own.
    """

    rank: int
    size: int
    has_threads: bool

    def allreduce(self, array: Array, operation: str = "sum") -> None:
        """Replaces `array` by its sum (min, max) over all ranks, element by element, in place."""

    def alltoall(self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]) -> None:
        """Sends to each rank the next so many elements of `send`, and fills `receive` with what comes, by rank."""

    def allgather_parts(self, array: Numbers, lengths: list[int]) -> None:
        """`array`, cut into so long parts, one for each rank: each rank has its own part, and gets the others'."""

    def begin_alltoall(
        self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]
    ) -> Callable[[], None]:
        """As `alltoall`, which is done when the function that comes back was called."""

    def begin_allgather_parts(self, array: Numbers, lengths: list[int]) -> Callable[[], None]:
        """As `allgather_parts`, likewise."""

    def allgather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, on all ranks."""

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks on rank 0; None elsewhere."""

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on all ranks; what the others pass is ignored.  Treat it as read-only."""

    def node_ranks(self) -> list[int]:
        """The ranks that run on the same node as this one, itself included, in ascending order."""

    def node_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NodeArray:
        """An array that the ranks of a node share."""

    def node_copies(self, size: int) -> int:
        """How many copies of an array of so many bytes a node will have: 1, or one for each rank on it."""

    def split(self, color: int) -> Communicator:
        """The ranks that name the same color, in the same order, as ranks of their own."""

    def patiently(self, pause: Callable[[], None]) -> Communicator:
        """The same ranks, for a thread: `pause` is called again and again while allreduce and the like wait."""

    def scope(self) -> Communicator:
        """The same ranks, as a communicator of its own: what is made of it is given back when it is closed."""

    def close(self) -> None:
        """Gives back the communicators and the shared memory that were made of this one.

        No array that ranks of a node share may be touched afterwards.
        """

    def describe(self) -> str:
        """For the summary: "1 process", "2 ranks (MPICH 5.0.2)"."""


def _is_done() -> None:
    """There is nothing to wait for."""


class _AtOnce:
    """For communicators of one process: what is begun is done."""

    def alltoall(self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]) -> None:
        raise NotImplementedError

    def allgather_parts(self, array: Numbers, lengths: list[int]) -> None:
        raise NotImplementedError

    def begin_alltoall(
        self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]
    ) -> Callable[[], None]:
        self.alltoall(send, send_lengths, receive, receive_lengths)
        return _is_done

    def begin_allgather_parts(self, array: Numbers, lengths: list[int]) -> Callable[[], None]:
        self.allgather_parts(array, lengths)
        return _is_done


class OneProcess(_AtOnce):
    """The only rank."""

    rank = 0
    size = 1
    has_threads = True

    def allreduce(self, array: Array, operation: str = "sum") -> None:
        """The sum over one rank."""

    def alltoall(self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]) -> None:
        receive[:] = send

    def allgather_parts(self, array: Numbers, lengths: list[int]) -> None:
        """The one part is there."""

    def allgather(self, value: T) -> list[T]:
        return [value]

    def gather(self, value: T) -> list[T] | None:
        return [value]

    def broadcast(self, value: T) -> T:
        return value

    def node_ranks(self) -> list[int]:
        return [0]

    def node_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NodeArray:
        return NodeArray(np.empty(shape, dtype), 0, 1)

    def node_copies(self, size: int) -> int:
        return 1

    def split(self, color: int) -> Communicator:
        return self

    def patiently(self, pause: Callable[[], None]) -> Communicator:
        return self

    def scope(self) -> Communicator:
        """Itself: Python gives back what it has made."""
        return self

    def close(self) -> None:
        """There is nothing to give back."""

    def describe(self) -> str:
        return "1 process"


class ThreadRank(_AtOnce):
    """One of `size` threads; they meet in a shared list, with a barrier before reading and one after."""

    has_threads = True

    def __init__(self, rank: int, meeting: _Meeting, nodes: Sequence[Sequence[int]] | None = None) -> None:
        self.rank = rank
        self.size = len(meeting.values)
        self._meeting = meeting
        self._nodes = nodes or [range(self.size)]
        self._node: ThreadRank | None = None

    def allreduce(self, array: Array, operation: str = "sum") -> None:
        """Adds in the order of the ranks, so the bits are the same from run to run."""
        values = self.allgather(array.copy())
        np.copyto(array, values[0])
        for value in values[1:]:
            OPERATIONS[operation](array, value, out=array)

    def alltoall(self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]) -> None:
        """What each rank takes out of what the others have sent."""
        parts = [
            np.split(sent, np.cumsum(lengths)[:-1]) for sent, lengths in self.allgather((send.copy(), send_lengths))
        ]
        np.concatenate([part[self.rank] for part in parts], out=receive)

    def allgather_parts(self, array: Numbers, lengths: list[int]) -> None:
        """The parts of all ranks, put together."""
        cuts = np.cumsum(lengths)[:-1]
        parts = self.allgather(np.split(array, cuts)[self.rank].copy())
        np.concatenate(parts, out=array)

    def allgather(self, value: T) -> list[T]:
        """The values of all ranks, by rank."""
        self._meeting.values[self.rank] = value
        self._meeting.barrier.wait()
        values: list[T] = list(self._meeting.values)
        self._meeting.barrier.wait()
        return values

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks on rank 0."""
        values = self.allgather(value)
        return values if self.rank == 0 else None

    def broadcast(self, value: T) -> T:
        """Rank 0's value: the very same object."""
        return self.allgather(value)[0]

    def node_ranks(self) -> list[int]:
        return sorted(next(node for node in self._nodes if self.rank in node))

    def node_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NodeArray:
        """The array of the node's first rank.  Threads see each other's memory; in a fence they only wait."""
        if self._node is None:
            self._node = self.split(min(self.node_ranks()))
        node = self._node
        array = node.broadcast(np.empty(shape, dtype) if node.rank == 0 else None)
        assert array is not None
        barrier = node._meeting.barrier
        return NodeArray(array, node.rank, node.size, fence=barrier.wait, check=barrier.check)

    def node_copies(self, size: int) -> int:
        """That of the node's first rank."""
        return 1

    def split(self, color: int) -> ThreadRank:
        """Threads that meet elsewhere."""
        colors = self.allgather(color)
        members = [rank for rank, other in enumerate(colors) if other == color]
        meeting = self.allgather(self._meeting.part(len(members)) if self.rank == members[0] else None)[members[0]]
        assert meeting is not None
        nodes = [[members.index(rank) for rank in node if rank in members] for node in self._nodes]
        return ThreadRank(members.index(self.rank), meeting, [node for node in nodes if node])

    def patiently(self, pause: Callable[[], None]) -> ThreadRank:
        """Threads that meet elsewhere; a waiting thread takes no core from the others."""
        return self.split(0)

    def scope(self) -> ThreadRank:
        """Threads that meet elsewhere."""
        return self.split(0)

    def close(self) -> None:
        """Nobody meets there any more; the rest is given back by Python."""
        if self.rank == 0:
            self._meeting.leave()

    def describe(self) -> str:
        return f"{self.size} simulated ranks (threads)"


class Barrier:
    """Threads wait here for each other, again and again, until it is broken.

    A wait for which all threads had come ends well, also where the barrier is broken before they have all gone on.
    `threading.Barrier` would let the slower ones believe that nobody had come, though all ranks know the result.  Each
    thread waits at a gate of its own: once that is open it goes on, and does not queue for a lock with the others.
    """

    def __init__(self, size: int) -> None:
        self._size, self._is_broken = size, False
        self._changing, self._gates = threading.Lock(), list[_Gate]()

    def wait(self) -> None:
        """Waits for all threads.  Raises BrokenBarrierError where the barrier is broken before they have come."""
        with self._changing:
            if self._is_broken:
                raise threading.BrokenBarrierError
            if len(self._gates) + 1 == self._size:
                self._open(have_all_come=True)
                return
            gate = _Gate()
            self._gates.append(gate)
        gate.wait()
        if not gate.have_all_come:
            raise threading.BrokenBarrierError

    def check(self) -> None:
        """Raises BrokenBarrierError where it is broken."""
        if self._is_broken:
            raise threading.BrokenBarrierError

    def abort(self) -> None:
        """Breaks it."""
        with self._changing:
            self._is_broken = True
            self._open(have_all_come=False)

    def _open(self, *, have_all_come: bool) -> None:
        gates, self._gates = self._gates, []
        for gate in gates:
            gate.open(have_all_come)


class _Gate:
    """Where one thread waits."""

    def __init__(self) -> None:
        self.have_all_come, self._closed = False, threading.Lock()
        self._closed.acquire()

    def wait(self) -> None:
        self._closed.acquire()

    def open(self, have_all_come: bool) -> None:
        self.have_all_come = have_all_come
        self._closed.release()


class _Meeting:
    """What the threads share."""

    def __init__(self, size: int, whole: _Meeting | None = None) -> None:
        self.values: list[Any] = [None] * size
        self.barrier = Barrier(size)
        self._whole, self._parts = whole, list[_Meeting]()

    def part(self, size: int) -> _Meeting:
        """A meeting of some of the threads."""
        part = _Meeting(size, self)
        self._parts.append(part)
        return part

    def leave(self) -> None:
        """Nobody will wait here: it need not be aborted any more."""
        if self._whole and self in self._whole._parts:
            self._whole._parts.remove(self)

    def abort(self) -> None:
        """Nobody is left waiting."""
        self.barrier.abort()
        for part in list(self._parts):
            part.abort()


def run_threads(
    size: int, function: Callable[[Communicator], T], nodes: Sequence[Sequence[int]] | None = None
) -> list[T]:
    """Calls function(communicator) in `size` threads that stand in for ranks; returns the results by rank.

    `nodes`: which of them stand in for ranks on one node, and share memory; without it all of them do.

    When one raises, the others are released from their barrier and the first error is raised here.
    """
    meeting = _Meeting(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            results[rank] = function(ThreadRank(rank, meeting, nodes))
        except threading.BrokenBarrierError:
            pass  # another rank failed, and its error is the one to show
        except BaseException as error:
            errors.append(error)
            meeting.abort()

    threads = [threading.Thread(target=work, args=(rank,), name=f"rank {rank}", daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)  # a wait without end would not let signal handlers run
    except BaseException:
        meeting.abort()
        raise
    if errors:
        raise errors[0]
    return results


def on_first(communicator: Communicator, action: Callable[[], T]) -> T | None:
    """Calls action() on rank 0 alone, and returns its result there, None elsewhere.

    If it raises a DistbpError, every rank raises it, marked as agreed.
    """
    result, failure = None, None
    try:
        result = action() if communicator.rank == 0 else None
    except DistbpError as error:
        failure = error
    failure = communicator.broadcast(failure)
    if failure is not None:
        failure.agreed = True
        raise failure
    return result


def on_first_patiently(
    communicator: Communicator, action: Callable[[Callable[[], None]], T], pulse: Callable[[], None]
) -> T | None:
    """As `on_first`, for what may take minutes: action(beat) calls `beat` again and again, and all ranks then `pulse`.

    Where a rank's `pulse` raises a DistbpError, all ranks raise it when the action has ended, marked as agreed.
    """
    result, failure = None, None
    try:
        if communicator.rank == 0:

            def beat() -> None:
                communicator.broadcast(True)
                pulse()

            result = action(beat)
    except DistbpError as error:
        failure = error
    if communicator.rank == 0:
        communicator.broadcast(False)
    else:
        while communicator.broadcast(False):
            try:
                pulse()
            except DistbpError as error:
                failure = error

    def raise_failure() -> None:
        if failure:
            raise failure

    on_first(communicator, raise_failure)
    agree(communicator, raise_failure)
    return result


def from_first(communicator: Communicator, action: Callable[[], T]) -> T:
    """What action() returns on rank 0, on all ranks; its DistbpError too (see `on_first`)."""
    return communicator.broadcast(on_first(communicator, action))  # type: ignore[return-value]


def agree(communicator: Communicator, action: Callable[[], T]) -> T:
    """Calls action() on this rank; returns its result if it succeeded on every rank.

    Otherwise every rank raises the error of the first rank that failed, marked as agreed: so rank 0 can print it once
    and the job can end in order; where not all ranks have that error, it names rank and node.  Other exceptions than
    DistbpError are bugs and are not caught.
    """
    result, failure = None, None
    try:
        result = action()
    except DistbpError as error:
        failure = error, socket.gethostname()
    failures = communicator.allgather(failure)
    for rank, failed in enumerate(failures):
        if failed is not None:
            first, host = failed
            everywhere = all(other is not None and str(other[0]) == str(first) for other in failures)
            agreed = type(first)(str(first) if everywhere else f"rank {rank} ({host}): {first}")
            agreed.agreed = True
            agreed.may_pass = all(other[0].may_pass for other in failures if other is not None)
            raise agreed
    return result  # type: ignore[return-value]
