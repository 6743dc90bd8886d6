"""The file of --trace, in the format of Chrome's traces."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distbp.errors import RunError, UsageError
from distbp.files.new_file import write_synced
from distbp.files.output import check_out
from distbp.files.patience import is_passing, patiently
from distbp.files.write_patience import failure, written_patiently
from distbp.ranks.communicator import Communicator, on_first

MICROSECOND = 1e-6
BEGIN = '{"otherData": {"producer": "distbp"}'  # of a trace


def check_trace(comm: Communicator, path: str, inputs: Sequence[str] = ()) -> None:
    """Raises RunError or UsageError, agreed, where a trace cannot be written; before there is anything to write.

    A trace that distbp has written is replaced; no other file is.  `inputs`: files that the run reads.
    """

    on_first(comm, lambda: _check(path, inputs) if path else None)


def _check(path: str, inputs: Sequence[str] = ()) -> None:
    if not path.lower().endswith(".json"):
        raise UsageError(f"--trace {path}: expected a name that ends in .json (see --trace-steps for which steps)")
    check_out(Path(path), inputs, overwrite=False, option="--trace", is_own=_is_trace)


def _is_trace(path: Path) -> bool:
    """Whether distbp has written it."""

    def begins() -> bool:
        with open(path, "rb") as file:
            return file.read(len(BEGIN)) == BEGIN.encode()

    with suppress(OSError):
        return patiently(begins, is_tried_again=is_passing)
    return False


def write_trace(
    path: str, everything: Sequence[tuple[int, str, list[tuple[str, float, float]]]], note: Callable[[str], None]
) -> None:
    """Writes what each rank has recorded: its node, its host, and phases with their start and seconds.

    `note` tells the user what is no error.  Raises RunError or UsageError.
    """
    found: list[dict[str, Any]] = []
    for rank, (node, host, events) in enumerate(everything):
        place = {"pid": node, "tid": rank}
        found.append({"name": "process_name", "ph": "M", **place, "args": {"name": host}})
        found.append({"name": "thread_name", "ph": "M", **place, "args": {"name": f"rank {rank}"}})
        for phase, start, seconds in events:
            times = {"ts": round(start / MICROSECOND, 3), "dur": round(seconds / MICROSECOND, 3)}
            found.append({"name": phase, "ph": "X", **place, **times})
    _check(path)  # a file may have come there meanwhile
    whole = json.dumps({"otherData": {"producer": "distbp"}, "displayTimeUnit": "ms", "traceEvents": found})
    try:
        written_patiently(Path(path), lambda: write_synced(Path(path), whole), note)
    except OSError as error:
        raise RunError(f"{path}: cannot write the trace: {failure(error)}") from None
