"""The system lets no file be opened, at each open of a file of a run, when it begins and when it is resumed."""

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
TITLES = ("open of", "when", "MPI", "ranks", "the system says", "exit code", "first words", "after a resume")


@dataclass(frozen=True)
class Case:
    """The how-manieth open of a process fails, once or from there on (`count` 0)."""

    number: int
    names: str
    when: str
    ranks: int
    says: str
    count: int


class Opens:
    """Those of a run on so many ranks (0: without a launcher)."""

    def __init__(self, mpi: MPI, data: Path, library: str, begun: Path) -> None:
        """`begun`: a run of one epoch, to go on from."""
        self._mpi, self._data, self._library, self._begun = mpi, data, library, begun

    def all(self, ranks: int, expected: str, sums: Sums) -> None:
        """Each open; `expected` is the digest of a run that nobody disturbs."""

        def row(case: Case) -> Sequence[object]:
            with self._place(case.when) as place:
                fault = {
                    "FAILING_ERRNO": str(getattr(errno, case.says)),
                    "FAILING_FROM": str(case.number),
                    "FAILING_COUNT": str(case.count),
                }
                ended = place.run(self._command(case.when), ranks, **self._preload(place), **fault)
                wrong = place.after(ended, [0, 1] if ended.messages else [0], [ended.code or 0])
                result = ", ".join(filter(None, [wrong, place.goes_on(expected, *OPTIONS, ranks=ranks % 3 + 1)]))
            said = f"{case.says} {'once' if case.count else 'from there on'}"
            where = (f"{case.number} {case.names}", case.when, self._mpi.name, ranks or 1)
            return *where, said, ended.code, ended.words, result

        cases = self._cases(ranks)
        at_once = CORES if ranks else 3 * CORES  # what cannot be opened is tried again for ten seconds
        for case, result in zip(cases, show(TITLES, cases, row, at_once), strict=True):
            sums.add(f"{case.says} at an open ({f'{ranks} ranks, {self._mpi.name}' if ranks else '1 process'})", result)

    def _cases(self, ranks: int) -> list[Case]:
        """One process: each of the three, once and from there on; ranks: one of them, once."""
        found = []
        for when in ("begin", "resume"):
            for number, names in self._seen(when, ranks).items():
                turn = SYSTEM[number % len(SYSTEM)]
                ways = [(turn, 1)] if ranks else [(says, count) for says in SYSTEM for count in (1, 0)]
                found += [Case(number, names, when, ranks, *way) for way in ways]
        return found

    def _seen(self, when: str, ranks: int) -> dict[int, str]:
        """The names of the files that are opened, by the number of the open in its process."""
        with self._place(when) as place:
            log = place.here.parent / "log"
            place.run(self._command(when), ranks, **self._preload(place), FAILING_LOG=str(log))
            lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
        seen: dict[int, list[str]] = {}
        for number, path in lines:
            name = re.sub(r"[0-9]{4,}|[0-9a-f]{16}", "N", Path(path).name)
            if name not in seen.setdefault(int(number), []):
                seen[int(number)].append(name)
        return {number: " or ".join(seen[number]) for number in sorted(seen)}

    def _place(self, when: str) -> Place:
        return _Prepared(self._mpi, self._data, self._begun if when == "resume" else None)

    def _command(self, when: str) -> list[str]:
        return self._mpi.distbp(*OPTIONS, *(["--resume"] if when == "resume" else []))

    def _preload(self, place: Place) -> dict[str, str]:
        return {"LD_PRELOAD": self._library, "FAILING_PATH": f"{place.here}/"}


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
