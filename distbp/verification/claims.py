"""What a run directory says of its run: the configuration, the lines of audit.csv, and the checkpoints that are kept.

The directory may come from a stranger.  All files are read by the readers that check them, and nothing in them is
believed: `distbp.verification.verify` finds out what is true.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distbp.data.data_file import stamp
from distbp.data.split import IN_MEMORY, data_files
from distbp.errors import CheckpointError, DataError, RunError, UsageError
from distbp.files.patience import UnreadError, patiently
from distbp.mathematics.numerics import NUMERICS
from distbp.settings.config import Config
from distbp.settings.files import read_toml
from distbp.settings.merged import merge
from distbp.settings.option import AUTO
from distbp.settings.values import check_each
from distbp.training import checkpoint
from distbp.training.audit_digests import of_optimizer
from distbp.training.chain import Line, break_of
from distbp.training.comparison import digest
from distbp.training.run_directory import RunDirectory, is_directory
from distbp.training.state import Checkpoint

OF_ONE_START = ("out", "stage_to", "trace", "trace_steps", "time_limit", "checkpoint_minutes", "allow_changed_data")
MOST_BYTES = 2**30  # of a text file


@dataclass(frozen=True)
class Kept:
    """A checkpoint of the run, or its best.h5, with the digests of what is in it; best.h5 has no optimizer.

    `rest`: what is in it besides the vectors.
    """

    path: Path
    step: int
    parameters: str
    optimizer: str
    rest: Checkpoint


@dataclass(frozen=True)
class Claims:
    """What a run directory says.  `told` is its config.toml, and `config` is what is to be repeated.

    `flaw`: why audit.csv is no chain; `damaged`: what is wrong with checkpoints that are not whole; `metrics`: the
    cells of metrics.csv.
    """

    path: str
    told: Config
    config: Config
    lines: list[Line]
    flaw: str
    kept: list[Kept]
    damaged: list[str]
    metrics: list[list[str]]

    def of(self, step: int) -> list[Kept]:
        """The files of a step."""
        return [one for one in self.kept if one.step == step]


def read_claims(
    path: str, data: Sequence[str], beat: Callable[[], object], *, trust_links: bool = False, memory: float = 0.0
) -> Claims:
    """The claims of a run directory, whose data are these files; without any, those that the run names.

    Raises RunError for a directory that holds no run that can be verified, UsageError, DataError.
    """
    directory = RunDirectory(path)
    if not is_directory(directory.path):
        raise RunError(f"{path}: expected the directory of a run; there is none")
    told = _told(directory)
    config = _to_repeat(directory, told, data, trust_links=trust_links)
    if not _is_file(directory.path / "audit.csv"):
        raise RunError(
            f"{path}: cannot be verified: there is no audit.csv; an older version began this run, or the file was "
            "removed"
        )
    lines, wrong = directory.read_audit()
    kept, damaged = _kept(directory, beat)
    if other := {one.rest.numerics for one in kept} - {NUMERICS}:
        raise RunError(
            f"{path}: cannot be verified: it was begun with numerics {min(other)}, and this version of distbp computes "
            f"with numerics {NUMERICS}, which gives other bits; take a version with those"
        )
    flaw = wrong or break_of(lines)
    metrics = directory.read_metrics() if _is_file(directory.path / "metrics.csv") else []
    return Claims(path, told, replace(config, memory=memory), lines, flaw, kept, damaged, metrics)


def _told(directory: RunDirectory) -> Config:
    """The configuration in config.toml."""
    path = directory.path / "config.toml"
    if not _is_file(path):
        raise RunError(f"{directory.path}: cannot be verified: there is no config.toml")
    found = check_each(read_toml(path), str(path))
    if not found.get("reproducible"):
        raise RunError(
            f"{directory.path}: cannot be verified: it was trained without --reproducible, so its bits depend on the "
            "number of ranks and cannot be repeated; train with --reproducible"
        )
    return merge(found, str(path))


def _to_repeat(directory: RunDirectory, told: Config, data: Sequence[str], *, trust_links: bool) -> Config:
    """The configuration of the repeat: no path in it is written to, and the data are these files, if there are some."""
    if told.trust_links and not trust_links:
        raise UsageError(
            f"{directory.path}: the run follows links in its data; add --trust-links if you trust the data"
        )
    own = {name: getattr(Config(), name) for name in OF_ONE_START}
    config = replace(told, **own, trust_links=trust_links, data=list(data) or told.data)
    if told.data == [IN_MEMORY] and data:
        validation = AUTO if told.validation_split else ""
        return replace(config, split=AUTO, validation_split=validation, x=AUTO, y=AUTO, data=_files(data))
    if told.data == [IN_MEMORY]:
        raise RunError(f"{directory.path}: was trained on arrays in memory; name files that hold them with --data FILE")
    return replace(config, data=_files(config.data))


def _is_file(path: Path) -> bool:
    """Whether it is there.  Raises RunError for what is no file, or one of absurd size: it comes from a stranger."""
    try:
        status = path.stat()
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
        raise RunError(f"{path}: expected a file of at most {MOST_BYTES >> 20} MiB")
    return True


def _files(names: Sequence[str]) -> list[str]:
    try:
        files = data_files(names)
        for file in files:
            stamp(file)
    except DataError as error:
        raise DataError(f"{error}\nname the data of the run with --data FILE") from None
    return files if names else []


def _kept(directory: RunDirectory, beat: Callable[[], object]) -> tuple[list[Kept], list[str]]:
    """The checkpoints and best.h5, and what is wrong with those that cannot be read."""
    found, damaged = list[Kept](), list[str]()
    for path in [*directory.checkpoints(), *([directory.best] if directory.best.exists() else [])]:
        beat()
        try:
            state = patiently(lambda path=path: checkpoint.read(path), beat)  # type: ignore[misc]
        except UnreadError:
            raise
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        rest = replace(state, vector=state.vector[:0].copy(), optimizer={})
        optimizer = "" if path == directory.best else of_optimizer(state.optimizer)
        found.append(Kept(path, state.progress.step, digest(state.parameters), optimizer, rest))
    return found, damaged


def in_manner(claims: Claims, manner: tuple[str, str]) -> Config:
    """The configuration of the lines with this horizon and engine.

    The threads are those of the run only if the bits depend on them.
    """
    (horizon, engine), config = manner, claims.config
    threads = config.threads if engine == "numpy" else 0
    return replace(config, engine=engine, threads=threads, epochs=int(horizon) if horizon else config.epochs)
