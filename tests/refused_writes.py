"""Writes files in all ways that distbp has beside a run, while the system refuses each call on them, once and for good.

Usage: LD_PRELOAD=failing_calls.so python refused_writes.py RUN TABLE.csv DIRECTORY

Prints a line of JSON for each way: its name, how many cases were tried, notes that were given, and what was wrong.
Nothing waits: the clock of `patience.schedule` goes on when somebody waits.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distbp.data.staging import Staging
from distbp.errors import DistbpError
from distbp.files import patience
from distbp.prediction import network_outputs
from distbp.prediction.predict import predict
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import Communicator, OneProcess, run_threads
from distbp.tables.import_data import ImportOptions, import_data
from distbp.training.trace_file import write_trace

CALLS = "open,write,fsync,truncate,rename,link,unlink,mkdir"
LOSABLE = ("rename", "link", "unlink", "mkdir")  # whose answer matters: a second time they have another
SYSTEM = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.ETIMEDOUT)

PREDICTED = (".csv", ".csv.gz", ".json", ".npy", ".h5", ".parquet")  # one for each that writes

Note = Callable[[str], None]
Way = Callable[[Path, Note], Any]  # writes something in a directory; what it gives is compared


class Clock:
    """Goes on when somebody waits."""

    time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass(frozen=True)
class Refusal:
    """From the `number`th of these calls on, `count` (0: all) are refused; `done`: only the answer is lost."""

    calls: str = CALLS
    number: int = 0
    count: int = 1
    done: bool = False
    code: int = 0


class Trials:
    """One way of writing, again and again, each time in a directory of its own."""

    def __init__(self, way: Way, directory: Path) -> None:
        self._way, self._directory, self._trial, self._seen = way, directory, 0, 0
        directory.mkdir()
        self.notes: list[str] = []

    def run(self, refusal: Refusal) -> tuple[Any, list[str], list[tuple[str, str]]]:
        """What it gives, the files that are there then, and the calls that were made, with the names of their files."""
        self._trial += 1
        here, log = self._directory / f"{self._trial:06d}", self._directory.with_suffix(".log")
        here.mkdir()
        log.unlink(missing_ok=True)
        os.environ.update(
            FAILING_PATH=str(here), FAILING_LOG=str(log), FAILING_CALLS=refusal.calls, FAILING_ERRNO=str(refusal.code)
        )
        os.environ.update(FAILING_COUNT=str(refusal.count), FAILING_FROM=str(refusal.number and self._counted(refusal)))
        os.environ.pop("FAILING_DONE", None)
        if refusal.done:
            os.environ["FAILING_DONE"] = "1"
        self.notes = []
        try:
            found = self._way(here, self.notes.append)
        except DistbpError as error:
            found = error
        finally:
            os.environ["FAILING_PATH"] = "nothing/of/the/kind"
        lines = [line.split(" ", 2) for line in log.read_text().splitlines()] if log.exists() else []
        self._seen = int(lines[-1][0]) if lines else self._seen
        calls = [(call, Path(path.removesuffix(" (deleted)")).name) for _, call, path in lines]
        return found, sorted(path.name for path in here.iterdir()), calls

    def _counted(self, refusal: Refusal) -> int:
        return self._seen + refusal.number

    def wrong(self) -> Iterator[str]:
        """What is wrong in each case; "" where nothing is."""
        expected, names, calls = self.run(Refusal())
        if isinstance(expected, DistbpError) or not calls:
            yield f"undisturbed: {expected}"
        before = ("", "")
        for i, (call, name) in enumerate(calls):
            if (call, name) == before:  # of those that follow each other the first
                continue
            before = (call, name)
            code = SYSTEM[i % len(SYSTEM)]
            for done in (False, True) if call in LOSABLE else (False,):
                found, left, _ = self.run(Refusal(number=i + 1, done=done, code=code))
                problem = "" if (found, left) == (expected, names) and len(self.notes) <= 1 else f"{found} {left}"
                yield problem and f"{i + 1} {call} {name} {errno.errorcode[code]} {'lost' * done}: {problem[:400]}"
            number = 1 + [one for one, _ in calls[:i]].count(call)
            found, left, _ = self.run(Refusal(call, number, 0, code=code))
            problem = self._of_an_end(found, left, expected, names, leaves=call == "unlink")
            yield problem and f"{i + 1} {call} {name} {errno.errorcode[code]} for good: {problem[:400]}"

    def _of_an_end(self, found: Any, left: list[str], expected: Any, names: list[str], *, leaves: bool) -> str:
        """What is wrong where it could not be written; it may have been written all the same."""
        if not isinstance(found, DistbpError):
            return "" if found == expected and (left == names or leaves) else f"{found} {left}"
        if leaves:
            return ""
        is_one_line = str(found).count("it was tried again for 1 s") == 1 and "\n" not in str(found)
        return "" if is_one_line and left in ([], names) else f"{found} {left}"


def written(path: Path) -> bytes:
    os.environ["FAILING_PATH"] = "nothing/of/the/kind"
    return path.read_bytes()


def predictions(run: str, ending: str) -> Way:
    used = load(OneProcess(), run, Use((), "test", targets=False))

    def write(here: Path, note: Note) -> bytes:
        predict(OneProcess(), used.state, used.data, here / f"p{ending}", note=note)
        return written(here / f"p{ending}")

    return write


def predictions_on_ranks(run: str) -> Way:
    def write(here: Path, note: Note) -> bytes:
        def work(comm: Communicator) -> None:
            used = load(comm, run, Use((), "test", targets=False))
            predict(comm, used.state, used.data, here / "p.csv", note=note)

        run_threads(3, work)
        return written(here / "p.csv")

    return write


def imported(table: str, compression: str) -> Way:
    def write(here: Path, note: Note) -> bytes:
        options = ImportOptions(y=("y",), test_fraction=0.25, compression=compression)
        for line in import_data([table], [], here / "i.h5", options).notes:
            if line.startswith("warning"):
                note(line)
        return written(here / "i.h5")

    return write


def traced(here: Path, note: Note) -> bytes:
    write_trace(str(here / "t.json"), [(0, "host", [("forward", 0.0, 1.0)] * 500)], note)
    return written(here / "t.json")


def staged(table: str) -> Way:
    """On three ranks of two nodes."""

    def write(here: Path, note: Note) -> bytes:
        def work(comm: Communicator) -> bytes:
            with Staging(comm, str(here)) as staging:
                copies = staging.stage(
                    [table], lambda text: text.startswith("warning") and note(text), lambda phase: None
                )
                comm.allgather(None)  # nothing is written any more
                content = written(Path(copies[0]))
                comm.allgather(None)  # nobody leaves before all have read
            return content

        return b"".join(run_threads(3, work, [[0, 2], [1]]))

    return write


def main(run: str, table: str, directory: Path) -> None:
    clock = Clock()
    patience.schedule = patience.Schedule(1.0, now=clock.now, sleep=clock.sleep)
    network_outputs.BLOCK = 100
    ways: dict[str, Way] = {f"predict {ending}": predictions(run, ending) for ending in PREDICTED}
    ways |= {"predict on 3 ranks": predictions_on_ranks(run)}
    ways |= {f"import, {packed}": imported(table, packed) for packed in ("none", "gzip")}
    ways |= {"trace": traced, "staging": staged(table)}
    for i, (name, way) in enumerate(ways.items()):
        with suppress(ImportError):  # of what writes Parquet
            trials = Trials(way, directory / f"{i:02d}")
            problems, notes = [], 0
            for problem in trials.wrong():
                problems.append(problem)
                notes += len(trials.notes)
            found = {"way": name, "cases": len(problems), "notes": notes, "wrong": list(filter(None, problems))}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
