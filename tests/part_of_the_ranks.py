"""A program with an MPI of its own: two of its three ranks train with distbp while the third does something else.

Usage: mpirun -n 3 python part_of_the_ranks.py DATA.h5.  Prints, on rank 0, a line for each thing that was found.
"""

import os
import signal
import sys

import numpy as np
from mpi4py import MPI

import distbp

OPTIONS = {"hidden": [8], "epochs": 3, "reproducible": True, "grain": 4}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def main(data: str) -> None:
    world = MPI.COMM_WORLD
    part = world.Split(0 if world.rank < 2 else 1)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    found: dict[str, object] = {}
    if world.rank < 2:
        run = distbp.train(data, comm=part, **OPTIONS)
        before = open_files()
        for _ in range(5):
            again = distbp.train(data, comm=part, **OPTIONS)
        found["open files"] = open_files() - before
        found["digest"] = run.digest
        found["same again"] = again.digest == run.digest
        found["scores"] = distbp.evaluate(run.model(), data, comm=part).loss == run.best["validation_loss"]
        x, y = distbp.open_dataset(data)["train"].read()
        arrays = distbp.train((x, y), comm=part, **OPTIONS)
        found["arrays"] = arrays.digest == run.digest
        found["network"] = run.model().predict(x[:5]).shape
        try:
            distbp.train((x + part.rank, y), comm=part, **OPTIONS)
        except distbp.DataError as error:
            found["other arrays"] = str(error)

        def fails(row: dict[str, float]) -> None:
            if part.rank == 1:
                raise ValueError("of the caller")

        try:
            distbp.train(data, comm=part, on_epoch=fails, **OPTIONS)
        except (ValueError, distbp.DistbpError) as error:
            found["callback"] = f"{type(error).__name__}: {error}"
        stopped = distbp.train(data, comm=part, on_epoch=lambda row: "stop" if part.rank else None, **OPTIONS)
        found["stopped"] = len(stopped.history["epoch"])
    else:
        found["other work"] = float(np.ones(10).sum())
    found["handlers"] = handlers == [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    ]
    for rank, one in enumerate(world.gather(found) or ()):
        for name, value in one.items():
            sys.stdout.write(f"{rank} {name}: {value}\n")
    part.Free()


main(sys.argv[1])
