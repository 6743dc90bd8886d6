"""A run is made ready: data read, problem posed, engine built, state new or resumed, first files written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from distbp import __version__
from distbp.counted import counted
from distbp.data.far_values import far_values
from distbp.data.fingerprint import Fingerprint, fingerprint
from distbp.data.layout import CLASSES, TARGETS, Layout
from distbp.data.loader import Loader
from distbp.data.loading import choose_loader, held_bytes, make_loader, node_budget
from distbp.data.problem import Problem, pose
from distbp.data.split import Split, data_files, read_layout
from distbp.data.survey import Survey
from distbp.data.unmarked_missing import unmarked_missing
from distbp.engine.choice import choose_engine, make_engine
from distbp.engine.engine import Engine
from distbp.engine.planned_rank import all_nodes
from distbp.engine.work import Work
from distbp.errors import DataError, TooLargeError, UsageError
from distbp.mathematics.batches import batch_samples, batch_sizes, steps_per_epoch
from distbp.mathematics.grains import default_grain, grain_count
from distbp.mathematics.network import Network, initialize
from distbp.mathematics.numerics import NUMERICS
from distbp.ranks.communicator import Communicator, agree, from_first, on_first, on_first_patiently
from distbp.ranks.denormals import check_denormals
from distbp.ranks.job import NO_JOB, Job
from distbp.ranks.memory_plan import MemoryPlan
from distbp.ranks.same_everywhere import check_alike
from distbp.ranks.stop import Pulse
from distbp.ranks.threads import set_threads
from distbp.settings.config import Config
from distbp.settings.merged import resume
from distbp.settings.option import AUTO
from distbp.training.audit_steps import default_epochs
from distbp.training.basis import append_record, basis_in_words, facts, is_checkable, last_engine, record
from distbp.training.history import History
from distbp.training.invariants import history_columns
from distbp.training.memory_plan import MemoryPlanner, Needs
from distbp.training.phases import Phases
from distbp.training.run import Run
from distbp.training.run_directory import RunDirectory
from distbp.training.source import DataFiles, Source
from distbp.training.state import Checkpoint, Progress


@dataclass(frozen=True)
class Voice:
    """What the stages of a start share: the ranks; `say`, which tells the user a line, on rank 0; and the pulse."""

    comm: Communicator
    note: Callable[[str], None]
    pulse: Pulse

    def say(self, *lines: str) -> None:
        """Tells the user, once."""
        for line in lines if self.comm.rank == 0 else ():
            self.note(line)


@dataclass(frozen=True)
class Learnt:
    """What a run learns from, and what follows from it: the problem, and the configuration with what "auto" means."""

    config: Config
    problem: Problem
    training: Split
    validation: Split | None
    prints: dict[str, Fingerprint]
    memory: float  # bytes of a node for data


@dataclass(frozen=True)
class Supply:
    """How the samples come to the steps, and the memory that all of it takes."""

    config: Config
    batch_size: int
    count: int  # in an epoch
    loader: Loader
    training: Split
    plan: MemoryPlan


@dataclass(frozen=True)
class Start:
    """How a run begins.

    `resume_with`: options given again (maybe none) for the run that is in the directory, which goes on; None: a new
    run.  `or_begin`: if there is no run to go on with, one is begun.  `dry_run`: all that comes before the first step,
    and no file is written.  `job`: what the run is part of; it stops before the end of that.
    """

    resume_with: Mapping[str, Any] | None = None
    or_begin: bool = False
    dry_run: bool = False
    job: Job = NO_JOB


def prepare(
    voice: Voice, config: Config, directory: RunDirectory, start: Start = Start(), source: Source | None = None
) -> Run:
    """Reads, checks and builds everything that a run needs, and writes its first files.  Raises DistbpError, agreed.

    `directory` is that of config.out, and is locked here.  `source`: what is learnt from, in the place of the files
    that config.data names.
    """
    comm, job, planner = voice.comm, start.job, MemoryPlanner(voice.comm)
    check_alike(comm, config, start.resume_with)
    nodes = len(all_nodes(comm, comm.node_ranks()))
    started = partial(directory.append_start, job, ranks=comm.size, nodes=nodes)
    # In a job before anything may go wrong, so that one which is requeued again and again is noticed.
    at_once = started if job.id else lambda step: None
    config, stored = _begin_or_resume(voice, config, directory, start, at_once)
    if config.reproducible:
        agree(comm, check_denormals)
    threads = set_threads(comm, config.threads, reproducible=config.reproducible)
    voice.say(*threads.notes)
    planner.threads = threads.count
    shown = voice.note if start.dry_run else None
    learnt = _learn(voice, planner, config, source or DataFiles(), stored, shown)
    steps = _steps(voice, planner, learnt, stored, shown)
    config, problem, phases = steps.config, learnt.problem, Phases()
    sizes = batch_sizes(len(steps.training), steps.batch_size)
    choice = choose_engine(comm, config, problem, steps.training)
    work = Work(comm, config, problem, steps.training, sizes, threads=threads.count, is_compiled=choice.is_compiled)
    engine = make_engine(work, phases.lap)
    if config.wire != "full" and len(engine.nodes) == 1:
        voice.say(f"note      --wire {config.wire} changes nothing: all ranks are on one node")
    state, to_beat = _state(voice, work, engine, directory, stored, learnt.prints)
    basis = record(comm, config, problem, learnt.validation, choice, threads.count)
    append_record(comm, state, basis, voice.note)
    run = Run(
        comm=comm,
        config=config,
        problem=problem,
        training=steps.training,
        loader=steps.loader,
        validation=learnt.validation,
        batch_size=steps.batch_size,
        steps_per_epoch=steps.count,
        state=state,
        directory=directory,
        threads=threads,
        plan=steps.plan,
        engine=engine,
        choice=choice,
        phases=phases,
        job=job,
        to_beat=to_beat,
        before=(stored.config, last_engine(stored.machines)) if stored else None,
    )
    on_first(comm, lambda: _write_first_files(run, None if job.id else started, is_new=stored is None))
    return run


def _begin_or_resume(
    voice: Voice,
    config: Config,
    directory: RunDirectory,
    start: Start,
    started: Callable[[int], None],
) -> tuple[Config, Checkpoint | None]:
    """Locks the directory; the configuration of the run, and the checkpoint that it goes on from, if it does."""
    comm, resume_with = voice.comm, start.resume_with

    def open_directory(beat: Callable[[], None]) -> Checkpoint | None:
        is_resumed = resume_with is not None and not (start.or_begin and not directory.has_checkpoints())
        return _open(directory, is_resumed, started, voice.note, beat)

    stored = comm.broadcast(on_first_patiently(comm, open_directory, partial(voice.pulse, "waiting for run.lock")))
    if stored is None:
        return config, None
    assert resume_with is not None
    given = from_first(comm, partial(_all_files, resume_with))
    config = agree(comm, lambda: resume(stored.config, given, "command line"))
    agree(comm, lambda: _check_known(stored, config))
    agree(comm, lambda: _check_numerics(stored))
    return config, stored


def _learn(
    voice: Voice,
    planner: MemoryPlanner,
    config: Config,
    source: Source,
    stored: Checkpoint | None,
    shown: Callable[[str], None] | None,
) -> Learnt:
    """Surveys and reads the data, and poses the problem; `shown` is told the plan of the memory."""
    comm, allow_changed = voice.comm, config.allow_changed_data
    memory = node_budget(comm, config.memory)
    found = _survey(comm, config, source, stored, voice.note, voice.pulse)
    config = replace(found.config, stage_to="", time_limit=0.0, allow_changed_data=False)  # those are of this start
    found = replace(found, config=config)
    foreseen = planner.foresee(found, stored.problem.network if stored else None, memory)
    _check_plan(comm, foreseen, shown)
    labels = stored.problem.labels if stored else None
    training = read_layout(comm, found.training, labels=labels, memory=memory, pulse=voice.pulse)
    if training.why_not_shared:
        voice.say(f"note      each rank holds the data for itself: {training.why_not_shared}")
    if stored:
        problem = stored.problem
        problem.check(comm, training)
        agree(comm, lambda: _check_samples(stored, training))
        agree(comm, lambda: _check_epochs(stored, config))
    else:
        config, problem = pose(comm, config, training, voice.pulse)
    validation = _read_validation(comm, found.validation, problem, memory - held_bytes(training), voice.pulse)
    prints = _fingerprints(comm, training, validation)
    if stored:
        _check_same_data(comm, stored.fingerprints, prints, voice.note, allow_changed=allow_changed)
    voice.say(*_about_values(comm, problem, training, validation, voice.pulse))
    return Learnt(config, problem, training, validation, prints, memory)


def _steps(
    voice: Voice,
    planner: MemoryPlanner,
    learnt: Learnt,
    stored: Checkpoint | None,
    shown: Callable[[str], None] | None,
) -> Supply:
    """The batches, and who brings them; checks that the memory is enough for all of the run."""
    comm, training, validation = voice.comm, learnt.training, learnt.validation
    batch_size = batch_samples(learnt.config.batch_size, len(training))
    network, count = learnt.problem.network, steps_per_epoch(len(training), batch_size)
    config = _with_audit(_with_grain(learnt.config, batch_size), network, len(training), batch_size)
    if config.reproducible:
        _note_idle_ranks(comm, config, batch_size, voice.note)
    numerics = stored.numerics if stored else NUMERICS
    choice = choose_loader(comm, config, training, batch_size, learnt.memory - held_bytes(validation), numerics)
    needs = Needs(choice, network, training, validation, stored is not None)
    plan = planner.plan(needs)
    _check_plan(comm, plan, shown)
    config, loader, training = make_loader(comm, choice, training, voice.note)
    voice.say(*filter(None, [plan.warning]))
    return Supply(config, batch_size, count, loader, training, plan)


def _state(
    voice: Voice,
    work: Work,
    engine: Engine,
    directory: RunDirectory,
    stored: Checkpoint | None,
    prints: dict[str, Fingerprint],
) -> tuple[Checkpoint, float]:
    """The state, new or as it was stored, in the memory of the engine; and the validation loss that is to be beaten."""
    comm, config, problem, w, vectors = voice.comm, work.config, work.problem, engine.w, engine.vectors
    if stored is None:
        history = History.of({name: () for name in history_columns(problem.metric_names)})
        engine.fill(lambda: initialize(engine.parameters, problem.network, config.seed, config.initialization))
        return Checkpoint(config, problem, w, vectors, Progress(), history, [], prints), math.inf
    history, before = stored.history.snapshot(), stored

    def restore() -> None:
        w[:] = before.vector
        for name, vector in vectors.items():
            vector[:] = before.optimizer[name]

    state = Checkpoint(config, problem, w, vectors, replace(stored.progress), history, stored.machines, prints)
    reopen = partial(directory.reopen, state, voice.note)
    to_beat = comm.broadcast(on_first_patiently(comm, reopen, partial(voice.pulse, "reading best.h5"))) or 0.0
    engine.fill(restore)
    return state, to_beat


def _write_first_files(run: Run, started: Callable[[int], None] | None, *, is_new: bool) -> None:
    """On rank 0: the first checkpoint of a new run, and config.toml; `started` is told how many steps are done."""
    state, directory = run.state, run.directory
    if is_new:
        directory.save(state, run.config.keep)
        directory.write_metrics(state.history)
    if started:
        started(state.progress.step)
    where = f", {run.job.describe()}" if run.job.describe() else ""
    basis = basis_in_words(state.machines, is_reproducible=run.config.reproducible)
    now = [] if is_checkable(state.machines) else facts(state.machines[-1])
    directory.write_config(run.config, [f"last started on {run.comm.describe()}{where}; {basis}", *now])


def _open(
    directory: RunDirectory,
    is_resumed: bool,
    started: Callable[[int], None],
    note: Callable[[str], None],
    beat: Callable[[], None],
) -> Checkpoint | None:
    """On rank 0: locks the directory, and tells `started` how many steps are done; the checkpoint to go on from."""
    if not is_resumed:
        directory.create(note, beat)
        started(0)
        return None
    directory.lock(note, beat)
    stored, path, skipped = directory.newest(beat)
    started(stored.progress.step)
    for reason in skipped:
        note(f"skipped  {reason}")
    note(f"resuming {path}: {counted(stored.progress.epoch, 'epoch')}, {counted(stored.progress.step, 'step')} done")
    return stored


def _all_files(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options given again; patterns of DATA are the files that they mean now, as they are in the run."""
    return {**given, "data": data_files(given["data"])} if given.get("data") else dict(given)


