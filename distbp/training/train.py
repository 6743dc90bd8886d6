"""Training: data → network → backpropagation → reduction → optimizer → checkpoint, on every rank alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from distbp.ranks.attention import Attention
from distbp.ranks.communicator import Communicator
from distbp.settings.config import Config
from distbp.training.audit import Audit
from distbp.training.checkpointing import Checkpointing
from distbp.training.deadline import Deadline, ends_of, time_of_the_first
from distbp.training.listener import Listener, Listeners
from distbp.training.loop import Loop
from distbp.training.prepare import Start, Voice, prepare
from distbp.training.run import Run
from distbp.training.run_directory import RunDirectory
from distbp.training.soundness import Soundness
from distbp.training.source import DataFiles, Source
from distbp.training.trace import Trace

FROM_THE_BEGINNING = Start()
NOBODY = Attention()


def train(
    comm: Communicator,
    config: Config,
    start: Start = FROM_THE_BEGINNING,
    *,
    attention: Attention = NOBODY,
    listeners: Sequence[Listener] = (),
    source: Source | None = None,
    directory: RunDirectory | None = None,
) -> Run:
    """Trains as configured, on all ranks of `comm`, which call this with the same arguments.  Raises DistbpError.

    `listeners` are told after those that training has itself (see `table_of`); one that talks to the user is given on
    rank 0 alone.  The run stops where `attention` asks for it, before the end of the job, or after config.time_limit
    minutes.  `source`: what is learnt from, in the place of the files that config.data names; `directory`: where to
    save, in the place of config.out.
    """
    table = Listeners(table_of(attention, listeners))
    with ExitStack() as stack:
        directory = directory or RunDirectory(config.out, dry=start.dry_run, note=table.note)
        stack.enter_context(directory)  # rank 0 holds its lock
        staging = None
        if config.stage_to:
            from distbp.data.staging import Staging

            staging = stack.enter_context(Staging(comm, config.stage_to))
        if comm.rank == 0 and (ends := ends_of(start.job, config.time_limit)):
            attention = replace(attention, why_stop=Deadline(ends, directory.save_seconds, attention.why_stop))
            start = replace(start, job=replace(start.job, end=time_of_the_first(ends)))
        elif start.job.id and comm.rank == 0:
            table.note(f"note      the end of {start.job.name} is not known; --time-limit MINUTES sets one")
        voice = Voice(comm, table.note, attention.pulse("the first step"))
        run = prepare(voice, config, directory, start, source or DataFiles(staging, start.dry_run))
        stack.callback(run.loader.close)
        stack.callback(run.engine.close)
        if not start.dry_run:
            Loop(run, attention, table).all_epochs()
        else:
            table.begin(run)
        return run


def table_of(attention: Attention, listeners: Sequence[Listener]) -> list[Listener]:
    """All listeners in their order: what is not sound is not saved, and what the user is told has been saved."""
    note = Listeners(listeners).note
    audit = Audit(note)
    return [Soundness(), Trace(note), audit, Checkpointing(attention, before=audit.write), *listeners]
