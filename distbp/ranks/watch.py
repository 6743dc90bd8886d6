"""What a long command runs under: MPI started, signals that ask for a stop, and the watchdog."""

from __future__ import annotations

from collections.abc import Sequence

from distbp.ranks.launch import Launch, say
from distbp.ranks.stop import SIGNALS, Pulse, StopRequest, stopping_pulse
from distbp.ranks.watchdog import Watchdog


class Watch:
    """From its making to the end of its block: `comm` are all ranks, `stop_requested` says whether a signal came.

    `beat` is to be told, again and again, what this rank is doing; a rank that has not told it for `stall_minutes`
    ends the job, and so does, `grace` seconds after a signal, one that goes on.  `answer`: what is told to who presses
    Ctrl-C; `advice`: to who finds the job ended.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        stall_minutes: float,
        stop_signals: Sequence[str] = SIGNALS,
        grace: float = 0.0,
        answer: str = "stopping",
        advice: str = "Run the same command again",
    ) -> None:
        self.stop_requested = StopRequest(stop_signals, answer)
        self.comm = launch.connect()
        if launch.alone:
            say(f"distbp: note: {launch.alone}")
        self.stop_requested.listen()
        self._watchdog = Watchdog(launch.rank, self.stop_requested, stall_minutes * 60, grace, advice)
        self.beat: Pulse = self._watchdog.beat

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.close()

    def pulse(self, before: str = "") -> Pulse:
        """A beat that raises Stopped where a stop is asked for (see `stopping_pulse`)."""
        return stopping_pulse(self.beat, self.stop_requested, before)
