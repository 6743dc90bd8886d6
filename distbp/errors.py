"""The errors that distbp raises, and the exit codes of its commands.

    DistbpError             1   run-time failure
    ├── UsageError          2   an option or a configuration file that cannot be used
    ├── DataError           1   a data set that cannot be used
    ├── CheckpointError     1   a checkpoint that cannot be used
    ├── RunError            1   a run directory that cannot be used
    ├── LaunchError         1   the launcher and the MPI library do not fit together
    │   └── NodeError       1   MPI cannot start on this node; its first rank says so
    ├── TooLargeError       1   a run that needs more memory than its nodes have
    ├── DriftError          1   the ranks do not hold the same parameters any more
    ├── DivergedError       1   the loss is no longer a finite number
    └── Stopped            75   stopped on request after a good checkpoint: run me again (EX_TEMPFAIL)

Every message says who, what was expected, what came and how to mend it.
"""

from __future__ import annotations


class DistbpError(Exception):
    """Something that a user can understand and mend.

    `agreed` is true when every rank raises this same error at the same place: then rank 0 alone prints it and the
    job ends in order.  An error that is not agreed ends the whole job at once (see `distbp.ranks.launch`).

    `may_pass` is true when the system said something that it may take back, so that the same may succeed a moment
    later (see `distbp.files.patience`).
    """

    exit_code = 1
    agreed = False
    may_pass = False


class UsageError(DistbpError):
    """An option or a configuration file that cannot be used."""

    exit_code = 2


class DataError(DistbpError):
    """A data set that cannot be used."""


class CheckpointError(DistbpError):
    """A checkpoint that cannot be used."""


class RunError(DistbpError):
    """A run directory that cannot be used."""


class LaunchError(DistbpError):
    """The launcher and the MPI library do not fit together."""


class NodeError(LaunchError):
    """MPI cannot start on this node.  Its first rank says so, whichever of all ranks that is."""


class TooLargeError(DistbpError):
    """A run needs more memory than its nodes have."""


class DivergedError(DistbpError):
    """The loss is no longer a finite number."""


class DriftError(DistbpError):
    """The ranks do not hold the same parameters any more."""


class Stopped(DistbpError):
    """Training was stopped on request, after a good checkpoint."""

    exit_code = 75
