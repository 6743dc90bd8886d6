"""A watch over the wait for the other ranks while MPI starts.

MPI_Init comes back when all ranks are there, and until then it spins in C: where one has ended before it came to MPI
(its program was not found, `module load` failed on its node) the others wait for ever, no handler of Python runs, and
mpi4py may hold Python's lock.  So a rank forks a small process at its first line, before MPI is loaded, which is told
what the rank waits for, and which signals came (the handlers of Python in C write them to its pipe).  It speaks when
the time is over; `faulthandler`, which needs no lock, then ends the rank with code 1.  Once MPI runs, the process ends.
"""

from __future__ import annotations

import errno
import faulthandler
import math
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NoReturn

from distbp.errors import UsageError
from distbp.ranks.job import HYDRA, job_of

VARIABLE = "DISTBP_WAIT_SECONDS"
WAIT_SECONDS = 120.0
LONGEST_SECONDS = 1e9
# The first rank that waits speaks, and its end ends the job before the next does; of many, nearly so.
FIRST_TURNS, TURN_SECONDS, LAST_TURNS, SHORT_TURN_SECONDS = 16, 1.0, 176, 0.25
LAST_SIGNAL_TURN_SECONDS = 5.0
LET_GO_SECONDS = 3.0  # after a signal, for a start that is about to come to its end
AGAIN_SECONDS = 0.5  # launchers may send a signal twice
ENDING_SECONDS = 0.3  # for the words to pass the launcher
QUIET_SECONDS = 3.0  # for other ranks of the node, after one has spoken
LOADING, INITIALIZING, MEETING = PHASES = (0x80, 0x81, 0x82)  # bytes in the pipe, beside the numbers of signals
WAITING = {
    LOADING: ("for the MPI library to be loaded", "the file system that it is on does not answer"),
    INITIALIZING: (
        "in MPI_Init for ranks that have not come",
        "one has ended before it came there (program not found, `module load` failed on its node), is no rank of "
        "distbp, or its node does not answer; or ranks of a node are in containers of their own (MPICH: then set "
        "MPIR_CVAR_NOLOCAL=1)",
    ),
    MEETING: ("for ranks that have started MPI and do not answer", "one hangs, or the network between the nodes does"),
}
MEND = (
    "look at what the launcher and other ranks say, and start `hostname`, then `distbp doctor`, in the same way; "
    f"a start that is only slow: {VARIABLE}=600 (seconds; 0: no limit)"
)


def wait_seconds(environ: Mapping[str, str]) -> float:
    """How long a rank waits for the others when MPI starts and ends; 0: for ever.  Raises UsageError."""
    text = environ.get(VARIABLE, "").strip()
    try:
        seconds = float(text or WAIT_SECONDS)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise UsageError(f"{VARIABLE}={text[:40]}: expected seconds, {WAIT_SECONDS:g} if it is not set, 0 for no limit")
    return seconds


def hydra(environ: Mapping[str, str]) -> int:
    """The descriptor over which Hydra, the mpirun of MPICH, hears what a rank says (PMI); -1: another launcher."""
    descriptor = environ.get("PMI_FD", "")
    return int(descriptor) if descriptor.isdecimal() and job_of(environ).launcher == HYDRA else -1


def end_job(launcher: int, code: int) -> None:
    """Tells Hydra to end all ranks, as an MPI library does that calls PMI_Abort; `launcher`: see `hydra`."""
    with suppress(OSError):
        os.write(launcher, f"cmd=abort exitcode={code}\n".encode())


def turn(rank: int) -> float:
    """So many seconds later than rank 0 a rank says that it waits."""
    last = min(max(0, rank - FIRST_TURNS), LAST_TURNS)
    return min(rank, FIRST_TURNS) * TURN_SECONDS + last * SHORT_TURN_SECONDS


