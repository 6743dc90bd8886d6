"""What must be the same on all ranks, compared before anything is done: version, options, and the data files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from distbp import __version__
from distbp.errors import DataError, LaunchError, UsageError
from distbp.ranks.communicator import Communicator, agree
from distbp.settings.config import Config, as_dict, flag


def check_version(comm: Communicator) -> None:
    """Raises LaunchError, agreed, where another rank runs another version of distbp."""
    first = comm.broadcast(__version__)

    def check() -> None:
        if first != __version__:
            raise LaunchError(
                f"runs distbp {__version__}, and rank 0 distbp {first}; all nodes need the same installation"
            )

    agree(comm, check)


def check_command(comm: Communicator, own: str) -> None:
    """Raises UsageError, agreed, where another rank runs another command: mpirun … distbp train : … distbp evaluate."""
    first = comm.broadcast(own)

    def check() -> None:
        if own != first:
            raise UsageError(
                f"runs distbp {own}, and rank 0 distbp {first}; the ranks of a job work on one command: start each "
                "with an mpirun of its own"
            )

    agree(comm, check)


def check_alike(comm: Communicator, config: Config, resume_with: Mapping[str, Any] | None) -> None:
    """Raises UsageError, agreed, where another rank was given other options, or has another configuration file."""
    own = {"resume": resume_with is not None, **as_dict(config), **(resume_with or {})}
    check_options(comm, {flag(name): value for name, value in own.items()})


def check_options(comm: Communicator, own: Mapping[str, Any]) -> None:
    """Raises UsageError, agreed, where another rank was given other options, by their names on the command line."""
    first = comm.broadcast(own)

    def check() -> None:
        for name in sorted(own.keys() | first.keys()):
            if own.get(name) != first.get(name):
                raise UsageError(
                    f"{name} is {own.get(name)!r}, and on rank 0 {first.get(name)!r}; all ranks need the same "
                    "options and configuration file"
                )

    agree(comm, check)


def compare_files(comm: Communicator, files: list[str], note: Callable[[str], None]) -> None:
    """Raises DataError, agreed, where a node sees other files than rank 0: absent ones, or of another size.

    Another time of change is told to the user: copies have one, and so do files that were written anew.  One rank of
    each node looks.
    """
    looks = comm.rank == comm.node_ranks()[0]
    own = [_look(file) for file in files] if looks else []
    first = comm.broadcast(own)

    def check() -> None:
        for file, here, there in zip(files, own, first, strict=False):
            if here[0] != there[0]:
                mine, its = (
                    f"has {size} bytes" if size is not None else "is not there" for size in (here[0], there[0])
                )
                raise DataError(f"{file}: {mine}, and on rank 0 it {its}; data must be the same on all nodes")

    agree(comm, check)
    differ = comm.allgather(own != first[: len(own)])
    if comm.rank == 0 and any(differ):
        other = differ.index(True)
        note(f"note      rank {other} sees data files with other times of change than rank 0: copies, it is hoped")


def _look(file: str) -> tuple[int | None, int]:
    """Size, None where there is no file, and time of change."""
    try:
        status = os.stat(file)
    except OSError:
        return None, 0
    return status.st_size, status.st_mtime_ns
