"""The type that inputs are stored in: that of the sources; for text float32, or float64 where digits would be lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distbp.data.names import quoted
from distbp.errors import DataError
from distbp.tables.choice import few
from distbp.tables.distinct import DIGITS, EXACT
from distbp.tables.one_hot import Encoder, Plain
from distbp.tables.row_stream import stream
from distbp.tables.survey import ColumnSurvey
from distbp.tables.table import Table

DType = np.dtype[Any]
SINGLE, DOUBLE, BYTE = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8)
Columns = Sequence[tuple[Encoder, Sequence[ColumnSurvey]]]  # each with what was found in each split


def stored_type(columns: Columns, wanted: str, first: Table) -> tuple[DType, list[str]]:
    """The type for all inputs, and notes for the user.

    wanted: "auto", "float32" or "float64"; `first`: the table whose types the others have to fit.  Raises DataError.
    """
    numbers = [
        (encoder.about.name, survey) for encoder, found in columns if isinstance(encoder, Plain) for survey in found
    ]
    if wanted != "auto":
        dtype = np.dtype(wanted)
        return dtype, _explicit(numbers, dtype)
    typed = _of_types(numbers, first)
    written = [(name, survey.digits.lost()) for name, survey in numbers if survey.is_written]
    lost = {name: why for name, why in written if why}
    types = [*([typed] if typed else []), *([DOUBLE if lost else SINGLE] if written else [])]
    dtype = np.result_type(*types) if types else BYTE
    _check_whole(numbers, dtype)
    if not lost:
        return dtype, []
    return dtype, [f"inputs are stored as {dtype}: float32 would lose digits of {_first_few(lost)}"]


def _first_few(lost: dict[str, str]) -> str:
    name, why = next(iter(lost.items()))
    if len(lost) == 1:
        return f"{quoted(name)} ({why})"
    return f"{few([quoted(one) for one in lost])} (of {quoted(name)}: {why})"


def _of_types(numbers: Sequence[tuple[str, ColumnSurvey]], first: Table) -> DType | None:
    """The type that holds all typed columns of the first table.  Raises DataError where others do not fit into it."""
    types = [(dtype, table) for _, survey in numbers for dtype, table in survey.types.items()]
    if not types:
        return None
    own = [dtype for dtype, table in types if table == first.name] or [types[0][0]]
    reference = _common(own, [survey for _, survey in numbers])
    for dtype, table in types:
        if table != first.name and not np.can_cast(dtype, reference):
            raise DataError(
                f"{table}: inputs of type {dtype}, and {reference} before; choose what to store with --dtype"
            )
    return reference


def _common(types: Sequence[DType], surveys: Sequence[ColumnSurvey]) -> DType:
    types = [BYTE if dtype.kind == "b" else dtype for dtype in types]
    found = np.result_type(*types)
    if found.kind == "f" and all(dtype.kind in "iu" for dtype in types):  # int64 and uint64
        if max(survey.highest for survey in surveys) < 2**63:
            return np.dtype(np.int64)
        if min(survey.lowest for survey in surveys) >= 0:
            return np.dtype(np.uint64)
    return found


def _check_whole(numbers: Sequence[tuple[str, ColumnSurvey]], dtype: DType) -> None:
    """Raises DataError where whole numbers are too large to be exact in a floating-point type."""
    if dtype.kind != "f":
        return
    for name, survey in numbers:
        if survey.lowest < -EXACT or survey.highest > EXACT:
            value = survey.highest if survey.highest > EXACT else survey.lowest
            raise DataError(
                f"{survey.place(0).table.name}: column {name!r} has whole numbers such as {value}, which {dtype} would "
                "round, and other inputs are no whole numbers; leave it out with --drop, or make categories of it with "
                "--categorical"
            )


def _explicit(numbers: Sequence[tuple[str, ColumnSurvey]], dtype: DType) -> list[str]:
    """What --dtype costs."""
    _check_whole(numbers, dtype)
    if dtype != SINGLE:
        return []
    lost = {name: survey.digits.lost() for name, survey in numbers if survey.is_written}
    for name, survey in numbers:
        if survey.lowest < -(2**24) or (survey.highest > 2**24 and survey.types):
            lost[name] = f"whole numbers up to {max(abs(survey.lowest), abs(survey.highest))}"
    lost = {name: why for name, why in lost.items() if why}
    return [f"--dtype float32 loses digits of {_first_few(lost)}"] if lost else []


def check_written(tables: Sequence[Table], surveys: Sequence[ColumnSurvey], words: frozenset[str]) -> None:
    """Raises DataError where a whole number in text has more digits than float64 holds."""
    names = tuple(dict.fromkeys(survey.name for survey in surveys if survey.digits.too_long is not None))
    for rows in stream(tables, names, frozenset(names), words) if names else ():
        for name, values in zip(names, rows.values, strict=True):
            if not values.is_text:
                continue
            for row, text in enumerate(values.array[:, 0].tolist()):
                if DIGITS.fullmatch(text) and len(text) > 15 and int(text) != int(float(text)):
                    raise DataError(
                        f"{rows.first + row}: column {name!r} is {text}, which has more digits than float64 holds; "
                        "leave it out with --drop, or make categories of it with --categorical"
                    )
