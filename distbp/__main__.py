"""The entry point: `distbp`, or python -m distbp."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from distbp.ranks.lasting_output import last
from distbp.ranks.launch import Launch, guard, say

WRITING_FILES = ("train", "predict", "import")  # commands whose results are files; of others it is what they print


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the command by an exception, so that unfinished files are removed.

    `distbp train` has its own way, see `distbp.ranks.stop`.
    """
    raise SystemExit(128 + number)


def _lost(lost: "sys.UnraisableHookArgs") -> None:
    """Sends a termination again a moment later, if it came in a callback that cannot raise."""
    if isinstance(lost.exc_value, SystemExit):
        signal.signal(signal.SIGALRM, lambda number, frame: _terminate(signal.SIGTERM, frame))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(lost)


def main() -> None:
    """Runs the command line; exits with its code."""
    last(sys.argv[1:2] != [] and sys.argv[1] in WRITING_FILES, say)
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _lost
    launch = Launch(os.environ)

    def command() -> int | None:
        if launch.rank > 0 and not {"-h", "--help", "--version"}.isdisjoint(sys.argv):
            return 0  # rank 0 says it
        launch.watch_start(os.environ)
        from distbp.cli import cli

        code: int | None = cli.main(obj=launch, prog_name="distbp", standalone_mode=False)
        return code

    sys.exit(guard(launch, command))


if __name__ == "__main__":
    main()