def _survey(
    comm: Communicator,
    config: Config,
    source: Source,
    stored: Checkpoint | None,
    note: Callable[[str], None],
    pulse: Pulse,
) -> Survey:
    """What there is to learn from; in a run that goes on, with the columns in the order that its network knows."""
    if stored and config.task == AUTO:  # of an older version, which did not keep it
        config = replace(config, task=TARGETS if stored.problem.labels is None else CLASSES)
    found = source.survey(comm, config, note, pulse, is_resumed=stored is not None)
    for line in found.notes if comm.rank == 0 else ():
        note(line)
    if stored is None:
        return found
    problem = stored.problem
    training = agree(comm, lambda: problem.in_order(found.training))
    return replace(found, training=training)


def _check_known(stored: Checkpoint, config: Config) -> None:
    """Raises UsageError where data lie elsewhere now, and nothing is known to compare them with."""
    if stored.fingerprints or config.data == stored.config.data or config.allow_changed_data:
        return
    raise UsageError(
        f"DATA: the run has {stored.config.data!r}, given was {config.data!r}; its checkpoint is of an older version, "
        "which kept nothing to know its data by\nleave DATA out, or add --allow-changed-data if they are the same"
    )


def _check_numerics(stored: Checkpoint) -> None:
    """Raises UsageError where the order of the samples of a run is one that this version does not know."""
    if stored.numerics > NUMERICS:
        raise UsageError(
            f"--resume: expected a run that was begun with numerics {NUMERICS} or older, which this distbp "
            f"({__version__}) knows; this one was begun with numerics {stored.numerics}\nresume it with the distbp "
            "that began it, or start another run with another --out"
        )


