"""The bar of a command that works for long."""

from __future__ import annotations

import io
import threading
import time

import pytest
import tqdm.std

from distbp.progress import Bar


@pytest.mark.parametrize("jump", [7200.0, -7200.0])
def test_a_bar_while_the_clock_is_set(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """It is drawn at once, and does not take the jump for time that has passed."""
    wall = [1e9]
    monkeypatch.setattr(tqdm.std, "time", lambda: wall[0])
    terminal = io.StringIO()
    bar = Bar(total=40, file=terminal, mininterval=0.01)
    wall[0] += jump
    time.sleep(0.02)
    bar.update(10)
    assert "10/40 [00:00<00:" in terminal.getvalue()
    bar.close()


def test_the_bar_has_no_thread_of_its_own() -> None:
    """That of tqdm goes by the other clock."""
    before = threading.enumerate()
    bar = Bar(total=40, file=io.StringIO())
    assert threading.enumerate() == before
    bar.close()
