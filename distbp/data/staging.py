"""Data files copied to a directory of each node, where all its ranks read them: for shared file systems that are slow.

Rank 0 alone reads the files; the first rank of each node gets what it has read, and writes it.  Where a file could not
be read or written on a node, and the reason may pass, it is copied anew to all nodes.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

from distbp.data.data_file import check_is_file
from distbp.errors import DataError, DistbpError
from distbp.files.new_file import sync
from distbp.files.patience import is_passing, patiently
from distbp.files.write_failure import why_not_written
from distbp.files.write_patience import failure
from distbp.ranks.communicator import Communicator, agree, from_first
from distbp.ranks.node_memory import in_units
from distbp.ranks.stop import Pulse
from distbp.ranks.written_together import written_together

PREFIX = "distbp-staged-"
LOCK = "lock"  # held while the copies are read
CHUNK = 16 * 2**20
CHOOSE = "; choose another directory"
SPARE = 64 * 2**20  # bytes that stay free


class Staging:
    """Copies in a new directory below `parent`, which is removed at the end of the `with` block."""

    def __init__(self, comm: Communicator, parent: str) -> None:
        self._comm, self._parent = comm, Path(parent)
        self._where = f"--stage-to {parent}"
        self._first = comm.node_ranks()[0]
        self._is_first = comm.rank == self._first
        self._directory: Path | None = None
        self._lock = -1
        self._originals: dict[str, str] = {}  # of the copies on all nodes

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Errors speak of the files themselves: the copies are gone when they are read."""
        if isinstance(error, DistbpError):
            text = str(error)
            for copy, file in self._originals.items():
                text = text.replace(copy, file)
            error.args = (text,)
        if self._directory:
            _remove(self._directory, len(self._originals))
            os.close(self._lock)
            shutil.rmtree(self._directory, ignore_errors=True)  # NFS keeps what is open

    def check(self, files: Sequence[str]) -> None:
        """Raises DataError, agreed, where `stage` would before it copies; nothing is written."""
        needed = from_first(self._comm, lambda: sum(map(_size, files)))
        agree(self._comm, lambda: self._check_room(needed))

    def stage(self, files: Sequence[str], note: Callable[[str], None], pulse: Pulse) -> list[str]:
        """The names of the copies, as this rank has to read them.

        `note` tells the user, on rank 0.  Raises DataError, and what `pulse` raises, agreed.
        """
        comm = self._comm
        sizes = from_first(comm, lambda: [_size(file) for file in files])
        agree(comm, lambda: self._make_room(sum(sizes)))
        places = comm.allgather(str(self._directory or ""))
        if comm.rank == 0:
            nodes = sum(map(bool, places))
            to = f"{nodes} nodes, there in {self._parent}" if nodes > 1 else str(self._parent)
            note(f"staging   {in_units(sum(sizes))} to {to}")
        firsts = comm.split(0 if self._is_first else 1)
        self._originals = {f"{place}/{i}.h5": file for place in places if place for i, file in enumerate(files)}
        copies = [f"{places[self._first]}/{i}.h5" for i in range(len(files))]
        for file, size, copy in zip(files, sizes, copies, strict=True):
            attempt = partial(self._copy, firsts, file, size, copy, pulse)
            written_together(comm, attempt, partial(self._again, copy, pulse), note)
        return copies

    def _again(self, copy: str, pulse: Pulse) -> None:
        """Makes room for another copy of a file."""
        pulse("staging")
        if self._is_first:
            with suppress(OSError):  # where it cannot be removed, it cannot be made either
                os.unlink(copy)

    def _copy(self, firsts: Communicator, file: str, size: int, copy: str, pulse: Pulse) -> None:
        comm = self._comm
        with ExitStack() as opened:
            source = opened.enter_context(_Source(file)) if comm.rank == 0 else None
            target = opened.enter_context(_Target(copy)) if self._is_first else None
            agree(comm, lambda: [one.open() for one in (source, target) if one])
            for start in range(0, size, CHUNK):

                def pass_on(count: int = min(CHUNK, size - start)) -> None:
                    if target:
                        target.write(from_first(firsts, lambda: source.read(count) if source else b""))
                    pulse(f"staging {file}")

                agree(comm, pass_on)
            digest = from_first(comm, lambda: source.finish() if source else "")
            agree(comm, lambda: target.check(digest, pulse) if target else None)

    def _check_room(self, needed: int) -> None:
        """On the first rank of each node."""
        if not self._is_first:
            return
        if not self._parent.is_dir():
            raise DataError(f"{self._where}: expected a directory that is there on every node")
        if not os.access(self._parent, os.W_OK | os.X_OK):
            raise DataError(f"{self._where}: nothing may be written there; choose another directory")
        with _reported(self._where, CHOOSE):
            free = shutil.disk_usage(self._parent).free
        if free < needed + SPARE:
            raise DataError(
                f"{self._where}: has {in_units(free)} free; the data need {in_units(needed)}, and "
                f"{in_units(SPARE)} are to stay free; choose another directory, or leave it out"
            )

    def _make_room(self, needed: int) -> None:
        """On the first rank of each node."""
        if not self._is_first:
            return
        with _reported(self._where, CHOOSE):
            _remove_abandoned(self._parent)
        self._check_room(needed)
        try:
            patiently(self._make_directory, is_tried_again=is_passing)
        except OSError as error:
            raise DataError(f"{self._where}: {failure(error)}{CHOOSE}") from None

    def _make_directory(self) -> None:
        """Makes and locks it.  Nothing stays of one that could not be made, if that can be removed."""
        shown = self._parent / f"{_prefix()}{secrets.token_hex(4)}"
        directory, lock = shown.with_name(f".{shown.name}"), -1
        try:
            os.mkdir(directory, 0o700)
            lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under this name another run that starts here may find it, and sees that it is in use.
            directory.rename(shown)
        except OSError:
            for name in (directory, shown):  # only the answer may have been lost
                _remove(name, 0)
            if lock >= 0:
                os.close(lock)
            raise
        self._directory, self._lock = shown, lock