def _check_samples(stored: Checkpoint, training: Split) -> None:
    """Raises DataError where the steps of the run so far are not those of so many samples."""
    progress, N = stored.progress, len(training)
    n = batch_samples(stored.config.batch_size, N)
    steps = steps_per_epoch(N, n)
    under_way = progress.step - progress.epoch * steps
    known = stored.fingerprints.get("training")
    before = known.rows if known else N
    if before != N or not 0 <= under_way <= steps or progress.samples != progress.epoch * N + min(under_way * n, N):
        was = f" ({before})" if known else ""
        raise DataError(
            f"{training.where('x')} has {N} samples now, which is not what this run was trained on{was}; start "
            "another run with another --out"
        )


def _fingerprints(comm: Communicator, training: Split, validation: Split | None) -> dict[str, Fingerprint]:
    prints = {"training": fingerprint(comm, training)}
    return {**prints, "validation": fingerprint(comm, validation)} if validation else prints


def _check_same_data(
    comm: Communicator,
    before: Mapping[str, Fingerprint],
    now: Mapping[str, Fingerprint],
    note: Callable[[str], None],
    *,
    allow_changed: bool,
) -> None:
    """Raises DataError, on all ranks, where the data of a run are others than before, and this is not allowed."""
    different = [
        f"{name} data: {difference}"
        for name in now
        if name in before
        for difference in before[name].differences(now[name])
    ]
    if different and not allow_changed:
        refused = DataError(
            "--resume: these are not the data that this run was trained on:\n  "
            + "\n  ".join(different)
            + "\ngive the data of the run, start another run with another --out, or add --allow-changed-data to go on "
            "with these"
        )
        refused.agreed = True
        raise refused
    if comm.rank == 0 and not before:
        note("note      the checkpoint is of an older version: whether the data are the same is not checked this time")
    for difference in different if comm.rank == 0 else ():
        note(f"warning   {difference}; the run goes on with --allow-changed-data")


