"""The entry point: `distbp`, or python -m distbp."""

import io
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from distbp.ranks.launch import Launch, guard


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """As an exception, so that unfinished files are removed; `distbp train` does better, see `distbp.ranks.stop`."""
    raise SystemExit(128 + number)


def main() -> None:
    """Runs the command line; exits with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without σ gets a ?
    signal.signal(signal.SIGTERM, _terminate)
    launch = Launch(os.environ)

    def command() -> int | None:
        if launch.rank > 0 and not {"-h", "--help", "--version"}.isdisjoint(sys.argv):
            return 0  # rank 0 says it
        from distbp.cli import cli

        code: int | None = cli.main(obj=launch, prog_name="distbp", standalone_mode=False)
        return code

    sys.exit(guard(launch, command))


if __name__ == "__main__":
    main()