@contextmanager
def _reported(what: str, mend: str = "") -> Iterator[None]:
    """What the system says against it becomes a DataError: what was to be done, why not, and how to mend it."""
    try:
        yield
    except OSError as error:
        refused = DataError(f"{what}: {why_not_written(error)}{mend}")
        refused.may_pass = is_passing(error)
        raise refused from None


class _File:
    """A file, to be opened by `open`; what the system says against it becomes a DataError."""

    def __init__(self, path: str, mode: str, cannot: str) -> None:
        self._path, self._mode, self._cannot = path, mode, f"{path}: cannot be {cannot}"
        self._hash = hashlib.blake2b()
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open(self) -> None:
        with _reported(self._cannot):
            file = open(self._path, self._mode, buffering=0)  # noqa: SIM115
            self._file = self._opened.enter_context(file)


class _Source(_File):
    """What is read once, from its beginning to its end."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "rb", "read")

    def open(self) -> None:
        super().open()
        self._stamp = self._look()

    def read(self, count: int) -> bytes:
        read = bytearray()
        with _reported(self._cannot):
            while len(read) < count and (part := self._file.read(count - len(read))):
                read += part
        if len(read) < count:
            raise DataError(f"{self._path}: has become shorter while it was copied")
        self._hash.update(read)
        return bytes(read)

    def finish(self) -> str:
        """The checksum of what was read."""
        if self._look() != self._stamp:
            raise DataError(f"{self._path}: has changed while it was copied; start again when it is complete")
        return self._hash.hexdigest()

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


class _Target(_File):
    """A copy."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "xb+", "written")

    def write(self, chunk: bytes) -> None:
        with _reported(self._cannot):
            left = memoryview(chunk)
            while left:
                left = left[self._file.write(left) :]

    def check(self, digest: str, pulse: Pulse) -> None:
        """Reads it again, from the disk where that can be had.  Raises DataError where it is another."""
        with _reported(self._cannot):
            sync(self._file.fileno())
            with suppress(OSError, AttributeError):
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._file.seek(0)
            while chunk := self._file.read(CHUNK):
                self._hash.update(chunk)
                pulse(f"checking {self._path}")
        if self._hash.hexdigest() != digest:
            raise DataError(f"{self._path}: does not hold what was written to it; choose another --stage-to")


def _size(path: str) -> int:
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _remove(directory: Path, copies: int) -> None:
    """Removes a directory of so many copies at most, by their names: it need not be opened, which may be refused."""
    for name in (LOCK, *(f"{i}.h5" for i in range(copies))):
        with suppress(OSError):
            os.unlink(directory / name)
    with suppress(OSError):
        os.rmdir(directory)


def _prefix() -> str:
    """Locks may be those of one host only, so each has names of its own."""
    return f"{PREFIX}{socket.gethostname()}-"


def _remove_abandoned(parent: Path) -> None:
    """What runs of this host that were killed have left here: nobody holds its lock, or it was removed already."""
    for directory in parent.glob(f"{glob.escape(_prefix())}*"):
        with suppress(OSError):
            try:
                lock = os.open(directory / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                shutil.rmtree(directory)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory)
            finally:
                os.close(lock)
