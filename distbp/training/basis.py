"""On what the bits of a run depend: a record for each part of a run, and what users are told of it.

A reproducible run of the compiled engine depends on data, configuration, seed and the version of the numerics
(`distbp.mathematics.numerics`) alone.  Anyone can check it, on any machine.  Its record names
the engine and that version, and nothing of the machine.  All other runs have a record of the machine as well.

A run keeps the order of samples of the version with which it was begun, which its first record names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distbp.data.problem import Problem
from distbp.data.split import Split
from distbp.engine.choice import Choice
from distbp.engine.compiled_net import why_not_compiled
from distbp.mathematics.numerics import NUMERICS
from distbp.ranks.communicator import Communicator
from distbp.ranks.machine_record import Machine, differences, machine, not_compared
from distbp.settings.config import Config
from distbp.training.state import Checkpoint


def record(
    comm: Communicator, config: Config, problem: Problem, validation: Split | None, choice: Choice, threads: int
) -> Machine:
    """What the bits of this rank depend on from here on.  All ranks call this.

    Validation is a part of it, for its losses choose best.h5.
    """
    is_compiled = choice.is_compiled and not (validation and why_not_compiled(problem, config, validation))
    if all(comm.allgather(config.reproducible and is_compiled)):
        return {"engine": "compiled", "numerics": NUMERICS}
    return {**machine(threads), "engine": choice.name, "numerics": NUMERICS}


def is_checkable(machines: Sequence[Machine]) -> bool:
    """Whether a run with these records can be checked on any machine."""
    of_machines = any("cpu" in one or "numerics" not in one for one in machines)
    return bool(machines) and not of_machines and len({one["numerics"] for one in machines}) == 1


def last_engine(machines: Sequence[Machine]) -> str:
    """The engine that computed the last steps; early versions had one in NumPy only, and recorded none."""
    return str(machines[-1].get("engine", "numpy")) if machines else "numpy"


def basis_in_words(machines: Sequence[Machine], *, is_reproducible: bool) -> str:
    """What the bits of a run with these records depend on, for a line of `inspect` and of config.toml."""
    if is_checkable(machines):
        return f"checkable on any machine (numerics {machines[0]['numerics']})"
    return "the bits depend on" if is_reproducible else "the bits depend on the number of ranks, the MPI and"


def facts(one: Machine) -> list[str]:
    """'cpu: AMD EPYC 7763', for each fact of a record."""
    return [f"{name.replace('_', ' ')}: {fact}" for name, fact in one.items() if name != "step"]


def append_record(comm: Communicator, state: Checkpoint, mine: Machine, note: Callable[[str], None]) -> None:
    """Adds a record where it is another one than the last; where the bits cannot stay the same, the user is told."""
    records = comm.allgather(mine)
    here, before = records[0], {"engine": "numpy", "numerics": 0, **state.machines[-1]} if state.machines else None
    since = before.pop("step") if before else None
    if before != here:
        state.machines = [*state.machines, {"step": state.progress.step, **here}]
    if comm.rank > 0:
        return
    if before and before["numerics"] != here["numerics"]:
        note(
            f"note      the run was begun with numerics {state.numerics} and goes on with {here['numerics']}: its "
            "order of samples is kept, and the last bits of learning rates, powers of β and products may differ"
        )
    elif before and not state.config.reproducible:
        if before["engine"] != here["engine"]:
            note(f"note      the steps so far were computed by {before['engine']}; their last bits would differ now")
    elif before:
        _tell_changes(before, here, f"since step {since}", note)
    other = next((rank for rank, there in enumerate(records) if there != here), None)
    if other is not None and state.config.reproducible:
        note(f"warning   the ranks are not alike, so the bits may depend on their number; rank 0, and rank {other}:")
        for difference in differences(here, records[other]):
            note(f"          {difference}")


def comparable(before: Machine, here: Machine) -> tuple[Machine, Machine]:
    """What is to be compared of two records; where one does not depend on the machine, that is no difference."""
    names = {*before, *here} if "cpu" in before and "cpu" in here else {"engine", "numerics"}
    one, other = ({name: fact for name, fact in each.items() if name in names - {"step"}} for each in (before, here))
    return one, other


def _tell_changes(before: Machine, here: Machine, since: str, note: Callable[[str], None]) -> None:
    """Of a reproducible run."""
    before, here = comparable(before, here)
    if changed := differences(before, here):
        note(f"warning   from here on the bits may differ from those of the run so far ({since}):")
        for difference in changed:
            note(f"          {difference}")
    if unknown := not_compared(before, here):
        note(f"note      an older version began this run; what it has not recorded is not compared: {unknown}")
