"""A rank that is a fork is, for its launcher and for itself, as one that the launcher has started."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from runs import Runner, environment, in_fork, rank_forks, wait_for

SHOWS = """
import json, os, signal, sys
here = {"argv": sys.argv[1:], "directory": os.getcwd(), "environment": dict(os.environ), "in": sys.stdin.read()}
here["files"] = sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))
here["mask"] = os.umask(0)
here["cpus"] = sorted(os.sched_getaffinity(0))
here["ignored"] = [n for n in (1, 2, 10, 12, 15) if signal.getsignal(n) == signal.SIG_IGN]
print(json.dumps(here))
print("wrong", file=sys.stderr)
sys.exit(7)
"""
WAITS = """
import os, signal, sys, time
def note(number, frame):
    with open("said", "a") as file:
        print(number, file=file)
    if number == signal.SIGTERM:
        sys.exit(5)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, note)
open(f"begun-{os.getpid()}", "w").close()
time.sleep(60)
"""


def start(directory: Path, *command: str, **words: Any) -> subprocess.Popen[str]:
    """This Python with a program, in a fork."""
    forked = in_fork(sys.executable, "-c", *command)
    assert len(forked) > 3 + len(command)
    piped = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    return subprocess.Popen(forked, cwd=directory, text=True, **{**piped, "env": environment(A_NAME="ä"), **words})


def fork_of(directory: Path) -> int:
    """The process that has begun to wait."""
    end = time.monotonic() + 20
    while not (found := list(directory.glob("begun-*"))):
        assert time.monotonic() < end
        time.sleep(0.01)
    return int(found[0].name.removeprefix("begun-"))


def check_gone(process: int) -> None:
    end = time.monotonic() + 20
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            assert time.monotonic() < end
            time.sleep(0.01)


def test_it_inherits_what_a_process_inherits(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    cpus = sorted(os.sched_getaffinity(0))

    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.sched_setaffinity(0, cpus[-1:])
        os.umask(0o027)

    process = start(tmp_path, SHOWS, "a", "ö b", pass_fds=[reader], preexec_fn=prepare)
    out, err = process.communicate("some input", timeout=20)
    os.close(reader)
    os.close(writer)
    assert (process.returncode, err) == (7, "wrong\n")
    seen = json.loads(out)
    expected = {"argv": ["a", "ö b"], "directory": str(tmp_path), "in": "some input", "cpus": cpus[-1:], "mask": 0o027}
    assert {name: seen[name] for name in expected} == expected
    assert seen["environment"] == environment(A_NAME="ä")
    assert seen["files"] == [0, 1, 2, reader]
    assert seen["ignored"] == [signal.SIGHUP]


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("pass", 0, ""),
        ("raise SystemExit('in words')", 1, "in words\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import os; os.abort()", -6, ""),
        ("import atexit; atexit.register(print, 'at the end', file=__import__('sys').stderr)", 0, "at the end\n"),
    ],
)
def test_it_ends_as_its_fork_ends(tmp_path: Path, program: str, code: int, words: str) -> None:
    process = start(tmp_path, program)
    err = process.communicate(timeout=20)[1]
    assert process.returncode == code
    assert err.endswith(words)
    assert bool(err) == bool(words)


def test_signals_are_passed_on(tmp_path: Path) -> None:
    process = start(tmp_path, WAITS)
    fork = fork_of(tmp_path)
    assert rank_forks().process_of(process.pid) == fork
    process.send_signal(signal.SIGUSR1)
    wait_for(tmp_path / "said")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 5
    assert (tmp_path / "said").read_text() == f"{int(signal.SIGUSR1)}\n{int(signal.SIGTERM)}\n"
    check_gone(fork)


def test_a_killed_one_takes_its_fork_with_it(tmp_path: Path) -> None:
    process = start(tmp_path, WAITS)
    fork = fork_of(tmp_path)
    process.kill()
    process.communicate(timeout=20)
    check_gone(fork)
    assert start(tmp_path, "pass").communicate(timeout=20) == ("", "")  # and the next one is served


def test_what_is_asked_for_when_libraries_are_loaded_needs_a_new_process(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "pass")
    assert in_fork(*command, HOME="/x", SLURM_JOB_ID="3") != command
    for name in ("OMP_NUM_THREADS", "PYTHONPROFILEIMPORTTIME", "HDF5_DEBUG"):
        assert in_fork(*command, **{name: "1"}) == command
    assert in_fork("sh", "-c", "true") == ("sh", "-c", "true")
    told = "import os; print(os.getppid())"
    for extra, is_new in (({}, False), ({"OMP_NUM_THREADS": "1"}, True)):
        done = start(tmp_path, told, env=environment(**extra)).communicate(timeout=20)
        assert (int(done[0]) == os.getpid()) == is_new


def test_a_command_of_the_shell(runner: Runner, data_file: str) -> None:
    path = f"{rank_forks().bin}:{os.environ['PATH']}"
    done = runner.run("sh", "-c", "distbp train data.h5 --epochs 'x y' 2>&1; echo $?", PATH=path)
    assert (
        done.stdout.endswith("'x y' is not a valid integer.\nTry 'distbp train --help' for help.\n2\n") or done.stdout
    )


def test_namespaces_and_limits(runner: Runner) -> None:
    """A mount that only a part of the processes sees, and a limit on the size of files."""
    disk = runner.directory / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=64k tmpfs {disk}"
    if not shutil.which("unshare") or runner.run("unshare", "-m", "sh", "-c", mount).returncode:
        pytest.skip("cannot mount a file system here")
    program = "open('file', 'w').close(); import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])"
    command = shlex.join(in_fork(sys.executable, "-c", program))
    done = runner.run("unshare", "-m", "sh", "-c", f"{mount} && cd disk && ulimit -f 4 && {command}; ls {disk}")
    assert (done.stdout, done.stderr) == ("2048\nfile\n", "")
    assert not list(disk.iterdir())


@pytest.mark.mpi
def test_ranks_are_as_started_by_a_user(runner: Runner, data_file: str) -> None:
    """The same words on the same descriptors, and the same exit code of the job."""
    train = ("train", data_file, "--hidden", "4", "--epochs", "1", "--threads", "1", "--memory", "1")
    for words in ((*train, "--out", "run"), ("train", "none.h5")):
        said = []
        for way in (runner.distbp, runner.afresh):
            done = way(*words, ranks=2)
            out = re.sub(r"[\d,]+ samples/s|[\d.]+ s\b|\d+ %|taking over.*", "", done.stdout)
            said.append((done.returncode, out.split("\n")[:6], done.stderr))
            for file in runner.directory.glob("run/*"):
                file.unlink()
        assert said[0] == said[1]
