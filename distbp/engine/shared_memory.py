"""What the ranks of a node share while they train, as it follows from their work."""

from __future__ import annotations

from distbp.engine.batch_gradient import has_overlap, sums_of_a_rank
from distbp.engine.native.library import loaded
from distbp.engine.step_memory import Contents, StepMemory
from distbp.engine.work import Work, optimizer_of
from distbp.mathematics.clipping import exact_squares
from distbp.mathematics.grains import grain_count


def contents_of(work: Work) -> Contents:
    """What the ranks of a node hold together."""
    config = work.config
    grains = grain_count(work.n, work.grain) if work.is_compiled and config.reproducible else 0
    return Contents(
        work.network,
        config.dtype,
        optimizer_of(config).vectors,
        sums_of_a_rank(config, work.sizes, work.comm.size),
        f"state of {config.optimizer}",
        (grains, len(work.problem.sums)),
    )


def step_memory(work: Work) -> StepMemory:
    """The memory that they share.  The compiled step always measures gradients exactly."""
    config, is_compiled = work.config, work.is_compiled
    return StepMemory(
        work.comm,
        contents_of(work),
        exact=config.clip_norm > 0 or is_compiled,
        overlap=has_overlap(config, work.comm),
        arena=work.arena,
        squares=loaded(config.reproducible).squares if is_compiled else exact_squares,
    )
