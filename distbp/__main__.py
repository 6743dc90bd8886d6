"""The entry point: `distbp`, or python -m distbp."""

import os
import sys

from distbp.launch import Launch, guard


def main() -> None:
    """Runs the command line; exits with its code."""
    launch = Launch(os.environ)

    def command() -> None:
        if launch.rank > 0 and not {"-h", "--help", "--version"}.isdisjoint(sys.argv):
            return  # rank 0 says it
        from distbp.cli import cli

        cli.main(obj=launch, prog_name="distbp", standalone_mode=False)

    sys.exit(guard(launch, command))


if __name__ == "__main__":
    main()
