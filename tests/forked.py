"""Starts `distbp` many times for the price of one: commands in forks of a process that has imported it.

`python forked.py` reads a line of JSON for each command, with its words, the files for its output, and what is other
than for this process. It answers with the number of the process, and then with the exit code. A command is "distbp"
with arguments, or "python" with code and arguments. MPI is not imported, so all of them are one process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

IMPORTED = (
    "distbp.cli",
    "distbp.bench.bench",
    "distbp.doctor.doctor",
    "distbp.inspection.data_inspection",
    "distbp.inspection.file_inspection",
    "distbp.mathematics.gradcheck",
    "distbp.prediction.predict",
    "distbp.prediction.trained",
    "distbp.progress",
    "distbp.tables.import_data",
    "distbp.training.report",
    "distbp.training.train",
    "distbp.bench.table",
    "distbp.inspection.ranking",
    "distbp.prediction.finite_scores",
    "distbp.ranks.watch",
    "distbp.ranks.watchdog",
    "distbp.tables.text_table",
    "numpy.random",
    "threadpoolctl",
)
# What libraries and Python ask for once, when they are loaded.
LOADED_WITH = (
    "PYTHON",
    "OPENBLAS",
    "GOTO",
    "OMP_",
    "MKL_",
    "BLIS_",
    "VECLIB",
    "NUMEXPR",
    "NPY_",
    "HDF5_",
    "LD_",
    "MALLOC",
)

LIMIT = 60  # seconds for a command: a hang is a failure


class Forks:
    """The commands of one directory, or of any."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._out, self._environment, self._said = directory / "forked-output", environment, b""
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt of the tests is not for it
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=LIMIT)

    def may_have(self, environment: dict[str, str]) -> bool:
        """Whether a fork with this environment is as a new process would be."""
        both = (environment, self._environment)
        one, other = ({n: v for n, v in each.items() if n.startswith(LOADED_WITH)} for each in both)
        return one == other

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs it in the directory; both outputs together."""
        self._ask(command, {"out": str(self._out)})
        return subprocess.CompletedProcess(command, self._code(), self._out.read_text())

    def run_apart(
        self, command: list[str], directory: Path, environment: dict[str, str], limit: float
    ) -> subprocess.CompletedProcess[str]:
        """Runs it elsewhere, in a session of its own.  Raises TimeoutExpired when it and its group have been ended."""
        with tempfile.TemporaryDirectory() as scratch:
            out, err = Path(scratch) / "out", Path(scratch) / "err"
            places = {"out": str(out), "err": str(err), "directory": str(directory)}
            process = self._ask(command, {**places, "environment": environment, "limit": 0})
            try:
                code = self._code(limit)
            except BaseException as error:  # also that of a test whose own time is over: the next one is to be served
                end(process)
                self._code()
                if isinstance(error, TimeoutError):
                    raise subprocess.TimeoutExpired(command, limit, out.read_text(), err.read_text()) from None
                raise
            return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())

    def _ask(self, command: Any, words: dict[str, Any]) -> int:
        """Starts it; its process."""
        assert self._server.stdin
        self._server.stdin.write(json.dumps({"command": command, **words}) + "\n")
        self._server.stdin.flush()
        return self._code()

    def _code(self, limit: float | None = None) -> int:
        """The next number that the server says.  Raises TimeoutError where it does not come in so many seconds."""
        assert self._server.stdout
        while (
            b"\n" not in self._said
        ):  # by hand: a reader with a buffer of its own would hide from select what is in it
            if limit is not None and not select.select([self._server.stdout], [], [], limit)[0]:
                raise TimeoutError
            said = os.read(self._server.stdout.fileno(), 4096)
            if not said:
                raise RuntimeError(f"the server of forks has ended, with exit code {self._server.wait(LIMIT)}")
            self._said += said
        number, _, self._said = self._said.partition(b"\n")
        return int(number)


def end(process: int) -> None:
    """It and its group, of which it is the first, or will be in a moment."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            send(process, signal.SIGKILL)


def serve() -> None:
    """One command after the other, until there are no more lines."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is there now is not looked at again: it stays in the memory that all share
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(
    command: list[str],
    out: str,
    err: str | None = None,
    directory: str | None = None,
    environment: dict[str, str] | None = None,
    limit: int = LIMIT,
) -> Any:
    """In the child: as the console script does it, or Python."""
    from distbp.__main__ import main

    os.setsid()
    for descriptor, name, how in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(name, how, 0o666), descriptor)
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666) if err else 1, 2)
    if directory:
        os.chdir(directory)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    signal.alarm(limit)
    try:
        if command[0] == "python":
            sys.argv = ["-c", *command[2:]]
            exec(compile(command[1], "page", "exec"), {"__name__": "__main__"})
            sys.exit()
        sys.argv = command
        main()
    except SystemExit as left:
        if isinstance(left.code, int | None):
            leave(left.code or 0)
        raise


def leave(code: int) -> None:
    """As Python does it, but the modules are not taken apart, which takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    serve()
