"""Starts ranks, and other processes, without importing distbp again for each: forks of a process that has imported it.

A launcher starts `forked_rank.py` in the place of each rank, which takes a fiftieth of a second.  The work is done in a
fork of `python rank_forks.py SOCKET`, which starts MPI as any rank does.  For the launcher nothing is different: the
descriptors, the environment, signals in both directions and the end are those of its process.

What is different: the process of the rank is not a child of the launcher's, `/proc/PROCESS/environ` is that of the
server, and what is read when libraries are loaded was read before (`may_have`).  Tests of how a process starts use
`Runner.afresh`, `Runner.start` and `Runner.run`.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import resource
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from array import array
from pathlib import Path
from typing import Any, NoReturn

from forked import IMPORTED, LIMIT, LOADED_WITH

CLIENT = str(Path(__file__).parent / "forked_rank.py")
DISTBP = str(Path(sys.executable).parent / "distbp")
OWN = ("distbp.ranks.mpi", "distbp.ranks.both_mpis")  # what ranks import besides


def asked(environment: dict[str, str]) -> dict[str, str]:
    """What Python and libraries ask for when they are loaded."""
    return {name: value for name, value in environment.items() if name.startswith(LOADED_WITH)}


class RankForks:
    """The server of one session of tests."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._place = Path(tempfile.mkdtemp(prefix="forks-"))
        self._socket = self._place / "socket"
        self.bin = self._place / "bin"  # for PATH: `distbp`, in a fork
        self.bin.mkdir()
        (self.bin / "distbp").write_text(f'#!/bin/sh\nexec {shlex.join(self.command(DISTBP))} "$@"\n')
        (self.bin / "distbp").chmod(0o755)
        listening, said = os.pipe()
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self._socket), str(said)],
            env=environment,
            stdin=subprocess.PIPE,  # at its end the server ends
            stdout=subprocess.DEVNULL,
            pass_fds=[said],
            start_new_session=True,
        )
        os.close(said)
        with open(listening, "rb") as file:
            if not file.read(1):
                raise RuntimeError(f"the server of forks has ended, with exit code {self._server.wait(LIMIT)}")

    def close(self) -> None:
        """Ends the server and all its forks."""
        self._server.communicate(timeout=LIMIT)
        shutil.rmtree(self._place, ignore_errors=True)

    def may_have(self, environment: dict[str, str]) -> bool:
        """Whether a fork with this environment is as a new process would be."""
        return asked(environment) == asked(self._environment)

    def command(self, *command: str) -> tuple[str, ...]:
        """What to start in the place of the command: `distbp` with arguments, or this Python with a program."""
        return sys.executable, "-I", "-S", CLIENT, str(self._socket), *command

    def process_of(self, client: int) -> int:
        """The process that does the work of a client; the client itself where it is none."""
        with contextlib.suppress(FileNotFoundError):
            return int((self._place / str(client)).read_text())
        return client


