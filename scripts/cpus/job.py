"""What scripts/any_cpu runs on each rank of one configuration: small trainings, one after another.

job.py TASKS STEP OUT THREADS STAGE: TASKS is a file of them; STEP the compiled step; OUT a directory for runs that are
resumed, or "-".  STAGE: "whole"; "begin" leaves a checkpoint of every step; "resume" removes those behind some step, as
if the run had been killed there, and goes on.  Rank 0 prints NAME DIGEST for each: of parameters, losses and scores of
all epochs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import traceback
import zlib
from pathlib import Path
from typing import Any

import numpy as np

TRAINING, VALIDATION, INPUTS = 53, 21, 9
RANKS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # set by mpirun


def samples(kind: str, first: int, count: int) -> tuple[Any, Any]:
    """Numbers made of whole ones by + - × ÷ alone; `kind`: "2" or "3" classes, or "values" or "shares" of 3 targets."""
    i, k = np.arange(first, first + count)[:, None], np.arange(INPUTS)
    x = ((37 * i + 101 * k + i * i * (k + 3)) % 251 - 125) / np.float32(100)
    if kind in ("2", "3"):
        return x, (np.floor(x[:, 0] * 3 + x[:, 1]).astype(np.int64) + i[:, 0] % 2) % int(kind)
    y = x[:, :3] * x[:, 3:6] - x[:, 6:9] / 2
    return x, y if kind == "values" else 1 / (1 + y * y)


def digest(run: Any) -> str:
    """Of all that a run has computed."""
    found = hashlib.sha256(run.digest.encode())
    for name in sorted(run.history):
        if name.startswith(("train_", "validation_")) and "seconds" not in name:
            found.update(run.history[name].tobytes())
    return found.hexdigest()


def forget(directory: Path, name: str) -> None:
    """Removes the checkpoints behind one of them, which depends on the name of the task."""
    checkpoints = sorted(directory.glob("checkpoint-*.h5"))
    for path in checkpoints[1 + zlib.crc32(name.encode()) % len(checkpoints) :]:
        path.unlink()


def train(task: dict[str, Any], comm: Any, out: Path | None, stage: str) -> Any:
    """The run of a task."""
    import distbp

    words: dict[str, Any] = dict(task["options"])
    if out:
        words |= {"out": out / task["name"], "resume": stage == "resume"}
        if stage == "begin":
            words |= {"checkpoint_minutes": 1e-9, "keep": 1000}
            if comm is None or comm.rank == 0:
                shutil.rmtree(out / task["name"], ignore_errors=True)
        elif comm is None or comm.rank == 0:
            forget(out / task["name"], task["name"])
        if comm is not None:
            comm.Barrier()
    if task["data"] != "digits":
        words |= {"data": samples(task["data"], 0, TRAINING), "validation": samples(task["data"], TRAINING, VALIDATION)}
    return distbp.train(comm=comm, **words)


def main() -> int:
    """Trains them all; the exit code."""
    tasks, step, out, threads, stage = sys.argv[1:]
    from distbp.engine import compiled_net
    from distbp.engine.native import library

    library.LIBRARY, compiled_net.LEAST_WORK = Path(step), 0  # small networks have threads, too
    comm = None
    if any(name in os.environ for name in RANKS):
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    try:
        for task in json.loads(Path(tasks).read_text()):
            task["options"]["threads"] = int(threads)
            found = digest(train(task, comm, None if out == "-" else Path(out), stage))
            if comm is None or comm.rank == 0:
                print(task["name"], found, flush=True)
    except BaseException:
        traceback.print_exc()
        if comm is not None:
            comm.Abort(1)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
