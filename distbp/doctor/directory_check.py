"""Can results be written to a directory, safely and soon, and do all nodes see them?  Every step has a time limit."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from distbp.doctor.findings import FAIL, OK, WARN, Finding
from distbp.files.new_file import replace_synced
from distbp.ranks.communicator import Communicator
from distbp.ranks.node_memory import in_units
from distbp.ranks.time_limit import within

SECONDS = 10.0  # for each step
SIGHT_SECONDS = 5.0  # until a new file must be seen on other nodes
SPEED_BYTES = 16 * 2**20
SLOW = 20 * 2**20  # bytes a second
FEW = 2**30  # bytes free
WHAT = "directory"


def check_directory(comm: Communicator, out: Path) -> list[Finding]:
    """What this rank finds: rank 0 writes, and one rank of each node looks whether it sees that."""
    there = comm.broadcast(_limited(lambda: str(existing(out)), comm.rank == 0))
    if isinstance(there, Finding):
        return [there] if comm.rank == 0 else []
    directory = Path(there or ".")
    found: list[Finding] = []
    if comm.rank == 0:
        made = "" if directory == out.absolute() else f", in which {out} will be made"
        found = [*_tried(lambda: _safe_writing(directory, made)), *_tried(lambda: _space(directory))]
        for step in (_locking, _speed):
            if all(finding.level != FAIL for finding in found):
                found += _tried(lambda step=step: step(directory))  # type: ignore[misc]
    return [*found, *_sight(comm, directory)]


def existing(out: Path) -> Path:
    """The directory, or the nearest one above it that is there."""
    return next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())


def _tried(step: Callable[[], Finding]) -> list[Finding]:
    found = _limited(step)
    return [found] if isinstance(found, Finding) else []


def _limited(step: Callable[[], Finding | str], mine: bool = True) -> Finding | str | None:
    """What a step finds, or that it failed or took too long."""
    if not mine:
        return None
    try:
        return within(SECONDS, step)
    except TimeoutError as error:
        return Finding(FAIL, WHAT, f"the file system does not answer: {error}", "another --out; tell those who run it")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Finding(FAIL, WHAT, f"{where}{error.strerror}", _mend(error))


def _mend(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room, or choose another directory with --out"
    return "choose a directory with --out where you may write"


def _own_file(directory: Path, what: str) -> Path:
    return directory / f".distbp-doctor-{what}-{secrets.token_hex(4)}.tmp"


def _safe_writing(directory: Path, made: str) -> Finding:
    """A file written, synced, renamed, and its name synced: as checkpoints are."""
    first, second = _own_file(directory, "new"), _own_file(directory, "renamed")
    try:
        first.write_bytes(b"distbp\n")
        replace_synced(first, second)
        if second.read_bytes() != b"distbp\n":
            return Finding(FAIL, WHAT, f"{directory}: a file does not hold what was written", "another --out")
    finally:
        for path in (first, second):
            path.unlink(missing_ok=True)
    return Finding(OK, WHAT, f"{directory}{made}: files can be created, synced and renamed")


def _space(directory: Path) -> Finding:
    status = os.statvfs(directory)
    if status.f_blocks == 0:
        return Finding(WARN, "space", "unknown: this file system does not say how much is free")
    free = status.f_bavail * status.f_frsize
    level = FAIL if free < SPEED_BYTES else WARN if free < FEW else OK
    return Finding(level, "space", f"{in_units(free)} free", "" if level == OK else "make room, or another --out")


def _locking(directory: Path) -> Finding:
    """A lock such as HDF5 takes on data files."""
    setting = os.environ.get("HDF5_USE_FILE_LOCKING", "")
    said = f"HDF5_USE_FILE_LOCKING={setting}" if setting else "HDF5_USE_FILE_LOCKING is not set"
    path = _own_file(directory, "lock")
    try:
        with open(path, "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                is_off = setting.upper() in ("FALSE", "0", "BEST_EFFORT")
                mend = "" if is_off else "HDF5_USE_FILE_LOCKING=FALSE in the environment of all ranks, if data are here"
                return Finding(OK if is_off else WARN, "file locks", f"none here: {error.strerror}; {said}", mend)
    finally:
        path.unlink(missing_ok=True)
    return Finding(OK, "file locks", f"work here; {said}")


def _speed(directory: Path) -> Finding:
    path, block = _own_file(directory, "speed"), secrets.token_bytes(2**20)  # no file system can make it smaller
    try:
        started = time.perf_counter()
        with open(path, "wb") as file:
            for _ in range(SPEED_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        rate = SPEED_BYTES / (time.perf_counter() - started)
    finally:
        path.unlink(missing_ok=True)
    slow = rate < SLOW
    mend = "checkpoints will take long, and so be rare: choose another --out" if slow else ""
    return Finding(WARN if slow else OK, "write speed", f"{in_units(rate)}/s, {in_units(SPEED_BYTES)} synced", mend)


def _sight(comm: Communicator, directory: Path) -> list[Finding]:
    """Rank 0 writes a token, and one rank of each node reads it."""
    nodes = len({min(ranks) for ranks in comm.allgather(comm.node_ranks())})
    path, token = comm.broadcast((_own_file(directory, "token"), secrets.token_hex(16)))
    written = comm.broadcast(_limited(lambda: _write(path, token), comm.rank == 0))
    seen = True
    if written == token and comm.rank == min(comm.node_ranks()):
        seen = _limited(lambda: _wait_for(path, token)) == token
    everyone = comm.allgather(seen)
    if comm.rank == 0:
        _limited(lambda: _remove(path))
    if written != token:
        return []  # said already
    if not seen:
        mend = "choose an --out that all nodes see (data and configuration too must be seen by all)"
        return [Finding(FAIL, "seen by nodes", f"{directory}: a file that rank 0 wrote is not seen here", mend)]
    if comm.rank > 0 or not all(everyone):
        return []
    return [Finding(OK, "seen by nodes", f"a file of rank 0 is seen on {nodes} node{'s' * (nodes > 1)}")]


def _write(path: Path, token: str) -> str:
    path.write_text(token)
    return token


def _wait_for(path: Path, token: str) -> str:
    until = time.monotonic() + SIGHT_SECONDS
    while time.monotonic() < until:
        try:
            if path.read_text() == token:
                return token
        except OSError:
            pass
        time.sleep(0.05)
    return ""


def _remove(path: Path) -> str:
    path.unlink(missing_ok=True)
    return ""
