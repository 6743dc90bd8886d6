"""One run at a time in a directory: the file run.lock says which process works there, and on which host.

It comes into being whole (a finished file is linked to its name, which fails where the name is taken, on NFS too) and
is removed at the end.  A run that was killed leaves it: on the same host it is seen that the process is gone (also when
another one has its number now: it has not started at the same time, or not since the same boot), and the lock is taken
over.  Of two that want to, flock lets one through, and the other finds that the lock has changed.  What runs on another
host cannot be seen from here, so each run sets the time of its lock anew every few seconds, as a sign of life: a lock
without one for a minute is taken over too, and a SLURM job that was requeued takes over its own at once.  Times are
only compared with times that the same file had before: clocks need not agree.

A lock means the directory in which it was made, and names it: where a run is copied while it works, the lock in the
copy shows no sign of life, whether or not the process lives.  Numbers of files are not stable in all file systems, and
paths are not the same on all hosts, so what names another directory is watched, and not taken over at once.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from distbp.errors import RunError
from distbp.files.new_file import sync
from distbp.files.patience import is_system_error, patiently, tried_again, why_not_read
from distbp.files.write_failure import why_not_written
from distbp.files.write_patience import failure, written_patiently
from distbp.ranks.job import job_of

NAME = "run.lock"
LONGEST = 4096  # bytes of a lock that are looked at
ATTEMPTS = 10
SIGN_SECONDS = 10.0  # between two signs of life
LOST_SECONDS = 60.0  # a lock of another host that shows none for so long is that of a run that is gone
LOOK_SECONDS = 0.5
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Owner:
    """A process, and what tells it from all others; empty where the system does not say."""

    host: str
    machine: str  # an identity of the host, for there are hosts of the same name
    boot: str
    processes: str  # the namespace in which `pid` is a number: containers have their own
    pid: int
    start: str  # in clock ticks since the boot
    job: str  # SLURM_JOB_ID
    restarts: int  # how often SLURM has requeued the job

    @property
    def name(self) -> str:
        """process 1234 on node7 (SLURM job 99)"""
        return f"process {self.pid} on {self.host}" + (f" (SLURM job {self.job})" if self.job else "")


def this_process() -> Owner:
    """Who we are."""
    job = job_of(os.environ)
    return Owner(
        socket.gethostname(),
        _content("/etc/machine-id"),
        _content("/proc/sys/kernel/random/boot_id"),
        _namespace(),
        os.getpid(),
        _start(os.getpid()) or "",
        job.id,
        job.restarts,
    )


class RunLock:
    """The lock of a directory, held from `acquire` to `release`."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self._mine = ""
        self._place: tuple[int, int] | None = None  # which directory that is, as long as this process sees it
        self._released = threading.Event()

    def acquire(self, note: Callable[[str], None], pulse: Callable[[], None] = lambda: None) -> None:
        """Takes the lock, also one that was left behind, and says so.  Raises RunError where another run holds it.

        `pulse` is called again and again while the lock of another host is watched, and may raise.
        """
        here = this_process()
        token = os.urandom(8).hex()  # two runs of one process differ in it
        finished = self.path.with_name(f".{NAME}.{token}.tmp")

        def acquire() -> None:
            self._place = _place(self.path.parent)
            where = {"directory": str(self.path.parent.resolve()), "inode": self._place[1]}
            self._mine = json.dumps({**asdict(here), **where, "token": token}) + "\n"
            for _ in range(ATTEMPTS):
                with suppress(FileNotFoundError):  # gone while we looked
                    finished.unlink(missing_ok=True)
                    _write(finished, self._mine)
                    if self._put(finished) or self._take_over(finished, here, note, pulse):
                        return
            raise RunError(f"{self.path}: comes and goes, other runs want it too; try again, or choose another --out")

        try:
            written_patiently(self.path, acquire, note)
        except OSError as error:
            raise RunError(f"{self.path.parent}: cannot write the results here: {failure(error)}") from None
        finally:
            with suppress(OSError):
                finished.unlink(missing_ok=True)
        threading.Thread(target=self._show_life, name="run.lock", daemon=True).start()

    def check(self) -> None:
        """Raises RunError where another run has taken the lock, because somebody removed ours; or cannot be read."""
        try:
            text, _ = patiently(self._read)
        except (FileNotFoundError, NotADirectoryError):
            self._check_place()
            return
        except OSError as error:
            why = f"{why_not_written(error)}; then continue with --resume"
            if is_system_error(error):
                why = f"{why_not_read(error)}; {tried_again()}; continue with --resume later"
            raise RunError(
                f"{self.path}: cannot be read, so this run cannot see whether the directory is still its own: {why}"
            ) from None
        if text != self._mine:
            owner = _owner(text)
            raise RunError(
                f"{self.path}: {owner.name if owner else 'another run'} has taken over this directory; "
                "this run ends here, and leaves the files to that one"
            )

    def _check_place(self) -> None:
        """Raises RunError where the lock is gone because another directory is in the place of ours."""
        with suppress(OSError):  # none is there: whoever writes next says so
            if self._place and self.path.parent.is_dir() and _place(self.path.parent) != self._place:
                raise RunError(
                    f"{self.path.parent}: is another directory than the one in which this run works\n"
                    "put that one back, then continue with --resume"
                )

    def release(self) -> None:
        """Removes the lock, if it is ours."""
        self._released.set()
        with suppress(OSError):
            if self._mine and self._read()[0] == self._mine:
                self.path.unlink()

    def _read(self) -> tuple[str, tuple[int, int]]:
        """What the lock says; and which file it is, and when it last showed a sign of life."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # NFS asks the server at an open
        try:
            status = os.fstat(descriptor)
            return os.read(descriptor, LONGEST).decode(errors="replace"), (status.st_ino, status.st_mtime_ns)
        finally:
            os.close(descriptor)

    def _put(self, finished: Path) -> bool:
        """Gives the finished file the name of the lock, if nobody has it."""
        try:
            os.link(finished, self.path)
        except FileExistsError:
            return os.stat(finished).st_nlink == 2  # NFS may do it and lose the answer
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            try:
                _write(self.path, self._mine)
            except FileExistsError:
                return False
        return True

    def _show_life(self) -> None:
        while not self._released.wait(SIGN_SECONDS):
            with suppress(OSError):
                if self._read()[0] == self._mine:
                    os.utime(self.path)

    def _take_over(self, finished: Path, here: Owner, note: Callable[[str], None], pulse: Callable[[], None]) -> bool:
        """Puts the finished file in the place of a lock whose process is gone; False where the lock has changed."""
        text, seen = self._read()
        if text == self._mine:  # it was put there, though the system said otherwise
            return True
        owner = _owner(text)
        if owner is None:
            raise RunError(
                f"{self.path}: does not say whose it is; if no run works in this directory, remove this file"
            )
        other = self._other_directory(text)
        try:
            is_gone = self._is_gone(owner, here)
        except RunError:
            if not other:
                raise
            is_gone = False
        if not is_gone:
            where = other or self.path.parent
            note(f"waiting   {owner.name} works in {where}, or was killed there: looking for a sign of life")
            if not self._is_silent(owner, text, seen, pulse):
                return False
        flags = os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, os.O_RDWR | flags)  # flock on NFS wants to write
        except PermissionError:
            descriptor = os.open(self.path, os.O_RDONLY | flags)
        try:
            with suppress(OSError):  # a file system without flock: then two could take over at the very same moment
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._read() != (text, seen):
                return False
            why = f"it is a copy of the lock of {other}" if other and not is_gone else f"{owner.name} is gone"
            note(f"taking over {self.path}: {why}")
            os.replace(finished, self.path)
            return True
        finally:
            os.close(descriptor)

    def _other_directory(self, text: str) -> str:
        """The directory that a lock names, where that is neither the path nor the number of this one; or ""."""
        found = json.loads(text)
        path, inode = found.get("directory"), found.get("inode")
        if not isinstance(path, str) or not path.isprintable() or not isinstance(inode, int):
            return ""
        is_here = path == str(self.path.parent.resolve()) or inode == _place(self.path.parent)[1]
        return "" if is_here else path

    def _is_gone(self, owner: Owner, here: Owner) -> bool:
        """Whether the owner is; False where that cannot be seen from here.  Raises RunError where it is alive."""
        if here.job and owner.job == here.job and owner.restarts < here.restarts:
            return True
        near = (owner.host, owner.machine) == (here.host, here.machine)
        if near and owner.boot != here.boot:
            return here.machine != ""  # without an identity it may be another host of the same name
        if not near or owner.processes != here.processes:
            return False
        if _is_alive(owner):
            raise RunError(
                f"{self.path.parent}: {owner.name} works in this directory\n"
                f"wait for it, stop it (kill -USR1 {owner.pid}), or choose another --out"
            )
        return True

    def _is_silent(self, owner: Owner, text: str, seen: tuple[int, int], pulse: Callable[[], None]) -> bool:
        """Watches the lock for a while; False where it is another's now.  Raises RunError where its owner lives."""
        end = time.monotonic() + LOST_SECONDS
        while time.monotonic() < end:
            pulse()
            time.sleep(LOOK_SECONDS)
            now, looks = self._read()
            if now != text:
                return False
            if looks != seen:
                raise RunError(
                    f"{self.path.parent}: {owner.name} works in this directory; its lock shows signs of life\n"
                    "wait for it, stop that job, or choose another --out"
                )
        return True


def _place(directory: Path) -> tuple[int, int]:
    """What tells a directory from all others, on this host.  Raises OSError."""
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def _write(path: Path, text: str) -> None:
    """A new file with this content, on the disk."""
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        sync(file.fileno())


def _owner(text: str) -> Owner | None:
    """The owner that a lock names; None where it names nobody."""
    try:
        found = json.loads(text)
        owner = Owner(**{name: found[name] for name in Owner.__dataclass_fields__})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    whole = isinstance(owner.pid, int) and owner.pid > 0 and isinstance(owner.restarts, int)
    words = (owner.host, owner.machine, owner.boot, owner.processes, owner.start, owner.job)
    return owner if whole and all(isinstance(word, str) and word.isprintable() for word in words) else None


def _is_alive(owner: Owner) -> bool:
    """Whether that process of this host still runs."""
    try:
        os.kill(owner.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    start = _start(owner.pid)
    return start is None or start == owner.start


def _start(pid: int) -> str | None:
    """When a process started, "" if it has ended and its parent has not noticed; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]


def _content(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError):
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
