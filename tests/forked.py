"""Starts `distbp` many times for the price of one: commands in forks of a process that has imported it.

`python forked.py` reads a line of JSON for each command, with its words and the file for its output. It answers with
the exit code. A command is "distbp" with arguments, or "python" with code. MPI is not
imported, so all of them are one process.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

IMPORTED = ("distbp.cli", "distbp.training.train", "distbp.prediction.predict", "distbp.inspection.file_inspection")

LIMIT = 60  # seconds for a command: a hang is a failure


class Forks:
    """The commands of one directory."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._out = directory / "forked-output"
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=LIMIT)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs it; both outputs together."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps([command, str(self._out)]) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(command, code, self._out.read_text())


def serve() -> None:
    """One command after the other, until there are no more lines."""
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(command: list[str], out: str) -> Any:
    """In the child: as the console script does it, or Python."""
    from distbp.__main__ import main

    for descriptor, name, how in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(name, how, 0o666), descriptor)
    os.dup2(1, 2)
    signal.alarm(LIMIT)
    if command[0] == "python":
        exec(compile(command[1], "page", "exec"), {"__name__": "__main__"})
        sys.exit()
    sys.argv = command
    main()


if __name__ == "__main__":
    serve()
