"""fault.py PLACE RANK HOW ARGUMENTS…: runs `distbp ARGUMENTS`, in which one rank comes to harm at a place.

PLACE, and on which call of it: see PLACES; to "before MPI" and "MPI_Init" the others come a second later.  RANK: its
number, or "all".
HOW: "bug" (an exception nobody expects), "memory" (MemoryError), "hang" (it does not come back, and leaves a file
`hangs`), "exit0" and "exit1" (it ends without a word), "clock+7200" (its clock jumps by so many seconds, which wants
the library of jumping_clock.c), or the name of a signal that the rank sends to itself; or two of them, with a comma.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")  # of MPICH, of Open MPI, of srun --mpi=pmix
PLACES = {  # module, class, function, the call that goes wrong
    "before MPI": ("distbp.ranks.launch", "Launch", "connect", 1),
    "MPI_Init": ("distbp.ranks.launch", "Launch", "_check", 1),
    "before MPI_Finalize": ("distbp.ranks.mpi", "MPIRank", "end", 1),
    "reading": ("distbp.data.split", None, "_read_checked", 2),
    "loading": ("distbp.data.split", None, "_read_checked", 1),
    "measuring": ("distbp.data.scaling", "Extremes", "add", 1),
    "step": ("distbp.engine.shard_gradient", "ShardGradient", "__call__", 15),
    "call": ("distbp.engine.compiled_engine", "CompiledEngine", "_advance", 4),  # of C, which takes several steps
    "exchange": ("distbp.engine.exchange", "Exchange", "__call__", 15),
    "prefetch": ("distbp.data.row_loader", "RowLoader", "_read", 2),
    "validation": ("distbp.engine.evaluate", "Evaluation", "_sums", 2),
    "prediction": ("distbp.prediction.predict", "_Outputs", "__call__", 2),
    "writing": ("distbp.prediction.predict", "_NewPredictions", "write", 2),
    "checkpoint": ("distbp.training.run_directory", "RunDirectory", "save", 3),
    "stepped": ("distbp.engine.epoch_sums", "EpochSums", "add", 15),  # behind an update, with any engine
    "update": ("distbp.mathematics.optimizers.adam", "Adam", "update", 15),
}


def harm(how: str) -> None:
    """On this rank, now."""
    if "," in how:
        for one in how.split(","):
            harm(one)
        return
    if how.startswith("clock"):
        ctypes.CDLL(None).jump_clock(ctypes.c_long(int(how.removeprefix("clock"))))
        return
    if how == "bug":
        raise ZeroDivisionError("a bug, put here by a test")
    if how == "memory":
        raise MemoryError("no room, says a test")
    if how == "hang":
        Path("hangs").touch()
        time.sleep(600)
    if how == "late":
        time.sleep(1)
        return
    if how.startswith("exit"):
        os._exit(int(how.removeprefix("exit")))
    os.kill(os.getpid(), signal.Signals[how])


def harm_later(how: str) -> None:
    """While this thread is in C."""
    threading.Timer(0.3, harm, [how]).start()


def arrange(place: str, how: str) -> None:
    """Puts the fault where it belongs."""
    module, owner, name, fatal = PLACES[place]
    __import__(module)
    holder: Any = sys.modules[module] if owner is None else getattr(sys.modules[module], owner)
    function: Callable[..., Any] = getattr(holder, name)
    done = 0  # calls; where one is told of several steps, these

    def faulty(*arguments: Any, **words: Any) -> Any:
        nonlocal done
        before, done = done, done + (len(arguments[1]) if place == "stepped" else 1)
        if before < fatal <= done:
            (harm_later if place == "MPI_Init" and how != "late" else harm)(how)
        return function(*arguments, **words)

    setattr(holder, name, faulty)


if __name__ == "__main__":
    place, rank, how = sys.argv[1:4]
    sys.argv[1:4] = []
    if rank in ("all", next((os.environ[name] for name in RANKS if name in os.environ), "0")):
        arrange(place, how)
    elif place in ("before MPI", "MPI_Init"):
        arrange(place, "late")
    from distbp.__main__ import main

    main()
