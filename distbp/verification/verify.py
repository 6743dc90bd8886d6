"""Is a run what its configuration and its data give?  The steps are repeated, and each line of audit.csv is compared.

With the same bits on every number of ranks there is no tolerance: one other bit makes a line false.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from distbp.counted import counted
from distbp.errors import DistbpError, RunError, UsageError
from distbp.ranks.attention import Attention
from distbp.ranks.communicator import Communicator, from_first, on_first, on_first_patiently
from distbp.ranks.machine_record import differences as other_facts
from distbp.training import checkpoint
from distbp.training.audit import LineMaker
from distbp.training.audit_digests import of_optimizer
from distbp.training.basis import comparable
from distbp.training.comparison import digest
from distbp.verification import compare
from distbp.verification.claims import Claims, in_manner, read_claims
from distbp.verification.plan import Segment, bisected, drawn, segments_of
from distbp.verification.repeat import Repeat, State

Say = Callable[[str], None]
SILENT_SECONDS = 60.0  # after which a line says how far the repeat is


@dataclass(frozen=True)
class How:
    """What is repeated: all, `segments` of them by lot (from `seed`, if there is one), or those of a bisection.

    `data`: the data files, if they are not where the run says.
    """

    data: Sequence[str] = ()
    segments: int = 0
    seed: int | None = None
    bisect: bool = False
    trust_links: bool = False
    memory: float = 0.0


def verify(comm: Communicator, path: str, how: How, attention: Attention, say: Say) -> str:
    """Verifies the run in a directory, on all ranks; `say` tells the user a line, on rank 0.

    Returns what is false, the same on all ranks, or "".  Raises DistbpError, agreed, if the run cannot be verified.
    """

    def read(beat: Callable[[], None]) -> Claims:
        return read_claims(path, how.data, beat, trust_links=how.trust_links, memory=how.memory)

    pulse = partial(attention.pulse(), "reading the run")
    claims = comm.broadcast(on_first_patiently(comm, read, pulse))
    assert claims is not None
    return verify_claims(comm, claims, how, attention, say)


def verify_claims(comm: Communicator, claims: Claims, how: How, attention: Attention, say: Say) -> str:
    """Verifies what a run directory says; see `verify`."""
    with _Audit(comm, claims, attention, say if comm.rank == 0 else lambda text: None) as audit:
        found = audit.before_the_steps() or audit.steps(how)
        if found:
            audit.tell_machine()
        return found


class _Audit:
    """The audit of one run.  Its methods are collectives."""

    def __init__(self, comm: Communicator, claims: Claims, attention: Attention, say: Say) -> None:
        self._comm, self._claims, self._attention, self._say = comm, claims, attention, say
        self._lines = claims.lines
        self._stack, self._told = ExitStack(), time.monotonic()
        self._repeat: Repeat | None = None
        self._manner = ("", "")

    def __enter__(self) -> _Audit:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def before_the_steps(self) -> str:
        """What is false and can be seen without any step, or ""."""
        claims, lines = self._claims, self._lines
        if claims.flaw:
            return f"audit.csv: {claims.flaw}"
        if claims.damaged:
            return claims.damaged[0]
        repeat = self._made_ready(lines[0].manner)
        run, steps = repeat.run, repeat.run.steps_per_epoch
        epochs = f"{lines[-1].step // steps} of {counted(claims.config.epochs, 'epoch')}"
        self._say(f"run       {counted(len(lines), 'line')} in audit.csv, up to step {lines[-1].step}: {epochs}")
        if lines[-1].step > claims.config.epochs * steps:
            return f"step {lines[-1].step}: a run of {counted(claims.config.epochs, 'epoch')} has no such step"

        def look() -> str:
            found = compare.data(claims, run.state.fingerprints["training"]) or compare.configurations(claims, run)
            found = found or compare.line(lines[0], repeat.maker(None).line())
            return found or compare.files(claims, run.state)

        return from_first(self._comm, look)

    def steps(self, how: How) -> str:
        """What is found false when steps are repeated, or ""."""
        claims, lines = self._claims, self._lines
        usable = {one.step for one in claims.kept if one.optimizer}
        segments = segments_of(lines, usable)
        if how.segments or how.bisect:
            self._say("note      metrics.csv, and files of steps that have no line, are compared when all is repeated")
        if how.segments and segments:
            return self._by_lot(segments, how)
        if how.bisect and len(segments) > 1:
            return self._bisected(segments)
        return self._whole(segments)

    def tell_machine(self) -> None:
        """What is false may be so because another machine computed the run: in what this one differs."""
        if self._comm.rank or not self._repeat or not self._claims.kept:
            return
        now = self._repeat.run.state.machines[-1]
        before = next((one.rest.machines[-1] for one in self._claims.kept[:1] if one.rest.machines), now)
        found = other_facts(*comparable(before, now))
        if found:
            self._say("note      the bits may depend on what is different here (distbp help reproducibility):")
        for line in found:
            self._say(f"          {line}")

    # ---- what is repeated

    def _by_lot(self, segments: list[Segment], how: How) -> str:
        seed = self._comm.broadcast(secrets.randbits(32) if how.seed is None else how.seed)
        chosen = drawn(len(segments), how.segments, seed)
        self._say(f"segments  {len(chosen)} of {len(segments)} between kept checkpoints, by lot with --seed {seed}")
        found = [self._segment(segments[place]) for place in chosen]
        return next(filter(None, found), "")

    def _bisected(self, segments: list[Segment]) -> str:
        found: dict[int, str] = {}

        def is_true(place: int) -> bool:
            found[place] = self._segment(segments[place])
            return not found[place]

        place = bisected(len(segments), is_true)
        if place is not None:
            self._say("note      this is the first false line if all that follow are false as well")
            return found[place]
        self._say("note      the last segment is true, so a bisection finds nothing; all is repeated")
        return self._whole(segments)

    def _segment(self, segment: Segment) -> str:
        """One segment, from its kept checkpoint."""
        first = segment[0]
        start = on_first(self._comm, lambda: self._stored(self._lines[first].step)) if first else None
        return self._part(start, segment, [segment])

    def _whole(self, segments: list[Segment]) -> str:
        """All steps up to the last line, the last file and the last row of metrics.csv."""
        claims, steps = self._claims, {line.step for line in self._lines}
        rows = min(len(claims.metrics) - 1, claims.config.epochs)
        end_of_rows = rows * self._made_ready(self._lines[-1].manner).run.steps_per_epoch
        others = [step for step in (*(one.step for one in claims.kept), end_of_rows) if step not in steps]
        found = self._part(None, (0, len(self._lines) - 1), segments, others)
        repeat = self._made_ready(self._lines[-1].manner)
        return found or from_first(self._comm, lambda: compare.history(self._claims, repeat.run.state.history))

    def _part(self, start: State | None, part: Segment, segments: Sequence[Segment], others: Sequence[int] = ()) -> str:
        """Repeats a part, which is these segments, and looks at the `others` steps in it as well."""
        first, last = part
        lines, is_whole = self._lines, part == (0, len(self._lines) - 1)
        groups = [list(group) for _, group in groupby(range(first + 1, last + 1), lambda place: lines[place].manner)]
        for group in groups or [[]]:
            before = lines[group[0] - 1 if group else first]
            is_last = not group or group[-1] == last
            repeat = self._made_ready(lines[group[0] if group else first].manner)
            places = {lines[place].step: place for place in group}
            end = max(places, default=before.step)
            further = {step for step in others if before.step < step and (is_last or step < end)}
            look = partial(self._look, places, repeat, repeat.maker(before), segments)
            found = repeat.part(start, sorted({*places, *further}), look, is_validated=is_whole)
            if found:
                self._say(f"steps     {before.step} to {max({end, *further})}: false from {found}")
                return found
            start = repeat.state() if self._comm.rank == 0 and not is_last else None
        return ""

    def _look(
        self, places: dict[int, int], repeat: Repeat, maker: LineMaker, segments: Sequence[Segment], step: int
    ) -> str:
        """On rank 0, after a step: what is false there.  A line is told for a segment that ends there and is true."""
        self._attention.beat(f"comparing step {step}")
        claims, state = self._claims, repeat.run.state
        if step not in places:
            return compare.files_of(claims, state, step)
        found = compare.line(self._lines[places[step]], maker.line())
        if found:
            return found + compare.layer(claims, state, step)
        for first, last in segments:
            if last == places[step]:
                self._tell(f"steps     {self._lines[first].step} to {step}: true, {counted(last - first, 'line')}")
        if time.monotonic() - self._told > SILENT_SECONDS:
            self._tell(f"note      true so far: step {step}")
        return ""

    def _tell(self, text: str) -> None:
        self._told = time.monotonic()
        self._say(text)

    # ---- with what it is repeated

    def _made_ready(self, manner: tuple[str, str]) -> Repeat:
        """A repeat with this horizon and engine."""
        if self._repeat is None or manner != self._manner:
            self._stack.close()
            try:
                self._repeat = Repeat(self._comm, in_manner(self._claims, manner), self._attention)
            except UsageError as error:
                raise _not_here(self._claims.path, error) from None
            self._stack.callback(self._repeat.close)
            self._manner = manner
        return self._repeat

    def _stored(self, step: int) -> State:
        """What the checkpoint of a step holds, which is that of its line."""
        one = next(one for one in self._claims.of(step) if one.optimizer)
        state = checkpoint.read(one.path)
        if (digest(state.parameters), of_optimizer(state.optimizer)) != (one.parameters, one.optimizer):
            raise RunError(f"{one.path}: has changed while the run was verified; start again when nothing writes there")
        return State(step, state.vector, state.optimizer)


def _not_here(path: str, error: UsageError) -> DistbpError:
    """The error of an engine that this machine does not have, in words that help here; another error as it is."""
    what = "--engine compiled: "
    if not str(error).startswith(what):
        return error
    why = str(error).removeprefix(what).partition("; ")[0]
    wrong = RunError(f"{path}: cannot be verified here: the compiled engine computed this run: {why}")
    wrong.agreed = True
    return wrong
