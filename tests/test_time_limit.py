"""Calls that must not take too long: one thread watches all of them, also in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from distbp.ranks.time_limit import exit_after

SECONDS = 60
PROGRAM = """
import os, sys, threading, time
from distbp.ranks.time_limit import exit_after

def nothing():
    print("never", flush=True)

for _ in range(20):
    with exit_after(0.05, nothing):
        pass
time.sleep(0.2)  # those are over
assert threading.active_count() == 2
if sys.argv[1] == "child" and os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
with exit_after(100, nothing), exit_after(0.1, lambda: print("too long", flush=True)), exit_after(50, nothing):
    time.sleep(50)
"""


@pytest.mark.parametrize("where", ["here", "child"])
def test_the_call_that_takes_too_long_ends_the_process(where: str) -> None:
    command = [sys.executable, "-c", PROGRAM, where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=os.getcwd())
    assert (done.returncode, done.stdout, done.stderr) == (1, "too long\n", "")


def test_many_calls_are_watched_by_one_thread() -> None:
    before = threading.active_count()
    for _ in range(50):
        with exit_after(SECONDS, lambda: None), exit_after(SECONDS, lambda: None):
            assert threading.active_count() <= before + 1
