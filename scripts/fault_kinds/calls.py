"""The system refuses calls on files, at each place of a run, when it begins and when it is resumed."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import MPI, Place
from table import CORES, Sums, show

SYSTEM = ("EIO", "ESTALE", "EMFILE")
OPTIONS = ("--epochs", "2", "--keep", "2", "--trace", "trace.json")
TITLES = ("call", "when", "MPI", "ranks", "the system says", "exit code", "first words", "after a resume")
OF_THE_RUN = "open,write,fsync,truncate,rename,link,unlink,mkdir"
ONCE_ONLY = ("rename", "link", "unlink", "mkdir")  # a second time they have another answer
ONCE, LOST, ALWAYS = "once", "once, though it was made", "from there on"


@dataclass(frozen=True)
class Case:
    """The how-manieth of some calls of a process fails; `scope` says which calls count."""

    number: int
    call: str
    name: str
    scope: Scope
    when: str
    ranks: int
    says: str
    how: str


@dataclass(frozen=True)
class Scope:
    """Calls that count, by their names, on files of a part of the directory."""

    calls: str
    below: str

    def preload(self, place: Place, library: str) -> dict[str, str]:
        """For the environment."""
        path = f"{place.here}/{self.below}"
        return {"LD_PRELOAD": library, "FAILING_PATH": path, "FAILING_CALLS": self.calls}


RUN, BESIDE = Scope(OF_THE_RUN, "run"), Scope("open", "")


class Calls:
    """Those of a run on so many ranks (0: without a launcher)."""

    def __init__(self, mpi: MPI, data: Path, library: str, begun: Path) -> None:
        """`begun`: a run of one epoch, to go on from."""
        self._mpi, self._data, self._library, self._begun = mpi, data, library, begun

    def all(self, ranks: int, expected: str, sums: Sums) -> None:
        """Each call; `expected` is the digest of a run that nobody disturbs."""

        def row(case: Case) -> Sequence[object]:
            with self._place(case.when) as place:
                fault = {
                    "FAILING_ERRNO": str(getattr(errno, case.says)),
                    "FAILING_FROM": str(case.number),
                    "FAILING_COUNT": "0" if case.how == ALWAYS else "1",
                    **({"FAILING_DONE": "1"} if case.how == LOST else {}),
                }
                preload = case.scope.preload(place, self._library)
                ended = place.run(self._command(case.when), ranks, **preload, **fault)
                must_pass = case.scope == RUN and case.how != ALWAYS
                codes = [0] if must_pass or not ended.messages else [0, 1]
                wrong = [place.after(ended, codes, [ended.code or 0]), "" if ended.code else place.rows(2)]
                result = ", ".join(filter(None, [*wrong, place.goes_on(expected, *OPTIONS, ranks=ranks % 3 + 1)]))
            where = (f"{case.number} {case.call} {case.name}", case.when, self._mpi.name, ranks or 1)
            return *where, f"{case.says} {case.how}", ended.code, ended.words, result

        cases = self._cases(ranks)
        at_once = CORES if ranks else 3 * CORES  # what fails is tried again for ten seconds
        for case, result in zip(cases, show(TITLES, cases, row, at_once), strict=True):
            sums.add(f"{case.call} ({f'{ranks} ranks, {self._mpi.name}' if ranks else '1 process'})", result)

    def _cases(self, ranks: int) -> list[Case]:
        """The errors take turns; on ranks each call fails once."""
        found = []
        for when in ("begin", "resume"):
            for scope in (RUN, BESIDE):
                for number, (call, name) in self._seen(when, ranks, scope).items():
                    lost = [LOST] if call in ONCE_ONLY else []
                    for how in [ONCE] if ranks else [ONCE, *lost, ALWAYS]:
                        says = SYSTEM[number % len(SYSTEM)]
                        found.append(Case(number, call, name, scope, when, ranks, says, how))
        return found

    def _seen(self, when: str, ranks: int, scope: Scope) -> dict[int, tuple[str, str]]:
        """The calls and the names of their files, by the number of the call in its process.

        Of calls that follow each other in one file the first; of files beside the run those that are none of its own.
        """
        with self._place(when) as place:
            log = place.here.parent / "log"
            place.run(self._command(when), ranks, **scope.preload(place, self._library), FAILING_LOG=str(log))
            lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
        seen: dict[int, tuple[str, str]] = {}
        before: tuple[str, str] = ("", "")
        for number, call, path in lines:
            is_own = scope == RUN or Path(path).parent.name != "run"
            if (call, path) != before and is_own:
                seen.setdefault(int(number), (call, re.sub(r"[0-9]{4,}|[0-9a-f]{16}", "N", Path(path).name)))
            before = (call, path)
        return dict(sorted(seen.items()))

    def _place(self, when: str) -> Place:
        return _Prepared(self._mpi, self._data, self._begun if when == "resume" else None)

    def _command(self, when: str) -> list[str]:
        return self._mpi.distbp(*OPTIONS, *(["--resume"] if when == "resume" else []))


class _Prepared(Place):
    """With a run that is begun."""

    def __init__(self, mpi: MPI, data: Path, begun: Path | None) -> None:
        super().__init__(mpi, data)
        self._begun = begun

    def __enter__(self) -> Place:
        super().__enter__()
        if self._begun:
            shutil.copytree(self._begun, self.out)
        return self
