"""BLAS threads of a rank: whose variables count, and how cores, jobs and quotas are divided."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import Commands
from runs import BIN, Notes, Runner, mpirun_command, train_on, write_data
from threadpoolctl import threadpool_info, threadpool_limits

from distbp.ranks import binding, threads
from distbp.ranks.communicator import OneProcess
from distbp.ranks.control_groups import Quota
from distbp.ranks.job import HYDRA, OPEN_MPI, Job

OPENBLAS = {"internal_api": "openblas", "threading_layer": "pthreads"}
OPENMP_BLAS = {"internal_api": "openblas", "threading_layer": "openmp"}
MKL, BLIS, UNKNOWN = ({"internal_api": name} for name in ("mkl", "blis", "another"))
assert np.__version__  # its BLAS is loaded


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*threads.VARIABLES, "SLURM_JOB_CPUS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "quotas", tuple)
    with threadpool_limits():  # as before, afterwards
        yield


def blas_threads() -> int:
    """Of the BLAS that NumPy uses; other tests may have loaded libraries with threads of their own."""
    (found,) = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return int(found)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the number of cores that this process may run on."""

    def have(count: int) -> None:
        monkeypatch.setattr(threads, "cores_of", lambda process: frozenset(range(count)))

    return have


@pytest.mark.parametrize(
    ("variables", "pools", "counts"),
    [
        ({"MKL_NUM_THREADS": "1"}, [OPENBLAS], None),
        ({"VECLIB_MAXIMUM_THREADS": "1", "BLIS_NUM_THREADS": "1"}, [OPENBLAS], None),
        ({"MKL_NUM_THREADS": "4", "OMP_NUM_THREADS": "1"}, [OPENBLAS], (1, "OMP_NUM_THREADS")),
        ({"MKL_NUM_THREADS": "4", "OMP_NUM_THREADS": "1"}, [MKL], (4, "MKL_NUM_THREADS")),
        ({"OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, [OPENBLAS], (3, "OPENBLAS_NUM_THREADS")),
        ({"GOTO_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, [OPENBLAS], (3, "GOTO_NUM_THREADS")),
        ({"OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, [OPENMP_BLAS], (5, "OMP_NUM_THREADS")),
        ({"OPENBLAS_NUM_THREADS": "3"}, [OPENMP_BLAS], None),
        ({"BLIS_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, [BLIS], (3, "BLIS_NUM_THREADS")),
        ({"OPENBLAS_NUM_THREADS": "3"}, [BLIS], None),
        ({"VECLIB_MAXIMUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, [], (3, "VECLIB_MAXIMUM_THREADS")),
        ({"OMP_NUM_THREADS": "5"}, [], None),
        ({"OMP_NUM_THREADS": "5"}, [UNKNOWN], None),
        ({"OPENBLAS_NUM_THREADS": "0", "OMP_NUM_THREADS": "2"}, [OPENBLAS], (2, "OMP_NUM_THREADS")),
        ({"OMP_NUM_THREADS": " 07 "}, [OPENBLAS], (7, "OMP_NUM_THREADS")),
        ({"OMP_NUM_THREADS": "9" * 5000}, [OPENBLAS], (2**31 - 1, "OMP_NUM_THREADS")),
    ],
)
def test_the_variable_that_counts(variables: dict[str, str], pools: list[Any], counts: tuple[int, str] | None) -> None:
    assert threads.told(variables, pools)[0] == counts


@pytest.mark.parametrize("wrong", ["0", "abc", "4,2", "", " ", "-1", "+2", "1.5", "2x", "٣", "0x2", "1_0"])
def test_what_is_no_number_of_threads(wrong: str, cores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not set, and one note."""
    cores(3)
    monkeypatch.setenv("OMP_NUM_THREADS", wrong)
    monkeypatch.setenv("GOTO_NUM_THREADS", wrong)
    found = threads.set_threads(OneProcess(), 0)
    assert (found.count, found.source) == (3, "3 cores for 1 rank")
    (note,) = found.notes
    assert f"GOTO_NUM_THREADS={wrong!r}, OMP_NUM_THREADS={wrong!r}: expected a whole number of threads" in note
    assert threads.set_threads(OneProcess(), 0, reproducible=True).count == 1
    assert threads.set_threads(OneProcess(), 2).notes == ()  # nothing to be told where --threads is


def test_a_variable_of_another_blas(cores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cores(2)
    blas = threadpool_info()[0]["internal_api"]
    other = "MKL_NUM_THREADS" if blas != "mkl" else "BLIS_NUM_THREADS"
    monkeypatch.setenv(other, "1")
    found = threads.set_threads(OneProcess(), 0)
    assert (found.count, found.source) == (2, "2 cores for 1 rank")
    assert found.notes[0].startswith(f"note      {other}=1 does not count: the BLAS of NumPy here is ")
    same = threads.set_threads(OneProcess(), 0, reproducible=True)
    assert (same.count, same.notes) == (1, ())  # it is as it says
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    named = threads.set_threads(OneProcess(), 0)
    assert (named.count, named.source, named.notes) == (1, "OMP_NUM_THREADS", ())


@pytest.mark.parametrize("there", [1, 2, 16])
def test_reproducible_threads_do_not_come_from_the_machine(
    there: int, cores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(there)
    monkeypatch.setattr(threads, "quotas", lambda: (Quota((1, 1), 1.0),))
    assert threads.set_threads(OneProcess(), 0, reproducible=True).count == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    found = threads.set_threads(OneProcess(), 0, reproducible=True)
    assert found.count == blas_threads() == 4
    assert len(found.notes) == (there < 4)
    assert threads.set_threads(OneProcess(), 0).count == min(4, there)  # as OpenBLAS does it


class OfMany(OneProcess):
    """One rank of a node, the others of which have these cores and quotas."""

    def __init__(self, places: list[tuple[frozenset[int], tuple[Quota, ...]]]) -> None:
        self._places = places

    def node_ranks(self) -> list[int]:
        return list(range(len(self._places)))

    def allgather(self, value: Any) -> list[Any]:
        return [value, *self._places[1:]]


def test_threads_of_a_job(cores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the cores that SLURM gave, where nothing binds a rank to them."""
    cores(64)
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "2(x4)")
    assert threads.set_threads(OneProcess(), 0) == threads.Threads(2, "2 cores of the job for 1 rank")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "16")
    for sockets in (1, 2):  # all 8 ranks of this node may run on the same cores; or 4 of them, of one socket
        masks = [frozenset(range(64 // sockets)) if rank < 8 // sockets else frozenset({64}) for rank in range(8)]
        cores(64 // sockets)
        found = threads.set_threads(OfMany([(mask, ()) for mask in masks]), 0)
        assert found == threads.Threads(2, "16 cores of the job for 8 ranks")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "64")
    monkeypatch.setattr(threads, "cores_of", lambda process: frozenset({3}))  # bound
    assert threads.set_threads(OneProcess(), 0) == threads.Threads(1, "1 core for 1 rank")


@pytest.mark.parametrize(
    ("own", "others", "count", "source"),
    [
        ([4.0], [], 4, "4 cores of the CPU quota for 1 rank"),
        ([1.5], [], 1, "1 core of the CPU quota for 1 rank"),  # a second thread would be held up half of the time
        ([0.2], [], 1, "1 core of the CPU quota for 1 rank"),
        ([64.0], [], 8, "8 cores for 1 rank"),
        ([4.0], [[4.0]], 2, "4 cores of the CPU quota for 2 ranks"),
        ([3.0], [[3.0]] * 3, 1, "3 cores of the CPU quota for 4 ranks"),
        ([6.0, 4.0], [[6.0, 4.0]], 2, "4 cores of the CPU quota for 2 ranks"),
        ([2.0], [[], []], 2, "8 cores for 3 ranks"),  # each in a container of its own
        ([], [[1.0]], 4, "8 cores for 2 ranks"),
    ],
)
def test_a_cpu_quota_counts_as_cores_do(
    own: list[float], others: list[list[float]], count: int, source: str, cores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(8)

    def group(quotas: list[float]) -> tuple[Quota, ...]:
        return tuple(Quota((1, level), one) for level, one in enumerate(quotas))

    mask = frozenset(range(8))
    monkeypatch.setattr(threads, "quotas", lambda: group(own))
    found = threads.set_threads(OfMany([(mask, group(own)), *((mask, group(one)) for one in others)]), 0)
    assert found == threads.Threads(count, source)
    assert blas_threads() == count


def starter(tmp_path: Path, *chain: str) -> Path:
    """A /proc in which the processes 10, 9, … have these names, each started by the next."""
    for i, name in enumerate(chain):
        above = 9 - i if i < len(chain) - 1 else 1
        (tmp_path / f"{10 - i}").mkdir()
        (tmp_path / f"{10 - i}" / "status").write_text(f"Name:\t{name}\nUmask:\t0022\nPPid:\t{above}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("chain", "launcher"),
    [
        (("prterun", "bash"), 10),
        (("bash", "prted", "bash"), 9),  # a wrapper around each rank
        (("hydra_pmi_proxy", "mpiexec.hydra"), 10),
        (("bash", "sshd"), None),
        ((), None),
    ],
)
def test_the_launcher_is_found_above(tmp_path: Path, chain: tuple[str, ...], launcher: int | None) -> None:
    asked: list[int] = []

    def cores_of(process: int) -> frozenset[int]:
        asked.append(process)
        return frozenset({1, 2})

    found = binding.cores_of_starter(10, starter(tmp_path, *chain), cores_of)
    assert (asked, found) == (([launcher], {1, 2}) if launcher else ([], frozenset()))


def test_idle_cores_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "cores_of_starter", lambda process: frozenset(range(8)))
    monkeypatch.setattr(binding.os, "cpu_count", lambda: 8)
    one, two = frozenset({0}), frozenset({1})
    words = "7 of 8 cores are idle, for the launcher binds its ranks: mpirun --bind-to none"
    assert binding.idle_cores(Job(OPEN_MPI), [one]) == words
    assert binding.idle_cores(Job(HYDRA), [one, two]).startswith("6 of 8 cores are idle")
    assert binding.idle_cores(Job(HYDRA), [frozenset(range(7))]).startswith("1 of 8 cores is idle")
    assert binding.idle_cores(Job(OPEN_MPI), [frozenset(range(8))]) == ""
    assert binding.idle_cores(Job("srun --mpi=pmix", cpus=4), [one, two]).endswith("srun --cpus-per-task")
    assert binding.idle_cores(Job("srun", cpus=2), [one, two]) == ""
    assert binding.idle_cores(Job(), [one]) == ""  # taskset: who has said so means it


@pytest.mark.mpi
@pytest.mark.skipif(len(binding.cores_of(0)) < 2, reason="needs two cores")
def test_a_rank_that_is_bound_by_its_launcher(runner: Runner) -> None:
    """One rank of a node with more cores: the first line says that they are idle, and doctor."""
    program, *_ = mpirun_command()
    is_open_mpi = "--oversubscribe" in mpirun_command()
    bind, free = ("--bind-to", "mpirun --bind-to none") if is_open_mpi else ("-bind-to", "mpiexec -bind-to none")
    there = len(binding.cores_of(0))
    words = f"{there - 1} of {there} cores {'is' if there == 2 else 'are'} idle, for the launcher binds its ranks"
    data = write_data(runner.directory / "d.h5")
    network = ("--inputs", "4", "--outputs", "2", "--hidden", "3", "--seconds", "0.1")
    job = Commands(
        runner,
        ("train", data, "--epochs", "0"),
        ("doctor",),
        ("bench", *network),
        ("evaluate", "run", data),
        ("train", data, "--epochs", "0", "--threads", "1", "--out", "quiet"),
    )
    ended = runner.run(program, bind, "core", "-n", "1", *job.command, PATH=f"{BIN}:/usr/bin:/bin")
    said, doctor, bench, evaluated, quiet = job.results(ended)
    assert f"x 1 thread (1 core for 1 rank; {words}: {free})" in said.stdout.splitlines()[0], said.stderr
    assert words in doctor.stdout
    assert f"-> {free}" in doctor.stdout
    assert f"threads   1 thread (1 core for 1 rank; {words}: {free}) for each rank" in bench.stdout, bench.stderr
    assert f"note      {words}: {free}" in evaluated.stdout + evaluated.stderr
    assert "x 1 thread (--threads)\n" in quiet.stdout
    unbound = runner.run(program, bind, "none", "-n", "1", str(BIN / "distbp"), "train", data, "--epochs=0", "--out=u")
    assert f"x {there} threads ({there} cores for 1 rank)\n" in unbound.stdout


ON_ONE_CORE = """
import os, sys
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(len(binding.cores_of(0)) < 2, reason="needs two cores")
def test_another_number_of_cores_leaves_the_bits(runner: Runner) -> None:
    """With a variable of another BLAS the bits were those of the cores of the node."""
    digests, data = [], write_data(runner.directory / "d.h5", train=512, inputs=784)
    for name, bind in (("two", ()), ("one", (sys.executable, "-c", ON_ONE_CORE))):
        options = ("--reproducible", "--epochs", "1", "--hidden", "512", "--batch-size", "512", "--grain", "512")
        program = (*bind, sys.executable, "-m", "distbp", "train", data, *options, "--out", name)
        said = runner.run(*program, MKL_NUM_THREADS="1", OMP_NUM_THREADS="0")
        assert "x 1 thread (--reproducible)" in said.stdout, said.stderr
        digests += [line for line in said.stdout.splitlines() if line.startswith("digest")]
    assert len(digests) == 2
    assert len(set(digests)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OPENBLAS_NUM_THREADS": "0"}, "OPENBLAS_NUM_THREADS='0': expected a whole number of threads"),
        ({"MKL_NUM_THREADS": "7"}, "MKL_NUM_THREADS=7 does not count: the BLAS of NumPy here is OpenBLAS"),
    ],
)
def test_all_commands_say_the_same(runner: Runner, variables: dict[str, str], words: str) -> None:
    """train, bench and doctor."""
    if {pool["internal_api"] for pool in threadpool_info() if pool["user_api"] == "blas"} != {"openblas"}:
        pytest.skip("another BLAS")
    network = ("--inputs", "4", "--outputs", "2", "--hidden", "3", "--seconds", "0.1")
    commands = [("train", "--epochs", "0"), ("bench", *network), ("doctor",)]
    for command in commands:
        said = runner.distbp(*command, **variables)
        assert said.returncode == 0, said.stderr
        assert said.stdout.count(words) == 1, (command, said.stdout)
    assert re.search(r"\nthreads   \d+ threads? \(.* for 1 rank", runner.distbp("bench", *network).stdout)


def test_notes_are_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runs import configuration

    notes = Notes()
    monkeypatch.setenv("OMP_NUM_THREADS", "abc")
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", epochs=0)
    train_on(1, config, listener=notes)
    assert [text for text in notes.lines if "OMP_NUM_THREADS" in text] == [
        "note      OMP_NUM_THREADS='abc': expected a whole number of threads, 1 or more; this is as if it were not set"
    ]
