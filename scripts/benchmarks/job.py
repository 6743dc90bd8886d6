"""Processes that are measured: started together, with a time limit, and gone when the `with` block is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

SET_PARENT_DEATH_SIGNAL = 1  # of prctl
LIBC = ctypes.CDLL(None)


class JobError(Exception):
    """It failed, or took too long."""


class Job:
    """Commands that run at the same time, each with its own additions to the environment."""

    def __init__(
        self, commands: Sequence[list[str]], where: Path, limit: float, environments: Sequence[dict[str, str]]
    ) -> None:
        self._commands, self._where, self._environments = commands, where, environments
        self._limit, self._processes = limit, list[subprocess.Popen[bytes]]()
        self._output = tempfile.TemporaryFile(dir=where)  # noqa: SIM115
        self._known: dict[int, str] = {}
        self.started_at = self.ended_at = 0.0

    def __enter__(self) -> Job:
        self.started_at = time.time()
        try:
            for command, extra in zip(self._commands, self._environments, strict=True):
                self._processes.append(self._start(command, extra))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self, command: list[str], extra: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self._where,
            env={**os.environ, "TMPDIR": str(self._where), **extra},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,  # a Ctrl-C is for the one who started this, who then ends it
            preexec_fn=_end_with_parent,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what still runs: asked first, so that a launcher can end its ranks."""
        self._known.update({process: _birth(process) for process in self.processes()})
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        for number, birth in self._known.items():
            if birth and _birth(number) == birth:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        for process in self._processes:
            process.wait()
        self._output.close()

    def processes(self) -> list[int]:
        """All that belong to it, launchers too."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    children.setdefault(parent, []).append(int(entry.name))
        found = [process.pid for process in self._processes if process.poll() is None]
        for process in found:
            found += children.get(process, [])
        return found

    def memory(self) -> int:
        """Bytes that its processes hold now: what they share is counted once (PSS)."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def is_running(self) -> bool:
        """Whether any process is there.  Raises JobError where it is over time."""
        running = any(process.poll() is None for process in self._processes)
        if running and time.time() - self.started_at > self._limit:
            raise JobError(f"not done after {self._limit:g} s: {self.words()}")
        return running

    def signal(self, number: signal.Signals) -> None:
        """To each command."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def finish(self, good: int = 0) -> str:
        """Waits for the end; what it wrote.  Raises JobError."""
        for process in self._processes:
            if process.poll() is None:
                file = os.pidfd_open(process.pid)  # wait(timeout) would look only every 50 ms
                try:
                    left = max(0.0, self._limit - (time.time() - self.started_at))
                    ended, _, _ = select.select([file], [], [], left)
                finally:
                    os.close(file)
                if not ended:
                    raise JobError(f"not done after {self._limit:g} s: {self.words()}")
                process.wait()
        self.ended_at = time.time()
        codes = {process.returncode for process in self._processes}
        if codes != {good}:
            raise JobError(f"exit code {', '.join(map(str, codes))}: {self.words()}\n{self.output()[-3000:]}")
        return self.output()

    def output(self) -> str:
        """What it has written so far."""
        file = self._output.fileno()  # shared with the processes, and so is the place in it, which must not be moved
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def words(self) -> str:
        """The command line."""
        return " ".join(self._commands[0])


def _birth(process: int) -> str:
    """When it was started, which tells it from a later one of the same number; "" if there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _end_with_parent() -> None:
    if sys.platform == "linux":
        LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
