"""The labels or targets of `distbp import`: which of the two a column is, and which rows go to the test split."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError, UsageError
from distbp.tables.source_files import Table, is_number, shown

WHOLE, DIGITS = re.compile(r"\s*[+-]?(0|[1-9][0-9]*)\s*"), re.compile(r"\s*[+-]?[0-9]+\s*")
Progress = Callable[[str, int], None]  # what is read, and how many rows more


class TargetColumns:
    """The labels or targets of a split as they are in the sources, `values` (N, columns)."""

    def __init__(self, tables: Sequence[Table], y: Sequence[str], progress: Progress) -> None:
        self.name, self._tables, self._ends = ",".join(y), tables, []
        self._is_text = all(table.is_text for table in tables)
        blocks: list[NDArray[Any]] = []
        for table in tables:
            for block in table.blocks(y, numbers=False):
                blocks.append(block)
                progress("labels", len(block))
            self._ends.append(sum(map(len, blocks)))
        if not blocks:
            raise DataError(f"{tables[0].name}: has no rows; a split needs at least one sample")
        if len({block.shape[1] for block in blocks}) > 1:
            raise DataError(f"{', '.join(table.name for table in tables)}: {self.name} has not as many columns in all")
        self.values = np.concatenate(blocks)

    def place(self, row: int) -> str:
        """'file.csv, line 18 (…)' for a row of the split."""
        at = next(i for i, end in enumerate(self._ends) if row < end)
        return self._tables[at].place(row - (self._ends[at - 1] if at else 0))

    def integers(self, *, whole_floats: bool = False) -> NDArray[np.int64] | None:
        """(N,), if all of it is whole numbers: typed so, or text that is written as one, without leading zeros."""
        values = self.values[:, 0]
        if values.dtype.kind == "f" and whole_floats and (np.abs(values) < 2**53).all() and (values % 1 == 0).all():
            return values.astype(np.int64)
        if values.dtype.kind in "iub":
            if values.dtype.kind == "u" and (values > np.iinfo(np.int64).max).any():
                row = int((values > np.iinfo(np.int64).max).argmax())
                raise DataError(f"{self.place(row)}: {self.name} is {values[row]}, which is too large for a label")
            return values.astype(np.int64)
        if not self._is_text or not all(WHOLE.fullmatch(str(value)) for value in values.tolist()):
            return None
        try:
            return np.array([int(value) for value in values.tolist()], np.int64)
        except OverflowError:
            row = next(row for row, value in enumerate(values.tolist()) if abs(int(value)) >= 2**63)
            raise DataError(
                f"{self.place(row)}: {self.name} is {values[row]}, too large for a label; a target? --kind targets"
            ) from None

    def reals(self) -> NDArray[Any] | None:
        """(N, columns), if all of it is finite numbers."""
        if self.values.dtype.kind == "O" and not all(is_number(str(v)) for row in self.values.tolist() for v in row):
            return None
        found = self.values.astype(self.values.dtype if self.values.dtype.kind == "f" else np.float64)
        return found if np.isfinite(found).all() else None

    @property
    def is_code(self) -> bool:
        """Digits with leading zeros, such as 007: they are names, not numbers."""
        return self.values.dtype.kind == "O" and all(
            DIGITS.fullmatch(str(value)) for value in self.values[:, 0].tolist()
        )

    def texts(self) -> NDArray[Any]:
        """(N,) strings.  Raises DataError where one is empty."""
        if self.values.dtype.kind == "f":
            row = int((~np.isfinite(self.values[:, 0]) | (self.values[:, 0] % 1 != 0)).argmax())
            raise DataError(
                f"{self.place(row)}: {self.name} is {self.values[row, 0]}; labels are whole numbers or text"
            )
        found = np.array([str(value).strip() for value in self.values[:, 0].tolist()], object)
        for row, text in enumerate(found.tolist()):
            if not text:
                raise DataError(f"{self.place(row)}: {self.name!r} is empty; expected a label or a target")
            if "\0" in text or not text.isprintable():
                raise DataError(f"{self.place(row)}: {self.name!r} is {shown(text)}; expected text that can be printed")
        return found

    def mostly_numbers(self) -> bool:
        """Whether nine of ten values are numbers: then text among them is a mistake, not a label."""
        good = 0
        for cells in self.values.tolist():
            with suppress(ValueError, TypeError):
                good += bool(np.isfinite(float(cells[0])))
        return good > 0.9 * len(self.values)

    def first_bad(self) -> str:
        """A value that is no finite number, and where it is."""
        for row, cells in enumerate(self.values.tolist()):
            for cell in cells:
                try:
                    if np.isfinite(float(cell)):
                        continue
                except (ValueError, TypeError):
                    pass
                return f"{self.place(row)}: {self.name} is {shown(str(cell))}"
        raise AssertionError("no value was bad")


def as_kind(raw: dict[str, TargetColumns], kind: str) -> dict[str, NDArray[Any]]:
    """Labels (N,) of integers or strings, or targets (N, n_F) of floats, alike for all splits."""
    columns = list(raw.values())
    one_column = all(column.values.shape[1] == 1 for column in columns)
    if kind == "labels" and not one_column:
        raise DataError(f"{columns[0].place(0)}: {columns[0].name}: labels are one column")
    if kind != "targets" and one_column:
        found = [column.integers(whole_floats=kind == "labels") for column in columns]
        if all(values is not None for values in found):
            return dict(zip(raw, found, strict=True))  # type: ignore[arg-type]
    is_code = kind == "auto" and one_column and all(column.is_code for column in columns)
    if kind != "labels" and not is_code:
        found = [column.reals() for column in columns]
        if all(values is not None for values in found):
            return dict(zip(raw, found, strict=True))  # type: ignore[arg-type]
        if kind == "targets" or not one_column:
            bad = next(column for column, values in zip(columns, found, strict=True) if values is None)
            raise DataError(f"{bad.first_bad()}; targets are finite numbers")
    for column in columns if kind == "auto" and not is_code else ():
        if column.mostly_numbers():
            raise DataError(f"{column.first_bad()}, and nearly all others are numbers; if it is a label: --kind labels")
    return {split: column.texts() for split, column in raw.items()}


def draw_test_rows(y: NDArray[Any], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which rows go to the test split: that fraction of each class, or of all where there are no classes."""
    rng, chosen = np.random.default_rng(seed), np.zeros(len(y), bool)
    groups = [np.arange(len(y))]
    if y.dtype.kind != "f":
        _, which = np.unique(y, return_inverse=True)
        groups = [np.flatnonzero(which == i) for i in range(which.max() + 1)]
    for rows in groups:
        chosen[rng.permutation(rows)[: round(fraction * len(rows))]] = True
    if chosen.all() or not chosen.any():
        raise UsageError(f"--test-fraction {fraction:g}: of {len(y)} rows, a split would have none")
    return chosen
