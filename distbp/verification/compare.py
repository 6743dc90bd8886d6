"""What is compared: what a run directory says, with what a repeat of the run has.

Each function returns what is false, in words, or "".
"""

from __future__ import annotations

from dataclasses import replace

from distbp.data.fingerprint import Fingerprint
from distbp.training import checkpoint
from distbp.training.audit_digests import of_configuration, of_fingerprint, of_optimizer
from distbp.training.belonging import other_network, other_option
from distbp.training.chain import Line
from distbp.training.comparison import differences, digest
from distbp.training.history import History
from distbp.training.run import Run
from distbp.training.run_directory import cells_of
from distbp.training.state import Checkpoint
from distbp.verification.claims import Claims, in_manner

COMPARED = ("data", "parameters", "optimizer")


def data(claims: Claims, now: Fingerprint) -> str:
    """Whether the data are those of the run."""
    if claims.lines[0].data == of_fingerprint(now):
        return ""
    before = [one.rest.fingerprints["training"] for one in claims.kept if "training" in one.rest.fingerprints]
    details = "; ".join(before[0].differences(now)) if before else ""
    return f"step 0: data: these are not the data of the run{f' ({details})' if details else ''}"


def configurations(claims: Claims, run: Run) -> str:
    """Whether the configuration of each line is that of config.toml."""
    known: dict[tuple[str, str], str] = {}
    for one in claims.lines:
        if one.manner not in known:
            resolved = replace(run.config, epochs=in_manner(claims, one.manner).epochs)
            known[one.manner] = of_configuration(resolved, run.problem.network, one.engine)
        if one.configuration != known[one.manner]:
            return f"step {one.step}: configuration: config.toml has other options than the run had"
    return ""


def line(claimed: Line, own: Line) -> str:
    """In which digests a line differs from the one that belongs there."""
    wrong = [name for name in COMPARED if getattr(claimed, name) != getattr(own, name)]
    return f"step {claimed.step}: {', '.join(wrong)}" if wrong else ""


def layer(claims: Claims, own: Checkpoint, step: int) -> str:
    """For a message about a false line: where the parameters differ first, if the checkpoint of its step is kept."""
    for one in claims.of(step):
        if one.optimizer:
            found = (line for line in differences(checkpoint.read(one.path), own) if line.startswith(("layer", "opt")))
            where = next(found, "")
            return f"; {where} (in the run, and repeated)" if where else ""
    return "; no checkpoint of this step is kept that would show the layer"


def files(claims: Claims, own: Checkpoint) -> str:
    """The checkpoints and best.h5: their options, their scaling and classes, and their vectors against their lines."""
    own, by_step = replace(own, config=claims.told), {line.step: line for line in claims.lines}
    for one in claims.kept:
        why = other_network(one.rest, own) or other_option(one.rest, own)
        if why:
            return f"{one.path}: {why}"
        its = by_step.get(one.step)
        if its and one.parameters != its.parameters:
            return f"{one.path}: step {one.step}: its parameters are not those of audit.csv"
        if its and one.optimizer and one.optimizer != its.optimizer:
            return f"{one.path}: step {one.step}: the state of its optimizer is not that of audit.csv"
    return ""


def files_of(claims: Claims, own: Checkpoint, step: int) -> str:
    """The checkpoints and best.h5 of a step that has no line."""
    for one in claims.of(step):
        if one.parameters != digest(own.parameters):
            return f"step {step}: {one.path}: its parameters are not those of the run"
        if one.optimizer and one.optimizer != of_optimizer(own.optimizer):
            return f"step {step}: {one.path}: the state of its optimizer is not that of the run"
    return ""


def history(claims: Claims, own: History) -> str:
    """Losses and metrics in the checkpoints and in metrics.csv, after all steps.

    If the manner of the run has changed, the repeat has the last rows only, and nothing is compared.
    """
    if any(line.manner != claims.lines[0].manner for line in claims.lines):
        return ""
    repeated = cells_of(own)
    for one in claims.kept:
        if why := _other_cells(cells_of(one.rest.history), repeated):
            return f"{one.path}: {why}"
    why = _other_cells(claims.metrics, repeated)
    if not why and len(claims.metrics) > len(repeated):
        why = f"epoch {len(repeated)} is behind the end of the run"
    return f"metrics.csv: {why}" if why else ""


def _other_cells(claimed: list[list[str]], own: list[list[str]]) -> str:
    """The first cell of metrics.csv that is another one, in rows that both have; times are not compared."""
    if not claimed:
        return ""
    if claimed[0] != own[0]:
        return "has other columns than this version of distbp writes"
    columns = [place for place, name in enumerate(own[0]) if "second" not in name]
    for row, (one, other) in enumerate(zip(claimed[1:], own[1:], strict=False), 1):
        for place in columns:
            if one[place : place + 1] != [other[place]]:
                return f"epoch {row}: {own[0][place]} is {''.join(one[place : place + 1])}, repeated {other[place]}"
    return ""
