"""A request to stop, from a signal; and the watchdog."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator

import pytest
from runs import Runner

from distbp.ranks import stop
from distbp.ranks import watchdog as watchdog_module
from distbp.ranks.stop import SIGNALS, StopRequest
from distbp.ranks.watchdog import Watchdog

NUMBERS = [signal.Signals[f"SIG{name}"] for name in SIGNALS]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_remembered(number: int) -> None:
    request = StopRequest()
    assert not request()
    os.kill(os.getpid(), number)
    assert request()
    assert os.read(request.wakeup, 9) == bytes([number])


def test_a_second_ctrl_c_ends_at_once_but_not_an_echo_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr(stop.time, "monotonic", lambda: clock[0])
    request = StopRequest()
    os.kill(os.getpid(), signal.SIGINT)
    clock[0] += 0.1
    os.kill(os.getpid(), signal.SIGINT)  # the launcher signals the process, and then its group
    assert request()
    clock[0] += 1.0
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_watchdog_lets_those_live_who_come_on() -> None:
    watchdog = Watchdog(0, StopRequest(), stall_seconds=0.6, grace_seconds=0.0)
    for _ in range(12):
        watchdog.beat("working")
        time.sleep(0.1)
    watchdog.close()
    time.sleep(0.8)
    Watchdog(0, None, stall_seconds=0.0, grace_seconds=0.0).close()


@pytest.mark.parametrize("seconds", [6e10, 6e301, math.inf])
def test_a_watchdog_that_waits_longer_than_clocks_count(seconds: float) -> None:
    watchdog = Watchdog(0, None, seconds, 0)
    watchdog.beat("waiting")
    watchdog.close()


def test_the_watchdog_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is woken by the end, and would sleep on for an hour without."""
    monkeypatch.setattr(watchdog_module, "LOOK_SECONDS", 3600.0)
    for _ in range(5):
        watchdog = Watchdog(0, StopRequest(), stall_seconds=60.0, grace_seconds=0.001)
        time.sleep(0.02)
        watchdog.close()  # it has taken the last call for no signal, or would have ended this process


STALLED = """
import ctypes, sys, time
from distbp.ranks import watchdog
watchdog.REARM_SECONDS = 0.2
dog = watchdog.Watchdog(3, None, 0.5, 0.0)
dog.beat("counting sheep")
def here_it_hangs():
    if sys.argv[1] == "free":
        time.sleep(30)
    ctypes.PyDLL(None).sleep(30)  # keeps Python's global lock
here_it_hangs()
"""


@pytest.mark.parametrize("how", ["free", "locked"])
def test_the_watchdog_says_where_it_hangs(runner: Runner, how: str) -> None:
    result = runner.run(os.sys.executable, "-c", STALLED, how)  # type: ignore[attr-defined]
    assert result.returncode == 1
    assert "here_it_hangs" in result.stderr
    if how == "free":
        assert "rank 3 (" in result.stderr
        assert "while counting sheep (--stall-minutes)" in result.stderr
