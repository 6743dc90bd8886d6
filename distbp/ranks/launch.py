"""Where MPI starts, who speaks, and how a job ends.

A launcher (mpirun, mpiexec, srun) starts N processes and tells each of them so in its environment.  Three things can
go wrong in silence, and do not here:

- The launcher belongs to another MPI than mpi4py, or has no PMI: then there are N jobs of one rank each, which would
  overwrite each other's files.  `Launch.connect` refuses.
- One rank fails while the others wait in a collective, for ever.  `guard` ends the whole job (MPI_Abort); where a rank
  has not come to MPI, `watch_start` ends those that wait for it.
- All ranks make the same mistake: the message is printed once, by rank 0.
"""

from __future__ import annotations

import atexit
import os
import shlex
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distbp.errors import DistbpError, LaunchError, NodeError, UsageError
from distbp.ranks.both_mpis import VARIABLE, how_to_load, is_open_mpi
from distbp.ranks.job import job_of
from distbp.ranks.shared_memory import free_shared_bytes, why_no_start
from distbp.ranks.start_watch import (
    INITIALIZING,
    LOADING,
    MEETING,
    WAIT_SECONDS,
    StartWatch,
    end_job,
    hydra,
    turn,
    wait_seconds,
)

if TYPE_CHECKING:
    from distbp.ranks.communicator import Communicator

# Who says how many ranks there are.  SLURM's variables come last: below mpirun they speak of the launcher's own step.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK", "PALS_RANKID", "ALPS_APP_PE")
# Of who asks for several processes without starting MPI ranks, where none of the above is there.
ALONE = (
    ("WORLD_SIZE", "as torchrun sets it, which starts no MPI ranks"),
    ("SLURM_NTASKS", "which a batch script does not start by itself"),
    ("SLURM_NNODES", "on which a batch script does not start processes by itself"),
)
INTERRUPTED = 130
LINGER_SECONDS = 0.3  # for the other ranks to end: srun -K1 kills those that are there when one has failed
LATE_SECONDS = 0.3  # for all ranks to leave MPI_Init of Open MPI 5 by srun: one that meets a message there crashes
LAST_WORDS_SECONDS = 0.2  # for the launcher to pass on what a rank has said: at an abort it throws the rest away


