"""Training from Python: the arguments of `distbp.train` become a run, and its result is given back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from distbp.errors import UsageError
from distbp.ranks.communicator import Communicator, OneProcess, agree
from distbp.ranks.threads import threads_given_back
from distbp.runs.given_data import paths_of, samples_of
from distbp.runs.listener import AgreedCallback, Callback, Notes
from distbp.runs.run import Run
from distbp.settings.config import Config, as_dict
from distbp.settings.files import with_paths
from distbp.settings.merged import merge
from distbp.settings.values import check_each
from distbp.training.checkpoint import read
from distbp.training.comparison import digest
from distbp.training.history import History
from distbp.training.listener import Listener
from distbp.training.no_directory import NoDirectory
from distbp.training.prepare import Start
from distbp.training.run import Run as RunOnARank
from distbp.training.source import GivenArrays, Source
from distbp.training.train import train

ORIGIN = "distbp.train"
WHOLE = ("epoch", "step")
ONLY_OF_COMMANDS = ("stop_signals", "grace", "stall_minutes", "data")
NEED_OUT = ("time_limit", "checkpoint_every", "checkpoint_minutes", "keep")


def communicator(comm: Any) -> Communicator:
    """The ranks of an mpi4py communicator; without one, this process alone.  Raises UsageError for anything else."""
    if comm is None:
        return OneProcess()
    if not hasattr(comm, "Split_type") or not hasattr(comm, "Allreduce"):
        raise UsageError(f"comm: expected an intracommunicator of mpi4py, got {type(comm).__name__}")
    from distbp.ranks.mpi import MPIRank

    return MPIRank(comm)


@contextmanager
def scope_of(comm: Any) -> Iterator[Communicator]:
    """The ranks of a communicator; all that is made of them is given back at the end, and the threads of the BLAS.

    Nothing is given back where an error is that of some ranks only: the others could not take part.
    """
    with threads_given_back():
        ranks = communicator(comm)
        scope = ranks.scope()
        try:
            yield scope
        except BaseException as error:
            if getattr(error, "agreed", False) or scope.size == 1:
                scope.close()
                ranks.close()
            raise
        scope.close()
        ranks.close()


def settings(options: Mapping[str, Any], out: Any, *, is_resumed: bool) -> tuple[Config, dict[str, Any]]:
    """The configuration of a run, and the options that were given.  Raises UsageError."""
    for name in ONLY_OF_COMMANDS:
        if name in options:
            raise UsageError(f"{ORIGIN}: {name} is an option of the command line alone")
    for name in NEED_OUT if out is None else ():
        if name in options:
            raise UsageError(f"{ORIGIN}: {name} needs out=, a directory for the run")
    given = {name: _plain(value) for name, value in options.items()}
    if out is not None:
        given["out"] = os.fsdecode(out)
    given = with_paths(check_each(given, ORIGIN), ORIGIN)
    asked = ("out", "time_limit", "stage_to")
    known = {name: given[name] for name in asked if name in given} if is_resumed else given
    return merge(known, ORIGIN), given


def _plain(value: Any) -> Any:
    """NumPy's numbers, tuples and paths as the configuration has them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    return os.fsdecode(value) if isinstance(value, os.PathLike) else value


def train_in_python(
    data: Any, validation: Any, comm: Any, on_epoch: Callback | None, how: Mapping[str, Any], options: Mapping[str, Any]
) -> Run:
    """See `distbp.train`; `how` has its arguments `out`, `resume` and `progress`."""
    with scope_of(comm) as scope:
        resume = how["resume"]

        def begin() -> tuple[Config, dict[str, Any], Source | None]:
            if resume not in (False, True, "auto"):
                raise UsageError(f"{ORIGIN}: resume is {resume!r}; expected True, False or 'auto'")
            if resume and how["out"] is None:
                raise UsageError(f"{ORIGIN}: resume needs out=, the directory of the run")
            config, given = settings(options, how["out"], is_resumed=resume is True)
            paths = paths_of(data)
            if paths is not None or data is None:
                if validation is not None:
                    raise UsageError(f"{ORIGIN}: validation goes with arrays; of files it is validation_split")
                given |= {"data": with_paths({"data": paths}, ORIGIN)["data"]} if paths else {}
                return (config if resume is True else merge(given, ORIGIN)), given, None
            held = None if validation is None else samples_of(validation, "validation")
            return config, given, GivenArrays(samples_of(data, "data"), held)

        config, given, source = agree(scope, begin)
        notes, console = Notes(), None
        if how["progress"] and scope.rank == 0:
            from distbp.training.report import Console

            console = Console()
        listeners: list[Listener] = [console] if console else []
        listeners += [notes] if scope.rank == 0 else []
        listeners += [AgreedCallback(scope, on_epoch)] if on_epoch else []
        try:
            run = train(
                scope,
                config,
                Start(given if resume else None, or_begin=resume == "auto"),
                listeners=listeners,
                source=source,
                directory=NoDirectory() if how["out"] is None else None,
            )
            return _result(scope, run, notes.lines)
        finally:
            if console:
                console.close()


def _result(comm: Communicator, run: RunOnARank, notes: list[str]) -> Run:
    """What is left when the memory of the run is given back."""
    state = run.state
    history = {
        name: values.astype(np.int64 if name in WHOLE else np.float64, copy=True)
        for name, values in state.history.items()
    }
    last = replace(state, vector=state.vector.copy(), optimizer={}, history=state.history.snapshot())
    states = {"last": last}
    _, epoch = run.best()
    best = {name: values[epoch - 1].item() for name, values in history.items()} if epoch else None
    if epoch:
        kept = comm.broadcast(None if run.kept is None else run.kept.vector)
        earlier = None if kept is not None else agree(comm, lambda: read(run.directory.best))  # of an earlier start
        until_then = replace(last, vector=np.asarray(kept), history=History(state.history.rows[:epoch]))
        states["best"] = until_then if earlier is None else replace(earlier, optimizer={})
    checkpoint = str(run.directory.checkpoint(state.progress.step)) if run.directory.writes else None
    return Run(history, best, checkpoint, digest(last.parameters), as_dict(run.config), tuple(notes), states)
