"""Which engine computes the steps: the compiled one, if it was built and has what is needed, else the one in NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.engine.compiled_block import compiled_evaluation
from distbp.engine.compiled_engine import CompiledEngine
from distbp.engine.compiled_net import why_not_compiled
from distbp.engine.evaluate import Evaluation
from distbp.engine.laps import Lap, no_lap
from distbp.engine.native.library import FUSED, library, loaded
from distbp.engine.numpy_engine import NumpyEngine
from distbp.engine.step_memory import StepMemory
from distbp.engine.work import Work
from distbp.errors import UsageError
from distbp.mathematics.arena import ALIGNED, Arena
from distbp.mathematics.network import Parameters
from distbp.ranks.communicator import Communicator, agree
from distbp.settings.config import Config
from distbp.settings.option import AUTO

SLOW = "slow, as fused multiply-add, of which the bits are made, is computed without such an instruction"


@dataclass(frozen=True)
class Choice:
    """`kind` of CPU whose compiled step is taken, or "" for NumPy; `why`, where it is not the one that is hoped for."""

    kind: str
    why: str = ""

    @property
    def is_compiled(self) -> bool:
        return bool(self.kind)

    @property
    def name(self) -> str:
        """For records: "compiled (avx2)", or "numpy"."""
        return f"compiled ({self.kind})" if self.kind else "numpy"

    def describe(self) -> str:
        """For a summary: the name, and why."""
        return f"{self.name}: {self.why}" if self.why else self.name


def choose_engine(comm: Communicator, config: Config, problem: Problem, data: Split) -> Choice:
    """The engine for all ranks.  All ranks call this.

    Raises UsageError, agreed, for --engine compiled where that cannot be.
    """
    found = agree(comm, lambda: _choice(config, problem, data))
    everywhere = comm.allgather(found)
    if any(one.kind == "" for one in everywhere):
        rank = next(rank for rank, one in enumerate(everywhere) if one.kind == "")
        where = f"rank {rank}: " if found.kind else ""
        found = replace(everywhere[rank], why=f"{where}{everywhere[rank].why}")
    if config.engine == "compiled" and not found.kind:
        refused = UsageError(f"--engine compiled: {found.why}; leave it out, or give --engine numpy")
        refused.agreed = True
        raise refused
    return found


def make_engine(work: Work, lap: Lap = no_lap, memory: StepMemory | None = None) -> NumpyEngine:
    """The engine for this work; `lap` and `memory`: see `NumpyEngine`."""
    if not work.is_compiled:
        return NumpyEngine(work, lap, memory)
    return CompiledEngine(work, loaded(work.config.reproducible), lap, memory)


def evaluation_work(comm: Communicator, config: Config, problem: Problem, data: Split, threads: int = 1) -> Work:
    """Work for an evaluation of `data` by the engine with which a run of this configuration validates.

    All ranks call this.  Where that was --engine compiled, NumPy will do, too.
    """
    config = replace(config, engine=AUTO) if config.engine == "compiled" else config
    is_compiled = choose_engine(comm, config, problem, data).is_compiled
    return Work(comm, config, problem, data, (), threads=threads, is_compiled=is_compiled)


def make_evaluation(work: Work, parameters: Parameters, arena: Arena = ALIGNED) -> Evaluation:
    """An evaluation of work.training, for these parameters."""
    if not work.is_compiled:
        return Evaluation(work.comm, work.problem, work.training, work.config.dtype, arena)
    return compiled_evaluation(work, loaded(work.config.reproducible), parameters, arena)


def _choice(config: Config, problem: Problem, data: Split) -> Choice:
    """What this rank could do."""
    if config.engine == "numpy":
        return Choice("")
    lib = library(config.reproducible)
    if isinstance(lib, str):
        return Choice("", lib)
    if why := why_not_compiled(problem, config, data):
        return Choice("", why)
    return Choice(lib.kind, SLOW if lib.kind == FUSED else "")
