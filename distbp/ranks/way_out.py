"""The last meeting of all ranks, before MPI_Finalize, which would wait for one that has died or hangs, for ever."""

from __future__ import annotations

import signal
import socket
import time
from typing import Any

from distbp.ranks.start_watch import VARIABLE, turn

SHORT, LONG = 1e-5, 1e-3  # seconds between two looks
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
UNUSUAL_SECONDS = 1.0  # of waiting; then a signal ends the process, which until then would be remembered only


def why_not_all_came(comm: Any, seconds: float) -> str:
    """Waits for all ranks of an MPI communicator, at most so many seconds (0: for ever); what to say if one is missing.

    No rank is kept waiting by one that has left: who comes last lets all others go.
    """
    started = time.monotonic()
    limit = seconds + turn(comm.rank) if seconds else float("inf")
    pause, is_unusual = SHORT, False
    request = comm.Ibarrier()
    while not request.Test():
        waited = time.monotonic() - started
        if waited > limit:
            return (
                f"rank {comm.rank} of {comm.size} on {socket.gethostname()} has done its work, and has waited "
                f"{seconds:g} s for ranks that do not come to the end of theirs: one has died or hangs. The job ends\n"
                "what was said to be done is done; where the last work of a rank takes so long: "
                f"{VARIABLE}=600 (seconds; 0: no limit)"
            )
        if waited > UNUSUAL_SECONDS and not is_unusual:
            is_unusual = True
            _let_signals_end_it()
        time.sleep(pause)
        pause = min(2 * pause, LONG)
    return ""


def _let_signals_end_it() -> None:
    for number in SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
