"""`--like`: inputs by name, in the order of a network that was trained, with its categories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from distbp.data.labels import Labels
from distbp.data.names import quoted
from distbp.errors import DataError, UsageError
from distbp.tables.table import Table, TableColumn

ELEMENT = re.compile(r"(?P<name>.+)\[[0-9]+\]")
SHOWN = 12


@dataclass(frozen=True)
class Like:
    """What a network knows: the names of its inputs and targets, one for each number, and its labels, or None.

    `name`: the checkpoint.
    """

    name: str
    x: tuple[str, ...]
    y: tuple[str, ...] = ()
    labels: Labels | None = None

    def inputs(self, table: Table) -> tuple[TableColumn, ...]:
        """The columns of a table that the inputs come from, each once.  Raises DataError where some are missing."""
        sources = {name: self._source(table, name) for name in self.x}
        missing = [name for name, source in sources.items() if source is None]
        if missing:
            raise DataError(
                f"{table.name}: {self.name} has inputs that are not there: {_few(missing)}; its inputs are "
                f"{_few(self.x)}, and the columns are {_few([column.name for column in table.columns])}"
            )
        return tuple(dict.fromkeys(source[0] for source in sources.values() if source))

    def categories(self, table: Table) -> dict[str, tuple[str, ...]]:
        """The values of each column that becomes one-hot columns."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.x:
            source = self._source(table, name)
            if source and source[1] is not None:
                found[source[0].name] = (*found.get(source[0].name, ()), source[1])
        return found

    def targets(self, table: Table) -> tuple[TableColumn, ...]:
        """The columns with the labels or targets.  Raises DataError where some are missing."""
        sources = {name: self._source(table, name) for name in self.y}
        missing = [name for name, source in sources.items() if source is None]
        if missing:
            raise DataError(
                f"{table.name}: {self.name} has the target {quoted(missing[0])}, which is not there; the columns are "
                f"{_few([column.name for column in table.columns])}; for a table without labels or targets: "
                "--unlabelled"
            )
        return tuple(dict.fromkeys(source[0] for source in sources.values() if source))

    def order(self, written: Sequence[str]) -> list[int]:
        """Which of the numbers of a row each input is.  Raises DataError."""
        at = {name: i for i, name in enumerate(written)}
        missing = [name for name in self.x if name not in at]
        if missing:
            raise DataError(
                f"{self.name} has inputs that are not there: {_few(missing)}; its inputs are {_few(self.x)}, and there "
                f"are {_few(written)}"
            )
        return [at[name] for name in self.x]

    def _source(self, table: Table, name: str) -> tuple[TableColumn, str | None] | None:
        """The column that an input comes from, and its category where it is one of a one-hot column."""
        known = {column.name: column for column in table.columns}
        if name in known:
            return known[name], None
        for i, letter in reversed(list(enumerate(name))):
            if letter == "=" and name[:i] in known:
                return known[name[:i]], name[i + 1 :]
        for column in table.columns:
            if name in column.names:
                return column, None
        element = ELEMENT.fullmatch(name)
        if element and element["name"] in known:
            return known[element["name"]], None
        if name.endswith("]"):  # a part of an array, by the name that the user gave it
            try:
                return table.column(name), None
            except DataError:
                return None
        return None


def _few(names: Sequence[str]) -> str:
    shown = [quoted(name) for name in names]
    return ", ".join(shown if len(shown) <= SHOWN else [*shown[: SHOWN - 2], "…", shown[-1]])


def names_of(checkpoint: str) -> Like:
    """The names that a checkpoint, or that of a run directory, has kept.  Raises CheckpointError, UsageError."""
    from distbp.files.patience import patiently
    from distbp.training.checkpoint import read
    from distbp.training.run_directory import find_checkpoint

    path = find_checkpoint(checkpoint)
    problem = patiently(lambda: read(path)).problem
    if not problem.columns.x:
        raise UsageError(
            f"--like {checkpoint}: the network was trained on inputs without names; name the columns with --x"
        )
    return Like(str(path), problem.columns.x, problem.columns.y, problem.labels)
