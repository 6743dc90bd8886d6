"""in_turn.py DIRECTORY: runs the commands of distbp in DIRECTORY/commands, one a line (JSON), in one process or job.

So the ranks are started once for several commands.  Each command runs from `distbp.__main__.main` on, as if it were the
only one.  What rank R prints in command C is in DIRECTORY/C-R.out and C-R.err; C-R.code has its exit code, and is not
there if the command has ended the job.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from distbp.__main__ import main
from distbp.ranks import launch, mpi

made: list[mpi.MPIRank] = []
world = mpi.world


def remembered_world(*arguments: Any) -> mpi.MPIRank:
    """As `world`; what is made of the communicator is given back after the command, and not at the end of the job."""
    made.append(world(*arguments))
    return made[-1]


def run(directory: Path, number: int, command: list[str]) -> None:
    """One command; its exit code is written when all ranks may go on to the next one."""
    rank = launch.Launch(os.environ).rank
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(directory / f"{number}-{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv[1:] = command
    try:
        main()
    except SystemExit as done:
        while made:
            made.pop().close()
        (directory / f"{number}-{rank}.code").write_text(f"{done.code or 0}")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    mpi.world = remembered_world
    launch.LINGER_SECONDS = 0.0  # the end of a job, which is not here
    for number, line in enumerate((place / "commands").read_text().splitlines()):
        run(place, number, json.loads(line))
