"""A request to stop, from a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from distbp import stop
from distbp.stop import SIGNALS, StopRequest


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered(number: int) -> None:
    request = StopRequest()
    assert not request()
    os.kill(os.getpid(), number)
    assert request()


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
