"""Is this installation healthy, here and on these ranks?  `distbp doctor` asks before a long job does.

Each check is a function that all ranks call; it returns what this rank finds, or nothing where another one speaks for
it.  What may not come back has a time limit (see `distbp.ranks.time_limit`), and a check that breaks down is a finding
too.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import h5py
import numpy as np

from distbp import __version__
from distbp.data.data_file import PLUGINS
from distbp.doctor.directory_check import check_directory
from distbp.doctor.findings import FAIL, LEVELS, OK, WARN, Finding, merged
from distbp.engine.native.library import library as compiled_step
from distbp.errors import DistbpError, LaunchError, NodeError
from distbp.ranks.binding import cores_of
from distbp.ranks.both_mpis import how_to_load
from distbp.ranks.communicator import Communicator, OneProcess
from distbp.ranks.control_groups import quotas
from distbp.ranks.job import Job, end_of, job_of
from distbp.ranks.launch import Launch, is_of_other_mpi
from distbp.ranks.machine_record import machine
from distbp.ranks.mpi import MARGIN_BYTES, library, mend
from distbp.ranks.node_memory import free_bytes, group_bytes, in_units
from distbp.ranks.shared_memory import LARGER, SHARED_MEMORY, free_shared_bytes
from distbp.ranks.threads import set_threads
from distbp.ranks.time_limit import exit_after

MPI_SECONDS = 60.0  # for each check in which ranks meet
VERSION_SECONDS = 10.0
CLOCK_SECONDS = 1.0  # apart
SHARED_BYTES = 2**20
REDUCED = 2**18  # numbers
LITTLE = 2**30  # bytes of memory
SOON = 10 * 60  # seconds until a job ends

Check = Callable[[], list[Finding]]


def examine(launch: Launch, out: Path, say: Callable[[str], object]) -> int:
    """Makes all checks, says a line for each on rank 0; returns the exit code, the same on all ranks."""
    comm, started = _start(launch)
    if comm is None:
        if started:  # of this node; of the launcher rank 0 says it
            say(started[0].line())
        return int(bool(started))
    checks: list[Check] = [
        lambda: started,
        check_versions,
        lambda: check_library(launch),
        lambda: check_launcher(launch),
        lambda: check_communication(comm),
        lambda: check_cores(comm),
        lambda: check_shared_memory(comm),
        lambda: check_memory(comm),
        lambda: check_slurm(job_of(os.environ), time.time()) if comm.rank == 0 else [],
        lambda: check_clocks(comm),
        lambda: check_directory(comm, out),
    ]
    levels: list[str] = []
    for check in checks:
        with _not_for_ever(say, comm.rank):
            everyone = comm.allgather((socket.gethostname(), _guarded(check)))
        for finding, where in merged(everyone):
            levels.append(finding.level)
            if comm.rank == 0:
                say(finding.line(where))
    if comm.rank == 0:
        say(", ".join(f"{levels.count(level)} {level}" for level in LEVELS))
    return int(FAIL in levels)


def _start(launch: Launch) -> tuple[Communicator | None, list[Finding]]:
    """The communicator; without MPI one process, on rank 0 only, and why, on the ranks that are to say it."""
    try:
        return launch.connect(), []
    except LaunchError as error:
        words, _, mend = str(error).rpartition("\n")
        found = [Finding(FAIL, "MPI", " ".join(words.split()), mend.strip())]
        if launch.rank == 0:
            return OneProcess(), found
        return None, found if isinstance(error, NodeError) else []


def _not_for_ever(say: Callable[[str], object], rank: int) -> AbstractContextManager[None]:
    words = Finding(
        FAIL,
        "ranks",
        f"rank {rank} ({socket.gethostname()}) has waited {MPI_SECONDS:g} s for the others",
        "look at the network of these nodes, and at the options of the launcher",
    )
    return exit_after(MPI_SECONDS, lambda: say(words.line()))


def _guarded(check: Check) -> list[Finding]:
    try:
        return check()
    except (OSError, ValueError, RuntimeError, DistbpError) as error:
        return [Finding(FAIL, "check", f"broke down: {type(error).__name__}: {error}")]


def check_versions() -> list[Finding]:
    """What is installed."""
    hdf5 = f"NumPy {np.__version__}, h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    plugins = [name for number, name in PLUGINS.items() if h5py.h5z.filter_avail(number)]
    none = "none beside HDF5's own; for files that need others: pip install hdf5plugin, and set HDF5_PLUGIN_PATH"
    return [
        Finding(OK, "distbp", f"{__version__}, Python {platform.python_version()} ({sys.executable})"),
        Finding(OK, "libraries", hdf5),
        Finding(OK, "HDF5 filters", ", ".join(plugins) or none),
    ]


def check_library(launch: Launch) -> list[Finding]:
    """The MPI library that mpi4py loads."""
    try:
        name, version = library()
    except LaunchError as error:
        level = FAIL if launch.launched else WARN
        return [
            Finding(
                level,
                "MPI library",
                f"mpi4py can load none: {' '.join(str(error).split())}",
                f"{mend()}; one process needs none",
            )
        ]
    return [Finding(OK, "MPI library", f"{name} (mpi4py {version})")]


def check_launcher(launch: Launch) -> list[Finding]:
    """Who started this process, and the mpirun that would be found; do they belong to the MPI library."""
    if launch.rank > 0:
        return []
    by = f"{launch.size or 'some'} ranks ({launch.source or 'rank alone'})" if launch.launched else "one process"
    found = [Finding(WARN, "started as", f"{by}; {launch.alone}") if launch.alone else Finding(OK, "started as", by)]
    path = shutil.which("mpirun") or shutil.which("mpiexec")
    beside = Path(sys.executable).parent / "mpirun"
    use = f"use {beside}" if beside.exists() else "use the one of that MPI (load its module)"
    if path is None:
        mend = use if beside.exists() else "under SLURM srun does; else pip install mpich, or load your site's module"
        return [*found, Finding(OK if launch.launched else WARN, "launcher", "no mpirun in PATH", mend)]
    try:
        version = launcher_version(path)
    except (OSError, subprocess.SubprocessError) as error:
        words = f"{path} --version: " + (
            f"no answer in {VERSION_SECONDS:g} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        )
        return [*found, Finding(WARN, "launcher", words, use)]
    try:
        name, _ = library()
    except LaunchError:
        return [*found, Finding(WARN, "launcher", f"{path}: {version}; there is no MPI library to go with it")]
    if is_of_other_mpi(version, name):
        level = WARN if launch.launched and launch.comm else FAIL  # another launcher did start these ranks
        load = how_to_load(name)
        mends = f"both MPIs are in this environment: {load} loads the other one; or uninstall one" if load else use
        return [*found, Finding(level, "launcher", f"{path}: {version}, but the MPI library is {name}", mends)]
    return [*found, Finding(OK, "launcher", f"{path}: {version}, which goes with {name}")]


def launcher_version(path: str) -> str:
    """What `mpirun --version` says, its telling line.  Raises OSError, SubprocessError, after a time limit too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMI", "PRTE_"))}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # only to be asked its version
    asked = subprocess.run(
        [path, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=VERSION_SECONDS,
        env={**environment, **root},
    )
    lines = [line.strip() for line in asked.stdout.splitlines() if line.strip()]
    named = [line for line in lines if any(word in line for word in ("Open MPI", "Intel", "Version:"))]
    first = (named or lines or ["says nothing"])[0]
    if "HYDRA" in asked.stdout.upper():
        return "Hydra (MPICH) " + " ".join(first.removeprefix("Version:").split())
    return first


def check_communication(comm: Communicator) -> list[Finding]:
    """A real Allreduce whose sum is known, and how long it takes all ranks to meet."""
    if comm.size == 1:
        return []
    array, meetings, sums = np.empty(REDUCED, np.float32), [], []
    for _ in range(5):
        array.fill(comm.rank + 1.0)
        started = time.perf_counter()
        comm.allgather(None)
        meetings.append(time.perf_counter() - started)
        started = time.perf_counter()
        comm.allreduce(array)
        sums.append(time.perf_counter() - started)
    expected = comm.size * (comm.size + 1) / 2.0
    if not np.allclose(array, expected, rtol=1e-6):
        mend = "this MPI or a node computes wrong sums: another MPI, or without this node"
        return [Finding(FAIL, "Allreduce", f"{float(array[0])}, expected {expected}", mend)]
    if comm.rank > 0:
        return []
    level = getattr(comm, "thread_level", "unknown")
    return [
        Finding(
            OK,
            "Allreduce",
            f"right; {in_units(array.nbytes)} in {median(sums) * 1e3:.2g} ms, all ranks meet in "
            f"{median(meetings) * 1e3:.2g} ms; thread level {level}",
        )
    ]


def check_cores(comm: Communicator) -> list[Finding]:
    """Ranks, cores and BLAS threads of a node, and the BLAS library."""
    chosen, cores = set_threads(comm, 0), cores_of(0)
    threads, own = chosen.count, machine(chosen.count)
    everyone = comm.allgather((threads, cores, quotas()))
    here = [everyone[rank] for rank in comm.node_ranks()]
    available, wanted = len(frozenset().union(*(mask for _, mask, _ in here))), sum(count for count, *_ in here)
    for quota in quotas():
        if all(quota in others for _, _, others in here):  # one of all ranks of this node together
            available = min(available, max(1, int(quota.cores)))
    found = [
        Finding(OK, "BLAS", f"{own['blas']}, kernels for {own['blas_kernels']}; NumPy on {own['cpu']}"),
        Finding(
            OK,
            "cores",
            f"{len(here)} rank{'s' * (len(here) > 1)} on this node, each on {len(cores)} of {os.cpu_count()} cores, "
            f"{threads} BLAS thread{'s' * (threads > 1)} ({chosen.source})",
        ),
    ]
    lib = compiled_step()
    if isinstance(lib, str):
        mend = "install distbp again where there is a C compiler; until then steps take longer"
        found.append(Finding(WARN, "engine", f"numpy: {lib}", mend))
    else:
        slow = "" if lib.is_fused else "; --reproducible is slow without fused multiply-add"
        found.append(Finding(OK, "engine", f"the compiled step, for {lib.kind}{slow}"))
    found += [Finding(WARN, "thread setting", note.partition(" ")[2].strip()) for note in chosen.notes]
    if chosen.idle:
        words, _, mend = chosen.idle.rpartition(": ")
        found.append(Finding(WARN, "idle cores", words, mend))
    if wanted > available:
        mend = "fewer ranks on a node, or fewer --threads (OMP_NUM_THREADS), or bind ranks to more cores"
        found.append(
            Finding(WARN, "oversubscribed", f"{wanted} BLAS threads of {len(here)} ranks on {available} cores", mend)
        )
    return found


def check_shared_memory(comm: Communicator) -> list[Finding]:
    """Memory that the ranks of a node share: really taken, filled by each, and seen by all."""
    here = comm.node_ranks()
    shared = comm.node_array((SHARED_BYTES,), np.dtype(np.uint8))
    part = SHARED_BYTES // max(1, shared.parts)
    shared.array[shared.part * part : (shared.part + 1) * part] = 7
    shared.fence()
    if not (shared.array[: part * shared.parts] == 7).all():
        return [Finding(FAIL, "shared memory", "what one rank writes, another does not see", "another MPI library")]
    if comm.rank != min(here):
        return []
    free = free_shared_bytes()
    said = f"{SHARED_MEMORY} has {in_units(free)} free"
    if shared.why_not:
        mend = f"{LARGER}, one for all ranks of a node, and an MPI that shares it; each rank holds the data for itself"
        return [Finding(WARN, "shared memory", shared.why_not, mend)]
    if free < MARGIN_BYTES:
        mend = f"{LARGER}; MPI libraries need it too"
        return [Finding(WARN, "shared memory", said, mend)]
    works = f", a window of {in_units(SHARED_BYTES)} is shared by {len(here)} ranks" if len(here) > 1 else ""
    return [Finding(OK, "shared memory", said + works)]


def check_memory(comm: Communicator) -> list[Finding]:
    """What the ranks of a node can still take."""
    if comm.rank != min(comm.node_ranks()):
        return []
    free, group = free_bytes(), group_bytes()
    limit = "no limit of a control group" if group is None else f"the control groups leave {in_units(group)}"
    mend = "ask for more memory (sbatch --mem), or fewer ranks on a node" if free < LITTLE else ""
    return [Finding(WARN if free < LITTLE else OK, "memory", f"{in_units(free)} free on this node; {limit}", mend)]


def check_slurm(job: Job, now: float) -> list[Finding]:
    """The job that this runs in, and how much time it has left."""
    if not job.id:
        return []
    said = job.describe() + (f", {job.cpus} cpus a node" if job.cpus else "")
    end = end_of(job)
    if end is None:
        mend = "--time-limit MINUTES, so that a run stops in time, or sbatch --signal=USR1@120"
        return [Finding(WARN, "SLURM", f"{said}; it does not say when the job ends, nor does squeue", mend)]
    if end == math.inf:
        return [Finding(OK, "SLURM", f"{said}, no time limit")]
    left = end - now
    mend = "a run stops in time for its checkpoint; ask for more (sbatch --time), or continue with --resume auto"
    said += f", {max(0.0, left) / 60:.0f} minutes left"
    return [Finding(WARN if left < SOON else OK, "SLURM", said, mend if left < SOON else "")]


def check_clocks(comm: Communicator) -> list[Finding]:
    """How far the clocks of the ranks are apart: they are read when all have met."""
    if comm.size == 1:
        return []
    comm.allgather(None)
    times = comm.allgather(time.time())
    if comm.rank > 0:
        return []
    late = max(range(comm.size), key=lambda rank: abs(times[rank] - times[0]))
    apart = abs(times[late] - times[0])
    if apart > CLOCK_SECONDS:
        mend = "set them by NTP: times of files decide what has changed"
        return [Finding(WARN, "clocks", f"those of rank {late} and rank 0 are {apart:.3g} s apart", mend)]
    return [Finding(OK, "clocks", f"at most {apart * 1e3:.2g} ms apart")]