class Launch:
    """What the launcher said, and the communicator once there is one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.size: int | None = None  # None: nobody says
        self.source = next((name for name in SIZES if environ.get(name, "").isdigit()), None)
        step = environ.get("SLURM_STEP_ID", "").isdigit() and "SLURM_STEP_NUM_TASKS" in environ
        if self.source is None and step:
            self.source = "SLURM_STEP_NUM_TASKS"
        if self.source:
            self.size = int(environ[self.source])
        by = next((name for name in RANKS if environ.get(name, "").isdigit()), None)
        if by is None and step:
            by = "SLURM_PROCID"
        self.launched = self.size != 1 and (by is not None or self.source is not None)
        self.rank = int(environ.get(by, "0")) if by else 0
        self.alone = "" if by or self.source else _why_alone(environ)  # why one process may not be what was meant
        self.command = ""  # of distbp, once it is known
        self.comm: Communicator | None = None
        self._wait_seconds = WAIT_SECONDS
        self._watch: StartWatch | None = None
        self._lingers = False
        self._by = job_of(environ).launcher
        self._by_srun = self._by.startswith("srun")

    def watch_start(self, environ: Mapping[str, str]) -> None:
        """For the first lines of a process, before its other threads: `connect` will not wait for ever."""
        if self.launched:
            self._wait_seconds = wait_seconds(environ)
            self._watch = StartWatch(self.rank, self.size, self._wait_seconds)

    def connect(self, failure: DistbpError | None = None) -> Communicator:
        """The communicator: starts MPI if a launcher started several ranks.

        All ranks meet here, also those that have failed before (`failure`): then every rank raises, agreed.
        """
        if self.comm is None:
            with self._watched() as waits:
                self._start(waits)
                self._meet(failure)
        assert self.comm is not None
        return self.comm

    @contextmanager
    def _watched(self) -> Iterator[Callable[[int], None]]:
        """What is to be told for what the start waits, where it is watched."""
        watch, self._watch = self._watch, None
        if watch is None:
            yield lambda phase: None
        else:
            with watch, watch.listening():
                yield watch.waits

    def _start(self, waits: Callable[[int], None]) -> None:
        """Makes the communicator."""
        if not self.launched:
            from distbp.ranks.communicator import OneProcess

            self.comm = OneProcess()
        else:
            waits(LOADING)
            from distbp.ranks.mpi import world

            def check(library: str) -> None:
                self._check(None, library)
                if why := why_no_start(library, os.environ, free_shared_bytes()):
                    raise NodeError(f"rank {self.rank} on {socket.gethostname()}: {why}")
                waits(INITIALIZING)

            atexit.register(self._linger)  # comes after what is registered later: the end of MPI
            comm = world(check, self._wait_seconds, say)
            self._check(comm.size, comm.library)
            waits(MEETING)
            if self._by_srun and comm.library.startswith("Open MPI"):
                time.sleep(LATE_SECONDS)
            self.comm = comm
        self.rank = self.comm.rank

    def _meet(self, failure: DistbpError | None) -> None:
        """All ranks raise `failure` where one has it."""
        from distbp.ranks.communicator import agree

        assert self.comm is not None

        def raise_failure() -> None:
            if failure:
                raise failure

        agree(self.comm, raise_failure)
        if self.comm.size > 1:
            from distbp.ranks.same_everywhere import check_command, check_version

            check_version(self.comm)
            check_command(self.comm, self.command)

    def only_first(self) -> bool:
        """For commands that need one process only: False on all ranks but the first, which goes on alone."""
        self.launched = False
        with self._watched():
            return self.rank == 0

    def _check(self, size: int | None, library: str) -> None:
        """Raises LaunchError where launcher and library are of different MPIs; `size` is None before MPI has started.

        Most libraries then start as a single rank.  MPICH's below Open MPI's mpirun ends the process instead, so that
        pair is told apart beforehand.
        """
        load = how_to_load(library)
        if size is None:
            by_pmix = bool(load) and self._by == "srun --mpi=pmix"  # MPICH's wheel does not know it, and ends the rank
            if is_open_mpi(library) or not (self.source == SIZES[0] or by_pmix):
                return
            size = 1
        if self.size is None or size == self.size:
            return
        beside, command = Path(sys.executable).parent / "mpirun", shlex.join(["distbp", *sys.argv[1:]])
        mpirun = str(beside) if beside.exists() else "mpirun"
        if load and (self.source == SIZES[0] or self._by != "srun"):  # by a launcher with an MPI: then the other one
            mend = (
                "both MPIs are in this environment; load the other one, on all nodes (Open MPI's mpirun passes it on "
                f"with -x {VARIABLE}), or uninstall one of them\n  export {load}"
            )
        elif self._by_srun:
            kind = "pmix" if library.startswith("Open MPI") else "pmi2"
            mend = (
                f"start it with\n  srun --mpi={kind} -K1 {command}\n(srun --mpi=list shows what there is); or, in a "
                f"batch script, with the mpirun of that MPI\n  {mpirun} {command}"
            )
        else:
            mend = f"start it with the mpirun of that MPI\n  {mpirun} -n {self.size} {command}"
        raise LaunchError(
            f"the launcher started {self.size} ranks ({self.source}), but the MPI library of mpi4py, {library}, knows "
            f"of {size}: they belong to different MPIs. Nothing was done, because each rank would train for itself.\n"
            + mend
        )

    def end(self, error: DistbpError) -> int:
        """Says what went wrong, once, and returns the exit code; does not return where other ranks would wait."""
        if not error.agreed and self.launched and not isinstance(error, LaunchError):
            if self.comm is None:  # before the ranks met: all of them come here, or to their own connect()
                try:
                    self.connect(error)
                except DistbpError as agreed:
                    return self.end(agreed)
            elif self.comm.size > 1:
                self.abort(f"distbp: error on rank {self.rank}: {error}", error.exit_code)
        if self.rank == 0 or isinstance(error, NodeError):
            say(f"distbp: {error}" if error.exit_code == 75 else f"distbp: error: {error}")
        elif isinstance(error, LaunchError):
            time.sleep(1.0)  # without MPI there is nobody to wait for, and a launcher ends all when the first one goes
            if not error.agreed and not self._by_srun:  # which does not
                time.sleep(turn(self.rank))
                say(f"distbp: error: rank {self.rank} on {socket.gethostname()}: {error}")
        if isinstance(error, LaunchError) and not error.agreed:
            self._end_without_mpi(error.exit_code)
        if error.agreed and self.comm and self.comm.size > 1:  # one code for the job, from the last one to leave
            self._lingers = self.rank == 0
            return error.exit_code if self.rank == 0 else 0
        return error.exit_code

    def _linger(self) -> None:
        if self._lingers:
            time.sleep(LINGER_SECONDS)

    def _end_without_mpi(self, code: int) -> None:
        """Tells Hydra, which otherwise lets others wait in MPI_Init for a rank that has failed before it came there.

        In its own words (PMI), as an MPI library does that calls PMI_Abort.
        """
        launcher = hydra(os.environ) if self.launched else -1
        if launcher >= 0:
            time.sleep(LAST_WORDS_SECONDS)
            end_job(launcher, code)

    def abort(self, text: str, code: int) -> int:
        """Ends the job, at once and on all ranks, where there are several."""
        if text:
            say(text)
        if self.comm is None:
            self._end_without_mpi(code)
        if self.comm is not None and self.comm.size > 1:
            time.sleep(LAST_WORDS_SECONDS)
            self.comm.abort(code)  # type: ignore[attr-defined]
            os._exit(code)
        return code


def _why_alone(environ: Mapping[str, str]) -> str:
    """What asks for more processes than this one, which no launcher started, and how to start them; or ""."""
    for name, words in ALONE:
        count = environ.get(name, "")
        if count.isdigit() and len(count) < 10 and int(count) > 1:
            if name == "WORLD_SIZE" and environ.get("RANK", "0") != "0":  # the first one says it
                return ""
            command = shlex.join(["distbp", *sys.argv[1:]])
            return f"{name}={count}, {words}: this process works alone; for {count} ranks: mpirun -n {count} {command}"
    return ""


def is_of_other_mpi(launcher: str, library: str) -> bool:
    """Whether a launcher, by what it says of itself, does not start ranks of this MPI library.

    Open MPI's starts its own only, and the others (MPICH, Intel MPI, MVAPICH: Hydra) start each other's.
    """
    return ("Open MPI" in launcher) != is_open_mpi(library)


def printable(text: str) -> str:
    """With escapes for what a terminal might obey: names and values come from files, and those from anywhere."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def say(text: str) -> None:
    """One write for all of it, so that lines of several ranks do not mix."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def guard(launch: Launch, command: Callable[[], Any]) -> int:
    """Runs a command; returns the exit code.  Whatever it raises, no rank is left waiting."""
    import click

    try:
        code = command()  # click returns the code of an Exit here
        code = code if isinstance(code, int) else 0
        return launch.abort("", code) if code and launch.comm is None else code
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        usage = f"\n{context.get_usage()}\nTry '{context.command_path} --help' for help." if context else ""
        return launch.end(UsageError(error.format_message() + usage))
    except DistbpError as failure:
        return launch.end(failure)
    except (KeyboardInterrupt, click.exceptions.Abort):
        return launch.abort("distbp: interrupted", INTERRUPTED)
    except SystemExit as done:  # click's answer to a closed pipe: `distbp inspect … | head`
        code = done.code if isinstance(done.code, int) else 1
        return launch.abort("", code) if code else 0
    except MemoryError as error:
        where = f" on rank {launch.rank}" if launch.rank else ""
        return launch.abort(f"distbp: error: not enough memory{where}: {error}\nfewer or smaller --hidden need less", 1)
    except BaseException:
        where = f" on rank {launch.rank} of {launch.comm.size}" if launch.comm and launch.comm.size > 1 else ""
        return launch.abort(f"distbp: internal error{where}\n{traceback.format_exc()}", 1)