class StartWatch:
    """From its making to the end of its block, over the thread that makes it."""

    def __init__(self, rank: int, size: int | None, seconds: float) -> None:
        """`seconds` in each phase, 0: for ever."""
        self._seconds = seconds + turn(rank) if seconds else math.inf
        self._null = os.open(os.devnull, os.O_WRONLY)
        read, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        parent, job = os.getpid(), os.environ.get("PMIX_NAMESPACE", f"{os.getppid()}")
        try:
            self._watcher = os.fork()
        except OSError:  # no more processes for this user: then faulthandler alone, with a stack in the place of words
            self._watcher = -1
        if self._watcher == 0:
            try:
                os.close(self._pipe)
                who = f"rank {rank}{f' of {size}' if size else ''} on {socket.gethostname()}"
                _Watcher(read, parent, job, who, turn(rank), hydra(os.environ)).watch(self._seconds)
            finally:
                os._exit(0)
        os.close(read)

    def waits(self, phase: int) -> None:
        """What the rank waits for from now on."""
        with suppress(OSError):  # the watcher was ended by someone
            os.write(self._pipe, bytes([phase]))
        if self._seconds < math.inf:
            later, words = self._seconds + ENDING_SECONDS, self._null if self._watcher > 0 else 2
            faulthandler.dump_traceback_later(later, exit=True, file=words)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals go to the watcher."""
        before = signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def __enter__(self) -> StartWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        faulthandler.cancel_dump_traceback_later()
        for descriptor in (self._pipe, self._null):
            os.close(descriptor)
        if self._watcher > 0:
            with suppress(OSError):  # has ended, and someone has asked for it
                os.kill(self._watcher, signal.SIGKILL)
                os.waitpid(self._watcher, 0)


class _Watcher:
    """In the small process."""

    def __init__(self, pipe: int, parent: int, job: str, who: str, turn: float, launcher: int) -> None:
        """`job`: the same for all ranks that the launcher has started on this node; `launcher`: see `hydra`."""
        self._launcher = launcher
        self._pipe, self._parent, self._who, self._turn = pipe, parent, who, turn
        self._phase, self._phase_ends, self._asked_at, self._asked = LOADING, math.inf, math.inf, 0
        self._job, self._bytes = job, b""
        self._let_go = LET_GO_SECONDS + min(turn, LAST_SIGNAL_TURN_SECONDS)

    def watch(self, seconds: float) -> NoReturn:
        """Until the rank closes the pipe, or has ended."""
        self._leave_all_else_alone()
        while True:
            now = time.monotonic()
            if now > self._phase_ends:
                self._end(f"error: {self._who} has waited {seconds - self._turn:g} s {self._why()}", 1)
            if now > self._asked_at + self._let_go:
                name = signal.Signals(self._asked).name
                self._end(f"{self._who} was told to end ({name}) and waits {self._why()}", 0)
            left = min(self._phase_ends, self._asked_at + self._let_go) - now
            for byte in self._heard(left):
                if byte in PHASES:
                    self._phase, self._phase_ends = byte, time.monotonic() + seconds
                elif self._asked and time.monotonic() > self._asked_at + AGAIN_SECONDS:
                    self._asked_at = -math.inf
                elif not self._asked:
                    self._asked, self._asked_at = byte, time.monotonic()

    def _leave_all_else_alone(self) -> None:
        """Signals to the group of the rank, and what it has opened: a launcher waits for all to close its pipes."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(self._pipe, 0)
        os.dup2(2, 1)
        self._pipe = 0
        with suppress(OSError):  # where the system does not list them, they stay
            for name in os.listdir("/proc/self/fd"):
                if int(name) > 2 and int(name) != self._launcher:
                    with suppress(OSError):
                        os.close(int(name))

    def _heard(self, seconds: float) -> bytes:
        """What comes within so many seconds; ends where the rank has closed the pipe."""
        if not self._is_alive(seconds):
            os._exit(0)
        return self._bytes

    def _is_alive(self, seconds: float) -> bool:
        """Whether the rank still is, when something has come from it or so many seconds are over."""
        ready, _, _ = select.select([self._pipe], [], [], max(0.0, seconds) if seconds < LONGEST_SECONDS else None)
        self._bytes = os.read(self._pipe, 64) if ready else b""
        return not ready or bool(self._bytes)

    def _why(self) -> str:
        what, reason = WAITING[self._phase]
        return f"{what}: {reason}. The job ends\n{MEND}"

    def _end(self, words: str, patience: int) -> NoReturn:
        """Speaks for the ranks of its node, and ends its own where that has not ended so many seconds later."""
        speaks = self._is_first_to_speak()
        if speaks:
            os.write(2, f"distbp: {words}\n".encode(errors="replace"))
        end = time.monotonic() + ENDING_SECONDS + patience
        while (left := end - time.monotonic()) > 0 and self._is_alive(left):
            pass
        if os.getppid() == self._parent:
            os.kill(self._parent, signal.SIGKILL)
        end_job(self._launcher, 1)  # it does not always end the others by itself
        if speaks:  # until the launcher has ended the others; it does not wait for this process
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(1, 2)
            time.sleep(QUIET_SECONDS)
        os._exit(0)

    def _is_first_to_speak(self) -> bool:
        """Of the ranks that one process of the launcher has started on this node.

        A name without a file, as long as this process lives; where the system has none, each speaks.
        """
        name = f"\0distbp waits, {self._job}"
        self._name = socket.socket(socket.AF_UNIX)
        try:
            self._name.bind(name.encode())
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True