def _check_epochs(stored: Checkpoint, config: Config) -> None:
    if config.epochs < stored.progress.epoch:
        raise UsageError(
            f"--epochs {config.epochs}: the run has done {stored.progress.epoch} already; they count in all"
        )


def _with_grain(config: Config, n: int) -> Config:
    """The configuration with the grain that "auto" means for batches of n samples."""
    if not config.reproducible:
        return config
    return replace(config, grain=default_grain(n) if config.grain == AUTO else config.grain)


def _with_audit(config: Config, network: Network, N: int, n: int) -> Config:
    """The configuration with the epochs between lines of audit.csv that "auto" means for batches of n of N samples."""
    if not config.reproducible or config.audit_epochs != AUTO:
        return config
    every = default_epochs(config, network, N, steps_per_epoch(N, n), grain_count(n, int(config.grain)))
    return replace(config, audit_epochs=every)


def _note_idle_ranks(comm: Communicator, config: Config, n: int, note: Callable[[str], None]) -> None:
    grains = grain_count(n, int(config.grain))
    if comm.rank == 0 and comm.size > grains:
        note(
            f"note      {grains} of {comm.size} ranks have work: batches of n = {n} have {grains} "
            f"grain{'s' * (grains > 1)} of {config.grain} samples. A new run with a smaller --grain or a larger "
            "--batch-size uses more ranks; its result is another one, and again the same on any number of ranks"
        )


