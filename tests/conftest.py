"""Fixtures, and what makes pytest work under mpirun.

Tests marked `parallel` run on every rank of `mpirun -n N pytest -m parallel`, and in one process.  After each, the
verdicts of all ranks are gathered, so that a test fails on all ranks or on none; a rank that fails while the others
wait for it runs into the time limit, which ends the job.  Rank 0 alone prints.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from runs import Runner, write_data

from distbp.ranks.communicator import Communicator
from distbp.ranks.launch import Launch
from distbp.ranks.node_memory import free_bytes, taken_bytes

LAUNCH = Launch(os.environ)
TAKEN, FREE = cache(taken_bytes), cache(free_bytes)

if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup: what the tests start is not to ignore it, too
    signal.signal(signal.SIGHUP, lambda number, frame: None)

hypothesis.settings.register_profile("distbp", database=None, deadline=None)  # no files, no clocks
hypothesis.settings.load_profile("distbp")


@pytest.fixture(scope="session")
def comm() -> Communicator:
    """All ranks that run this test."""
    return LAUNCH.connect()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--configurations", type=int, default=20, help="random ones whose checkpoints are read: test_written_is_read.py"
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if LAUNCH.launched:  # ranks that tidy up one directory of old runs at once trip over each other
        own = Path(tempfile.gettempdir()) / f"distbp-tests-{os.getuid()}-rank-{LAUNCH.rank}"
        own.mkdir(mode=0o700, exist_ok=True)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(own)
    if LAUNCH.rank > 0:
        config.pluginmanager.get_plugin("terminalreporter")._tw._file = open(os.devnull, "w")  # noqa: SIM115


def pytest_make_parametrize_id(val: object) -> str | None:
    """Packed bytes hold the time, so that names made of them would differ from worker to worker."""
    return "bytes" if isinstance(val, bytes) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker("one_mpi"):
        item.add_marker(pytest.mark.mpi)


@pytest.fixture(autouse=True, scope="module")
def taken_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """What this process has taken, and what is free, is asked once: to count it takes the kernel milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.stem != "test_memory_plan":
            patch.setattr("distbp.ranks.memory_plan.taken_bytes", TAKEN)
            for asking in ("ranks.memory_plan", "data.loading", "training.checkpoint"):
                patch.setattr(f"distbp.{asking}.free_bytes", FREE)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("heavy") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    failure = None
    try:
        yield
    except BaseException as error:
        failure = error
    if item.get_closest_marker("parallel") and LAUNCH.launched:
        verdicts = LAUNCH.connect().allgather(None if failure is None else repr(failure))
        if failure is None and any(verdicts):
            pytest.fail("\n".join(f"rank {r}: {v}" for r, v in enumerate(verdicts) if v), pytrace=False)
    if failure:
        raise failure


@pytest.fixture
def data_file(tmp_path: Path) -> str:
    """A small classification problem: 23 samples to train on, 11 to test, 4 inputs, 3 classes."""
    return write_data(tmp_path / "data.h5", train=23, test=11)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """Starts the command `distbp`, in one process or under mpirun, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="distbp-", ignore_cleanup_errors=True) as scratch:
        runner = Runner(tmp_path, Path(scratch))
        yield runner
        runner.close()