class Server:
    """One client after the other is given a fork; nobody waits for another one."""

    def __init__(self, path: str) -> None:
        self._place = Path(path).parent
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(128)
        self._events = select.poll()
        self._events.register(self._listener, select.POLLIN)
        self._events.register(0, select.POLLIN)
        self._clients: dict[int, socket.socket] = {}  # by descriptor
        self._forks: dict[int, int] = {}  # of each of them
        self._numbers: dict[int, int] = {}  # the process of each of them
        self._ends: dict[int, int] = {}  # the descriptor of a fork's end, and of its client

    def serve(self) -> None:
        """Until nobody needs it any more."""
        while True:
            for found, _ in self._events.poll():
                if found == 0:
                    self._leave()
                if found == self._listener.fileno():
                    self._welcome(self._listener.accept()[0])
                elif found in self._ends:
                    self._ended(found)
                elif found in self._clients:  # it has nothing more to say, so it was killed
                    self._kill(found)

    def _welcome(self, client: socket.socket) -> None:
        try:
            head, ancillary, *_ = client.recvmsg(8, socket.CMSG_SPACE(4 * 200))
            files = array("i")
            for _, _, content in ancillary:
                files.frombytes(content)
            text = client.makefile("rb", buffering=0)
            said = b""
            while len(said) < int.from_bytes(head, "big"):
                more = text.read(int.from_bytes(head, "big") - len(said))
                if not more:
                    raise EOFError
                said += more
        except (OSError, EOFError):  # it was killed before it could say what it wants
            client.close()
            return
        words = ast.literal_eval(said.decode("utf-8", "surrogateescape"))
        if asked(words["environment"]) != asked(dict(os.environ)):
            for number in files:
                os.close(number)
            with client:
                client.sendall(b"afresh")
            return
        child = os.fork()
        if child == 0:
            self._become(list(files), words)
        for number in files:
            os.close(number)
        end = os.pidfd_open(child)
        self._clients[client.fileno()], self._forks[client.fileno()] = client, child
        self._ends[end], self._numbers[client.fileno()] = client.fileno(), words["client"]
        for number in (end, client.fileno()):
            self._events.register(number, select.POLLIN)
        with contextlib.suppress(OSError):
            client.sendall(b"%d\n" % child)

    def _become(self, files: list[int], words: dict[str, Any]) -> NoReturn:
        """In the fork: a process as the launcher would have started it."""
        try:
            (self._place / str(words["client"])).write_text(str(os.getpid()))
            above = 1 + max((*files, *words["files"], 2))  # on their way, no number is in use twice
            for at, number in enumerate(files):
                os.dup2(number, above + at)
            os.closerange(3, above)
            for at, target in enumerate(words["files"]):
                os.dup2(above + at, target, inheritable=True)
            os.closerange(above, above + len(files))
            for number, name in enumerate(("stdin", "stdout", "stderr")):
                if number not in words["files"]:
                    os.close(number)
                    setattr(sys, name, None)
            os.setsid()
            enter(words["client"])
            for limit, values in words["limits"].items():
                resource.setrlimit(limit, values)
            os.umask(words["umask"])
            os.sched_setaffinity(0, words["cpus"])
            os.chdir(words["directory"])
            os.environ.clear()
            os.environ.update(words["environment"])
            for number in words["ignored"]:
                signal.signal(number, signal.SIG_IGN)
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        work(words["command"])

    def _ended(self, end: int) -> None:
        client = self._ends.pop(end)
        self._events.unregister(end)
        os.close(end)
        status = os.waitpid(self._forks.pop(client), 0)[1]
        (self._place / str(self._numbers.pop(client))).unlink(missing_ok=True)
        with contextlib.suppress(KeyError):  # its client was killed before
            self._events.unregister(client)
        with contextlib.suppress(OSError), self._clients.pop(client) as connection:
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    def _kill(self, client: int) -> None:
        """Its client is gone: `_ended` does the rest."""
        self._events.unregister(client)
        os.kill(self._forks[client], signal.SIGKILL)

    def _leave(self) -> NoReturn:
        for child in self._forks.values():
            os.kill(child, signal.SIGKILL)
        os._exit(0)


def enter(process: int) -> None:
    """The namespaces of a process, where they are others than those of this one."""
    names = [f"ns/{name}" for name in ("ipc", "net", "uts", "mnt")]
    others = [name for name in names if os.readlink(f"/proc/{process}/{name}") != os.readlink(f"/proc/self/{name}")]
    libc = ctypes.CDLL(None, use_errno=True)
    for opened in [os.open(f"/proc/{process}/{name}", os.O_RDONLY) for name in others]:
        if libc.setns(opened, 0):
            raise OSError(ctypes.get_errno(), "a namespace could not be entered")
        os.close(opened)


def work(command: list[str]) -> NoReturn:
    """`distbp` with arguments, or Python with a program (a file, or -c and its text)."""
    code: Any = 0
    try:
        if Path(command[0]).name == "distbp":
            from distbp.__main__ import main

            sys.argv = command
            main()
        elif command[1] == "-c":
            sys.argv = ["-c", *command[3:]]
            exec(compile(command[2], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = command[1:]
            sys.path[0] = str(Path(command[1]).parent)
            runpy.run_path(command[1], run_name="__main__")
    except SystemExit as left:
        code = left.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    leave(code)


def leave(code: int) -> NoReturn:
    """As Python does it, but the modules are not taken apart, which takes longer than most commands.

    The libraries are: it is in `exit` that MPICH says good-bye to its launcher.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    ctypes.PyDLL(None).exit(code & 0xFF)
    raise AssertionError("exit does not return")


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in (*IMPORTED, *OWN):
        importlib.import_module(name)
    server = Server(sys.argv[1])
    gc.collect()
    gc.freeze()  # what is there now is not looked at again: it stays in the memory that all share
    os.write(int(sys.argv[2]), b"1")
    os.close(int(sys.argv[2]))
    server.serve()


if __name__ == "__main__":
    main()