def _read_validation(
    comm: Communicator, layout: Layout | None, problem: Problem, memory: float, pulse: Pulse
) -> Split | None:
    if layout is None:
        return None
    ordered = agree(comm, lambda: problem.in_order(layout))
    validation = read_layout(comm, ordered, labels=problem.labels, memory=memory, pulse=pulse)
    problem.check(comm, validation)
    return validation


def _about_values(
    comm: Communicator, problem: Problem, training: Split, validation: Split | None, pulse: Pulse
) -> list[str]:
    """What is odd about the values of the data, on rank 0.  All ranks call this."""
    found = []
    for of, scaling in (("x", problem.input), ("y", problem.target)):
        if scaling.rounded:
            first, more = training.layout.column_name(of, scaling.rounded[0]), len(scaling.rounded) - 1
            names = first + (f" and {more} more" if more else "")
            found.append(f"note      {training.where(of)}: constant up to rounding, and taken as constant: {names}")
    found += [f"warning   {one}" for one in unmarked_missing(comm, training, problem.input, pulse)]
    far = far_values(comm, problem, validation, pulse) if validation else []
    found += [f"warning   {one}; such a row can decide the validation loss, and so best.h5" for one in far]
    return found if comm.rank == 0 else []


def _check_plan(comm: Communicator, plan: MemoryPlan, note: Callable[[str], None] | None) -> None:
    """Raises TooLargeError where a run cannot fit; `note` then shows the whole table."""
    try:
        plan.check()
    except TooLargeError:
        for line in plan.lines() if note and comm.rank == 0 else ():
            note(line)  # type: ignore[misc]
        raise
